"""M2M-100, used as NLLB is, and SMaLL-100, whose source says the language of the target."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from dragoman.errors import InvalidOption
from dragoman.systems.base import Request
from dragoman.systems.nllb import NllbSystem
from dragoman.text.tokenizers import M2m100Tokenizer


class M2m100System(NllbSystem):
    """`[source language] sentence </s>` in, `[target language] translation </s>` out."""

    @classmethod
    def open_tokenizer(cls, folder: Path) -> M2m100Tokenizer:
        return M2m100Tokenizer.from_folder(folder)


class Small100System(M2m100System):
    """`[target language] sentence </s>` in, `translation </s>` out."""

    def restrict(self, size: int | None, texts: Mapping[str, Sequence[str]] | None) -> None:
        raise InvalidOption(
            "SMaLL-100 has no target-language vocabulary, as no token of its output names the language; "
            "leave it out"
        )

    def encode(self, requests: list[Request]) -> list[list[int]]:
        texts = [request.text for request in requests]
        return self.tokenizer.encode_batch(texts, [request.target.nllb for request in requests])

    def prompt(self, request: Request) -> tuple[int, ...]:
        return (self.tokenizer.eos_id,)
