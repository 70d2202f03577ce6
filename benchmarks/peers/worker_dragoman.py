"""Dragoman as an engine, in the environment the benchmark runs in."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.peers.protocol import serve, timed
from dragoman.checkpoints.llama import load_xalma
from dragoman.checkpoints.nllb import load_nllb
from dragoman.generation.options import GenerationOptions
from dragoman.generation.search import Hypothesis, complete, generate
from dragoman.kernels.threads import set_threads
from dragoman.models.config import read_config
from dragoman.models.llama import Llama
from dragoman.models.nllb import Nllb
from dragoman.models.prompt import Prompt
from dragoman.native.llama import NativeLlama
from dragoman.native.nllb import NativeNllb
from dragoman.surgery.packing import pack_
from dragoman.text.tokenizers import NllbTokenizer

EOS = 2
PLAIN = "plain"


def load(
    folder: Path, precision: str, vocabulary: list[int] | None, threads: int
) -> Nllb | Llama | NativeNllb | NativeLlama:
    """The model in `folder`, ready for `generate` or `complete`.

    precision: that of the kernels, or "plain" for torch's modules in float32; vocabulary: the ids
    that may be written, None for all.
    """
    torch.set_num_threads(threads)
    set_threads(threads)
    llama = read_config(folder)["model_type"] in ("llama", "xalma")
    dtype = torch.float32 if precision == PLAIN else None
    model = load_xalma(folder, groups=(), dtype=dtype) if llama else load_nllb(folder, dtype)
    if precision == PLAIN:
        return model
    pack_(model, precision)
    native: type[Any] = NativeLlama if llama else NativeNllb
    if not native.supports(model):
        raise ValueError(f"there are no kernels for {folder} in {precision} on this machine")
    runner = native.of(model)
    if vocabulary is not None:
        runner.heads.restrict(Given(vocabulary))
    return runner


class Given:
    """One vocabulary for all languages; sources bring their own tokens along."""

    def __init__(self, ids: list[int]) -> None:
        self.ids = ids

    def tokens(self, language: int) -> list[int]:
        return self.ids

    def source(self, tokens: Sequence[int]) -> Sequence[int]:
        return tokens


def load_translator(folder: Path, precision: str) -> Any:
    """What a user of the library has, for texts."""
    from dragoman.translation.translator import Translator  # the rest of the product, which ids don't need

    return Translator.load(folder, device="cpu", precision=precision)


class Dragoman:
    """The model beneath `Translator` for ids, and `Translator` itself for texts."""

    def load(
        self, folder: str, precision: str, threads: int, vocabulary: list[int] | None = None
    ) -> dict[str, Any]:
        self.folder, self.precision = Path(folder), precision
        self.model = load(self.folder, precision, vocabulary, threads)
        return {}

    def run(
        self,
        sources: list[list[int]],
        new_tokens: int,
        beams: int,
        prompt: list[int] | None = None,
        ids: bool = False,
    ) -> dict[str, Any]:
        options = GenerationOptions(beams=beams, suppress=(EOS,), max_new_tokens=new_tokens)
        tokens, keep = self._pad(sources)

        def work() -> list[list[Hypothesis]]:
            if isinstance(self.model, (Llama, NativeLlama)):
                return complete(self.model, tokens, keep, options)
            assert prompt is not None
            return generate(self.model, tokens, keep, np.array([prompt] * len(sources)), options)

        seconds, results = timed(work)
        written = [list(found[0].tokens) for found in results]
        return {"seconds": seconds, "tokens": sum(map(len, written))} | ({"ids": written} if ids else {})

    def encode(self, sources: list[list[int]]) -> dict[str, Any]:
        if isinstance(self.model, (Llama, NativeLlama)):
            raise ValueError("a decoder alone has nothing to encode with")
        tokens, keep = self._pad(sources)
        seconds, _ = timed(lambda: self.model.begin(Prompt(tokens, keep)))
        return {"seconds": seconds, "tokens": sum(map(len, sources))}

    def translate(self, lines: list[str], source: str, target: str, beams: int, batch: int) -> dict[str, Any]:
        if not hasattr(self, "translator"):
            self.translator = load_translator(self.folder, self.precision)
            self.tokenizer = NllbTokenizer.from_folder(self.folder)
        seconds, translated = timed(
            lambda: self.translator.translate(lines, source, target, beams=beams, batch_size=batch)
        )
        count = sum(len(pieces) + 2 for pieces in self.tokenizer.encode_pieces(translated))
        return {"seconds": seconds, "tokens": count, "lines": translated}

    def _pad(self, sources: list[list[int]]) -> tuple[np.ndarray, np.ndarray]:
        """Ids and mask [sources, time], padded where the family expects it."""
        left = isinstance(self.model, (Llama, NativeLlama))
        longest = max(map(len, sources))
        rows, masks = [], []
        for row in sources:
            fill, real = longest - len(row), [True] * len(row)
            empty = [False] * fill
            rows.append([1] * fill + row if left else row + [1] * fill)
            masks.append(empty + real if left else real + empty)
        return np.array(rows), np.array(masks)


if __name__ == "__main__":
    serve(Dragoman())
