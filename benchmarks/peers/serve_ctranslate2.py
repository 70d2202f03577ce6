"""CTranslate2 as LibreTranslate has it: each sentence by itself, with beam 4, all threads inside it."""

import json
import os
import sys
from pathlib import Path
from typing import Any

import ctranslate2

from benchmarks.peers.http import serve


def main() -> None:
    folder = sys.argv[1]
    threads = os.cpu_count() or 1
    translator = ctranslate2.Translator(
        folder, device="cpu", compute_type="float32", inter_threads=1, intra_threads=threads
    )
    tokens = json.loads((Path(folder) / "shared_vocabulary.json").read_text(encoding="utf-8"))

    def answer(asked: dict[str, Any]) -> dict[str, Any]:
        """rows: ids of sentences; lengths: how many tokens are written for each."""
        written = []
        for row, length in zip(asked["rows"], asked["lengths"], strict=True):
            (result,) = translator.translate_batch(
                [[tokens[token] for token in row]],
                beam_size=4,
                min_decoding_length=length,
                max_decoding_length=length,
            )
            written.append(result.hypotheses[0])
        return {"written": written}

    serve(answer)


if __name__ == "__main__":
    main()
