"""transformers behind HTTP as its manual has it: `generate` for each request, beam 4."""

import os
import sys
from typing import Any

import torch
from transformers import AutoModelForSeq2SeqLM

from benchmarks.peers.http import serve
from benchmarks.peers.nllb_text import NllbText


def main() -> None:
    folder = sys.argv[1]
    torch.set_num_threads(os.cpu_count() or 1)
    model = AutoModelForSeq2SeqLM.from_pretrained(folder, dtype=torch.float32).eval()
    text = NllbText(folder)

    def answer(asked: dict[str, Any]) -> dict[str, Any]:
        """text, source, target."""
        rows = torch.tensor(text.encode([asked["text"]], asked["source"]))
        output = model.generate(
            rows,
            attention_mask=torch.ones_like(rows),
            num_beams=4,
            do_sample=False,
            forced_bos_token_id=text.languages[asked["target"]],
        )
        return {"text": text.decode(output.tolist())[0]}

    serve(answer)


if __name__ == "__main__":
    main()
