"""NLLB's tokenizer: text to the ids of NLLB-200 and back, without torch or transformers.

NLLB's special tokens and language codes written in a text are text: they come from the languages
asked for and never from what a user wrote. Other tokens that somebody added are found in it.
"""

from collections.abc import Iterable, Sequence
from functools import cached_property
from pathlib import Path

from dragoman.errors import CheckpointError, InvalidOption
from dragoman.languages import all_languages, find, nllb_codes, of_code
from dragoman.text.tokenizers.added import Finder, named_in
from dragoman.text.tokenizers.backends import (
    JSON_NAME,
    SPM_NAME,
    Backend,
    SentencePieceBackend,
    TokenizersBackend,
)
from dragoman.text.tokenizers.characters import encodable, valid_texts
from dragoman.text.tokenizers.ids import pad, valid_ids
from dragoman.text.tokenizers.layout import BOS, EOS, MASK, PAD, SPECIALS, UNK


class NllbTokenizer:
    """Encodes sources as `[language] X </s>`, targets likewise, and decodes either.

    With `legacy` both are `X </s> [language]`, as the first published checkpoints were used.
    `src_lang` and `tgt_lang` are the defaults for sources and targets; any spelling that
    `dragoman.languages.find` knows will do, and reading them gives the NLLB code.
    """

    pad_id, bos_id, eos_id, unk_id = PAD, BOS, EOS, UNK

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
        self.src_lang = src_lang
        self.tgt_lang = tgt_lang

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

    def save(self, folder: str | Path) -> None:
        """Write the file that this tokenizer was read from into `folder`, which then opens again."""
        Path(folder).mkdir(parents=True, exist_ok=True)
        self._backend.save(Path(folder))

    # Ids and names

    def __len__(self) -> int:
        """How many ids have a token. The embedding of a published model has two rows more."""
        return self.layout.tokens

    @property
    def vocabulary(self) -> int:
        """The number of pieces of the SentencePiece model, V in `layout`."""
        return self.layout.vocabulary

    @property
    def mask_id(self) -> int:
        return self.layout.mask

    @property
    def never_generated(self) -> tuple[int, ...]:
        """The ids without a text or language, which generation has to ban."""
        return self.layout.never_generated(self.layout.rows)

    @property
    def lang_code_to_id(self) -> dict[str, int]:
        """The id of each NLLB code and of those added; `language_id` takes other spellings too."""
        return self.layout.languages

    def language_id(self, code: str) -> int:
        """The id of a language in any spelling; UnknownLanguage, never `<unk>`, if NLLB hasn't got it."""
        return self.layout.languages[self._code(code)]

    def _code(self, language: str) -> str:
        if language in self.layout.languages:
            return language
        taught = tuple(map(of_code, self.layout.taught))
        return find(language, (*all_languages(), *taught) if taught else None).nllb

    @property
    def src_lang(self) -> str | None:
        """The NLLB code of sources when `encode` is given no language."""
        return self._src_lang

    @src_lang.setter
    def src_lang(self, code: str | None) -> None:
        self._src_lang = None if code is None else self._code(code)

    @property
    def tgt_lang(self) -> str | None:
        """The NLLB code of targets when `encode` is given no language."""
        return self._tgt_lang

    @tgt_lang.setter
    def tgt_lang(self, code: str | None) -> None:
        self._tgt_lang = None if code is None else self._code(code)

    def token_to_id(self, token: str) -> int | None:
        """The id of a piece, special token or NLLB code as they are spelled; None if there is none."""
        return self._ids.get(token)

    def id_to_token(self, token_id: int) -> str:
        return self.tokens([token_id])[0]

    def tokens(self, ids: Iterable[int]) -> list[str]:
        """The name of each id; InvalidText if one is outside the model's rows."""
        return [self._tokens[i] for i in self._valid(ids)]

    @cached_property
    def _tokens(self) -> list[str]:
        return [*SPECIALS, *self._backend.pieces(), *nllb_codes(), *self.layout.names]

    @cached_property
    def _ids(self) -> dict[str, int]:
        # Backwards: should a piece be spelled like a special token, the name is the special token's,
        # and the first of two equal pieces wins.
        ids = {token: i for i, token in reversed(list(enumerate(self._tokens)))}
        return {**ids, **self.layout.languages, MASK: self.mask_id}

    def _valid(self, ids: Iterable[int]) -> list[int]:
        return valid_ids(ids, self.layout.rows)

    # Text to ids

    def encode(self, text: str, language: str | None = None, target: bool = False) -> list[int]:
        """The ids of one text with its language and `</s>`.

        Without `language` it is in `src_lang`, or in `tgt_lang` if `target`.
        """
        tag = self._language(language, target)
        return self._frame(self._cut([encodable(text)])[0], tag)

    def encode_batch(
        self, texts: Sequence[str], languages: str | Sequence[str] | None = None, target: bool = False
    ) -> list[list[int]]:
        """As `encode`, for many texts in one language or in one for each."""
        rows = self.encode_pieces(texts)
        if languages is None or isinstance(languages, str):
            tags = [self._language(languages, target)] * len(rows)
        elif len(languages) == len(rows):
            tags = [self.language_id(language) for language in languages]
        else:
            raise InvalidOption(
                f"{len(rows)} texts came with {len(languages)} languages; give one, or one each"
            )
        return [self._frame(row, tag) for row, tag in zip(rows, tags, strict=True)]

    def encode_pieces(self, texts: Sequence[str]) -> list[list[int]]:
        """The ids of the pieces of each text, without language and `</s>`; none for an empty text."""
        return self._cut([encodable(text) for text in valid_texts(texts)])

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

    def pad(self, rows: Sequence[Sequence[int]]) -> tuple[list[list[int]], list[list[bool]]]:
        """Rows of equal length, filled up at the right, and which ids are real: [batch, time] each."""
        return pad(rows, PAD)

    def _frame(self, pieces: list[int], language: int) -> list[int]:
        return [*pieces, EOS, language] if self.legacy else [language, *pieces, EOS]

    def _language(self, language: str | None, target: bool) -> int:
        name = "tgt_lang" if target else "src_lang"
        code = language if language is not None else getattr(self, name)
        if code is None:
            raise InvalidOption(f"the text's language is not known: pass it, or set {name}")
        return self.language_id(code)

    # Ids to text

    def decode(self, ids: Iterable[int], skip_special: bool = True) -> str:
        """The text of some ids, without special tokens and languages unless they are wanted.

        `<unk>` is a special token too: it stands for characters that the model can't write.
        InvalidText if an id is outside the model's rows.
        """
        tokens, is_piece, added = self._tokens, self.layout.is_piece, self._backend.added
        kept = (
            tokens[i]
            for i in self._valid(ids)
            if not skip_special or is_piece(i) or (i in added and not added[i].special)
        )
        return "".join(kept).replace("▁", " ").lstrip(" ")

    def decode_batch(self, rows: Iterable[Iterable[int]], skip_special: bool = True) -> list[str]:
        return [self.decode(row, skip_special) for row in rows]
