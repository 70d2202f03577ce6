"""What NLLB's and M2M-100's tokenizers have in common: pieces, `</s>`, and a token for each language.

Special tokens and languages written in a text are text: they come from the languages asked for and
never from what a user wrote.
"""

from abc import ABC, abstractmethod
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol

from dragoman.errors import InvalidOption
from dragoman.languages import Language, find
from dragoman.text.tokenizers.characters import begins_character, encodable, valid_texts
from dragoman.text.tokenizers.ids import pad, valid_ids
from dragoman.text.tokenizers.layout import BOS, EOS, PAD, UNK


class Layout(Protocol):
    """Which id means what."""

    @property
    def vocabulary(self) -> int:
        """How many pieces there are, special ones among them."""

    @property
    def languages(self) -> Mapping[str, int]:
        """The id of each language by its NLLB code, in the order of the ids."""

    @property
    def taught(self) -> tuple[str, ...]:
        """The codes of languages that were added to the published ones."""

    @property
    def tokens(self) -> int:
        """How many ids have a token."""

    @property
    def needed(self) -> int:
        """How many rows the embedding must have."""

    @property
    def rows(self) -> int:
        """How many rows the embedding has as published."""

    @property
    def piece_ids(self) -> range:
        """The ids that stand for text."""

    def never_generated(self, rows: int) -> tuple[int, ...]:
        """Of a model's rows those that no translation may contain."""


class Cutter(Protocol):
    """Cuts text into pieces; finds neither special tokens nor languages in it."""

    def encode(self, texts: list[str]) -> list[list[int]]:
        """The ids of the pieces of each text, and `<unk>`; never another special token."""

    def save(self, folder: Path) -> None:
        """Write the files that this was read from into an existing folder."""


class MultilingualTokenizer(ABC):
    """Encodes sources as `[language] X </s>`, targets likewise, and decodes either.

    `src_lang` and `tgt_lang` are the defaults for sources and targets; any spelling that
    `dragoman.languages.find` knows will do, and reading them gives the NLLB code.
    """

    pad_id, bos_id, eos_id, unk_id = PAD, BOS, EOS, UNK

    layout: Layout
    _backend: Cutter

    def __init__(self, src_lang: str | None = None, tgt_lang: str | None = None) -> None:
        """A family sets `layout` and `_backend` first."""
        self.src_lang = src_lang
        self.tgt_lang = tgt_lang

    def save(self, folder: str | Path) -> None:
        """Write the files that this tokenizer was read from into `folder`, which then opens again."""
        Path(folder).mkdir(parents=True, exist_ok=True)
        self._backend.save(Path(folder))

    # Ids and names

    def __len__(self) -> int:
        """How many ids have a token. The embedding of a published model has a few rows more."""
        return self.layout.tokens

    @property
    def vocabulary(self) -> int:
        """The number of pieces, special ones among them: V in `layout`."""
        return self.layout.vocabulary

    @property
    def never_generated(self) -> tuple[int, ...]:
        """The ids without a text or language, which generation has to ban."""
        return self.layout.never_generated(self.layout.rows)

    @property
    def lang_code_to_id(self) -> Mapping[str, int]:
        """The id of each language by its NLLB code; `language_id` takes other spellings too."""
        return self.layout.languages

    def language_id(self, code: str) -> int:
        """The id of a language in any spelling; UnknownLanguage, never `<unk>`, if the model lacks it."""
        return self.layout.languages[self.code(code)]

    def code(self, language: str) -> str:
        """The NLLB code of a language in any spelling; UnknownLanguage as `language_id` raises it."""
        return language if language in self.layout.languages else find(language, self._among()).nllb

    @abstractmethod
    def _among(self) -> Collection[Language] | None:
        """Which languages a spelling may mean; None for all of the table."""

    @property
    def src_lang(self) -> str | None:
        """The NLLB code of sources when `encode` is given no language."""
        return self._src_lang

    @src_lang.setter
    def src_lang(self, code: str | None) -> None:
        self._src_lang = None if code is None else self.code(code)

    @property
    def tgt_lang(self) -> str | None:
        """The NLLB code of targets when `encode` is given no language."""
        return self._tgt_lang

    @tgt_lang.setter
    def tgt_lang(self, code: str | None) -> None:
        self._tgt_lang = None if code is None else self.code(code)

    @property
    def byte_ids(self) -> Collection[int]:
        """The pieces that stand for a byte of characters without a piece; none in published models."""
        return self._bytes.keys()

    def token_to_id(self, token: str) -> int | None:
        """The id of a piece, special token or language as they are spelled; None if there is none."""
        return self._ids.get(token)

    def id_to_token(self, token_id: int) -> str:
        return self.tokens([token_id])[0]

    def tokens(self, ids: Iterable[int]) -> list[str]:
        """The name of each id; InvalidText if one is outside the model's rows."""
        return [self._tokens[i] for i in self._valid(ids)]

    @cached_property
    @abstractmethod
    def _tokens(self) -> list[str]:
        """The names of all rows."""

    @cached_property
    def within_words(self) -> frozenset[int]:
        """The ids of pieces that go on with the word before them."""
        pieces = self.layout.piece_ids
        return frozenset(i for i in pieces if self._tokens[i][:1].isalpha())

    @cached_property
    def _ids(self) -> dict[str, int]:
        # Backwards: should a piece be spelled like a special token, the name is the special token's,
        # and the first of two equal pieces wins.
        return {token: i for i, token in reversed(list(enumerate(self._tokens)))}

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
        return self._backend.encode(texts)

    def pad(self, rows: Sequence[Sequence[int]]) -> tuple[list[list[int]], list[list[bool]]]:
        """Rows of equal length, filled up at the right, and which ids are real: [batch, time] each."""
        return pad(rows, PAD)

    def _frame(self, pieces: list[int], language: int) -> list[int]:
        return [language, *pieces, EOS]

    def _language(self, language: str | None, target: bool) -> int:
        name = "tgt_lang" if target else "src_lang"
        code: Any = language if language is not None else getattr(self, name)
        if code is None:
            raise InvalidOption(f"the text's language is not known: pass it, or set {name}")
        return self.language_id(code)

    # Ids to text

    def decode(self, ids: Iterable[int], skip_special: bool = True) -> str:
        """The text of some ids, without special tokens and languages unless they are wanted.

        `<unk>` is a special token too: it stands for characters that the model can't write.
        InvalidText if an id is outside the model's rows.
        """
        names = self._tokens
        kept = [i for i in self._valid(ids) if not skip_special or self._is_text(i)]
        if not self._bytes:
            return "".join(names[i] for i in kept).replace("▁", " ").lstrip(" ")
        return b"".join(self._as_bytes(names, kept)).decode("utf-8", "replace").lstrip(" ")

    def _as_bytes(self, names: Sequence[str], ids: Sequence[int]) -> Iterator[bytes]:
        """What the ids stand for in UTF-8; not the beginning of a character that ends the ids."""
        unfinished = b""
        for i in ids:
            byte = self._bytes.get(i)
            if byte is None:
                yield unfinished + names[i].replace("▁", " ").encode()
                unfinished = b""
                continue
            unfinished += bytes((byte,))
            if not begins_character(unfinished):
                yield unfinished
                unfinished = b""

    @cached_property
    def _bytes(self) -> Mapping[int, int]:
        """The ids that stand for a byte."""
        return {}

    def _is_text(self, token_id: int) -> bool:
        return token_id in self.layout.piece_ids

    def decode_batch(self, rows: Iterable[Iterable[int]], skip_special: bool = True) -> list[str]:
        return [self.decode(row, skip_special) for row in rows]
