"""One sentence with transformers, as a script of a few lines would do it: FOLDER SOURCE TARGET TEXT."""

import sys

import torch
from transformers import AutoModelForSeq2SeqLM

from benchmarks.peers.nllb_text import NllbText

folder, source, target, text = sys.argv[1:]
tokenizer = NllbText(folder)
model = AutoModelForSeq2SeqLM.from_pretrained(folder)
output = model.generate(
    torch.tensor(tokenizer.encode([text], source)),
    num_beams=4,
    max_new_tokens=256,
    forced_bos_token_id=tokenizer.languages[target],
)
print(tokenizer.decode(output.tolist())[0])
