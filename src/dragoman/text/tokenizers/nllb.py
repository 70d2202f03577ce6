"""NLLB's tokenizer: text to the ids of NLLB-200 and back, without torch or transformers.

NLLB's special tokens and language codes written in a text are text: they come from the languages
asked for and never from what a user wrote. Other tokens that somebody added are found in it.
"""

from collections.abc import Collection, Mapping
from functools import cached_property
from pathlib import Path

from dragoman.errors import CheckpointError
from dragoman.languages import Language, all_languages, nllb_codes, of_code
from dragoman.text.tokenizers.added import Finder, named_in
from dragoman.text.tokenizers.backends import (
    JSON_NAME,
    SPM_NAME,
    Backend,
    SentencePieceBackend,
    TokenizersBackend,
)
from dragoman.text.tokenizers.layout import EOS, MASK, SPECIALS, UNK, NllbLayout
from dragoman.text.tokenizers.multilingual import MultilingualTokenizer


class NllbTokenizer(MultilingualTokenizer):
    """Encodes sources as `[language] X </s>`, targets likewise, and decodes either.

    With `legacy` both are `X </s> [language]`, as the first published checkpoints were used.
    `src_lang` and `tgt_lang` are the defaults for sources and targets; any spelling that
    `dragoman.languages.find` knows will do, and reading them gives the NLLB code.
    """

    layout: NllbLayout
    _backend: Backend

    def __init__(
        self,
        backend: Backend,
        src_lang: str | None = None,
        tgt_lang: str | None = None,
        legacy: bool = False,
    ) -> None:
        self.layout = backend.layout
        self.legacy = legacy
        self._backend = backend
        self._finder = Finder(backend.added)
        super().__init__(src_lang, tgt_lang)

    @classmethod
    def from_folder(
        cls,
        folder: str | Path,
        src_lang: str | None = None,
        tgt_lang: str | None = None,
        legacy: bool = False,
    ) -> "NllbTokenizer":
        """Open the sentencepiece.bpe.model in `folder`, or else the tokenizer.json.

        Both give the same ids; of NLLB-200's, the first opens in 25 ms and the second in over a second.
        """
        folder = Path(folder)
        if (path := folder / SPM_NAME).is_file():
            return cls(SentencePieceBackend(path, folder), src_lang, tgt_lang, legacy)
        if (path := folder / JSON_NAME).is_file():
            return cls(TokenizersBackend(path, named=named_in(folder)), src_lang, tgt_lang, legacy)
        raise CheckpointError(f"{folder} has no tokenizer: neither {JSON_NAME} nor {SPM_NAME} is in it")

    @classmethod
    def from_sentencepiece(
        cls,
        path: str | Path,
        src_lang: str | None = None,
        tgt_lang: str | None = None,
        legacy: bool = False,
    ) -> "NllbTokenizer":
        """Open a SentencePiece model file."""
        return cls(SentencePieceBackend(path), src_lang, tgt_lang, legacy)

    @classmethod
    def from_tokenizer_json(
        cls,
        path: str | Path,
        src_lang: str | None = None,
        tgt_lang: str | None = None,
        legacy: bool = False,
    ) -> "NllbTokenizer":
        """Open a file of the `tokenizers` library; CheckpointError if its ids contradict NLLB's layout."""
        return cls(TokenizersBackend(path), src_lang, tgt_lang, legacy)

    @property
    def mask_id(self) -> int:
        return self.layout.mask

    def _among(self) -> Collection[Language] | None:
        taught = tuple(map(of_code, self.layout.taught))
        return (*all_languages(), *taught) if taught else None

    @cached_property
    def _tokens(self) -> list[str]:
        return [*SPECIALS, *self._backend.pieces(), *nllb_codes(), *self.layout.names]

    @cached_property
    def _ids(self) -> dict[str, int]:
        return {**super()._ids, **self.layout.languages, MASK: self.mask_id}

    @cached_property
    def _bytes(self) -> Mapping[int, int]:
        return self._backend.bytes_by_id()

    def _cut(self, texts: list[str]) -> list[list[int]]:
        return [self._around_added(text) for text in texts] if self._finder else self._backend.encode(texts)

    def _around_added(self, text: str) -> list[int]:
        """The ids of a text that may hold added tokens: what is between them is cut on its own."""
        ids: list[int] = []
        parts = list(self._finder.split(text.strip()))
        pieces = iter(self._backend.encode([part for part in parts if isinstance(part, str)]))
        for part in parts:
            if isinstance(part, int):
                ids.append(part)
                continue
            ids += next(pieces)
            if part[-1].isspace():  # such as the one in "Hello <formal>": a word of its own
                ids.append(self._backend.piece_id("▁") or UNK)
        return ids

    def _frame(self, pieces: list[int], language: int) -> list[int]:
        return [*pieces, EOS, language] if self.legacy else [language, *pieces, EOS]

    def _is_text(self, token_id: int) -> bool:
        added = self._backend.added
        return super()._is_text(token_id) or (token_id in added and not added[token_id].special)
