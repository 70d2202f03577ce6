"""transformers as an engine. 4.57.6 is the last release that runs NLLB-MoE rightly."""

from pathlib import Path
from typing import Any

import torch
from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForSeq2SeqLM

from benchmarks.peers.nllb_text import PAD, NllbText
from benchmarks.peers.protocol import serve, timed

DTYPES = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}


class Transformers:
    """`generate` of the library's own classes, as a reader of its manual would call it."""

    def load(
        self, folder: str, precision: str, threads: int, vocabulary: list[int] | None = None
    ) -> dict[str, Any]:
        """int8 is torch's dynamic quantisation of all linear layers."""
        if vocabulary is not None:
            raise ValueError("transformers can't cut the vocabulary")
        torch.set_num_threads(threads)
        self.folder = Path(folder)
        self.seq2seq = bool(AutoConfig.from_pretrained(folder).is_encoder_decoder)
        family = AutoModelForSeq2SeqLM if self.seq2seq else AutoModelForCausalLM
        dtype = torch.float32 if precision == "int8" else DTYPES[precision]
        self.model = family.from_pretrained(folder, dtype=dtype).eval()
        if precision == "int8":
            self.model = torch.ao.quantization.quantize_dynamic(self.model, {torch.nn.Linear})
        return {}

    def run(
        self,
        sources: list[list[int]],
        new_tokens: int,
        beams: int,
        prompt: list[int] | None = None,
        ids: bool = False,
    ) -> dict[str, Any]:
        options: dict[str, Any] = {"num_beams": beams, "do_sample": False}
        options |= {"min_new_tokens": new_tokens, "max_new_tokens": new_tokens}
        if self.seq2seq:
            assert prompt is not None
            options |= {"decoder_start_token_id": prompt[0], "forced_bos_token_id": prompt[1]}
        else:
            options["pad_token_id"] = 0
        tokens, mask = self._pad(sources)
        seconds, output = timed(lambda: self.model.generate(tokens, attention_mask=mask, **options))
        written = output[:, 1:] if self.seq2seq else output[:, tokens.shape[1] :]
        return {"seconds": seconds, "tokens": written.numel()} | ({"ids": written.tolist()} if ids else {})

    @torch.inference_mode()
    def encode(self, sources: list[list[int]]) -> dict[str, Any]:
        if not self.seq2seq:
            raise ValueError("a decoder alone has nothing to encode with")
        tokens, mask = self._pad(sources)
        seconds, _ = timed(lambda: self.model.get_encoder()(tokens, attention_mask=mask))
        return {"seconds": seconds, "tokens": sum(map(len, sources))}

    def translate(
        self, lines: list[str], source: str, target: str, beams: int, batch: int, max_new_tokens: int = 256
    ) -> dict[str, Any]:
        """Sorted by length, from text to text. source, target: NLLB codes."""
        if not hasattr(self, "text"):
            self.text = NllbText(self.folder)
        seconds, (translated, count) = timed(
            lambda: self._translate(lines, source, target, beams, batch, max_new_tokens)
        )
        return {"seconds": seconds, "tokens": count, "lines": translated}

    def _translate(
        self, lines: list[str], source: str, target: str, beams: int, batch: int, most: int
    ) -> tuple[list[str], int]:
        """The translations, and how many tokens they have with language and `</s>`."""
        rows = self.text.encode(lines, source)
        order = sorted(range(len(rows)), key=lambda i: -len(rows[i]))
        translated, count = [""] * len(rows), 0
        for start in range(0, len(order), batch):
            picks = order[start : start + batch]
            tokens, mask = self._pad([rows[i] for i in picks])
            output = self.model.generate(
                tokens,
                attention_mask=mask,
                num_beams=beams,
                do_sample=False,
                max_new_tokens=most,
                forced_bos_token_id=self.text.languages[target],
            )
            count += int((output != PAD).sum()) - len(picks)
            for i, text in zip(picks, self.text.decode(output.tolist()), strict=True):
                translated[i] = text
        return translated, count

    def _pad(self, sources: list[list[int]]) -> tuple[torch.Tensor, torch.Tensor]:
        """Ids and mask [sources, time], padded where the family expects it."""
        longest = max(map(len, sources))
        pad = PAD if self.seq2seq else 0
        rows, masks = [], []
        for row in sources:
            fill = longest - len(row)
            before, after = (0, fill) if self.seq2seq else (fill, 0)
            rows.append([pad] * before + row + [pad] * after)
            masks.append([0] * before + [1] * len(row) + [0] * after)
        return torch.tensor(rows), torch.tensor(masks)


if __name__ == "__main__":
    serve(Transformers())
