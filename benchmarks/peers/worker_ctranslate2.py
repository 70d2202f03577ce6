"""CTranslate2 as an engine, for dense NLLB. Reads what `convert_ctranslate2` wrote."""

import json
from pathlib import Path
from typing import Any

import ctranslate2

from benchmarks.peers.protocol import serve, timed

COMPUTE = {"fp32": "float32", "int8": "int8"}


class CTranslate2:
    """One `Translator` with all threads inside one batch."""

    def load(
        self, folder: str, precision: str, threads: int, vocabulary: list[int] | None = None
    ) -> dict[str, Any]:
        if vocabulary is not None:
            raise ValueError("cutting the vocabulary needs a vmap file, which this converter doesn't write")
        self.translator = ctranslate2.Translator(
            folder, device="cpu", compute_type=COMPUTE[precision], inter_threads=1, intra_threads=threads
        )
        self.tokens = json.loads((Path(folder) / "shared_vocabulary.json").read_text(encoding="utf-8"))
        self.ids = {token: index for index, token in enumerate(self.tokens)}
        return {"compute_type": self.translator.compute_type}

    def run(
        self,
        sources: list[list[int]],
        new_tokens: int,
        beams: int,
        prompt: list[int] | None = None,
        ids: bool = False,
    ) -> dict[str, Any]:
        assert prompt is not None
        # `</s>`, which the prompt starts with, is put there by the engine.
        prefix = [[self.tokens[token] for token in prompt[1:]]] * len(sources)
        texts = [[self.tokens[token] for token in row] for row in sources]
        seconds, results = timed(
            lambda: self.translator.translate_batch(
                texts,
                target_prefix=prefix,
                beam_size=beams,
                min_decoding_length=new_tokens,
                max_decoding_length=new_tokens,
                max_batch_size=0,
            )
        )
        written = [[self.ids[token] for token in result.hypotheses[0]] for result in results]
        return {"seconds": seconds, "tokens": sum(map(len, written))} | ({"ids": written} if ids else {})


if __name__ == "__main__":
    serve(CTranslate2())
