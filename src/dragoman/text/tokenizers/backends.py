"""The two libraries that cut text into pieces, behind one face: NLLB ids in both cases, and the same.

Each library is imported when its file is opened, not before.
"""

import base64
import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from dragoman.errors import CheckpointError
from dragoman.text.tokenizers.added import (
    JSON_NAME,
    AddedToken,
    added_tokens,
    listed_in,
    named_in,
    save_listed,
)
from dragoman.text.tokenizers.charsmap import Charsmap
from dragoman.text.tokenizers.layout import MASK, SPECIALS, UNK, NllbLayout
from dragoman.text.tokenizers.libraries import cut_sentencepiece, open_sentencepiece, reading_json

if TYPE_CHECKING:
    from tokenizers import Tokenizer

SPM_NAME = "sentencepiece.bpe.model"
BYTE_PIECES = tuple(f"<0x{byte:02X}>" for byte in range(256))
"""How the pieces of bytes are spelled."""


class Backend(Protocol):
    """Cuts text into pieces; finds neither special tokens nor languages in it."""

    layout: NllbLayout
    added: dict[int, AddedToken]
    """What was added to the published tokens, by id."""

    def piece_id(self, name: str) -> int | None:
        """The id of a piece as it is spelled; None if there is none."""

    def encode(self, texts: list[str]) -> list[list[int]]:
        """The ids of the pieces of each text: 4 .. V, and `<unk>`; never another special token."""

    def pieces(self) -> list[str]:
        """The pieces with the ids 4 .. V."""

    def bytes_by_id(self) -> dict[int, int]:
        """The pieces that stand for a byte of what has no piece of its own; none as published."""

    def save(self, folder: Path) -> None:
        """Write the file that this was read from into an existing folder."""


class SentencePieceBackend:
    """Reads `sentencepiece.bpe.model`."""

    def __init__(self, path: str | Path, folder: Path | None = None) -> None:
        """folder: where other files list what was added to the model at `path`."""
        self._processor = open_sentencepiece(path)
        self._check(path)
        listed = {} if folder is None else listed_in(folder)
        named = [] if folder is None else named_in(folder)
        vocabulary = self._processor.get_piece_size()
        self.layout, self.added = added_tokens(vocabulary, listed, named, self.piece_id, folder)

    def piece_id(self, name: str) -> int | None:
        found: int = self._processor.piece_to_id(name)
        return found + 1 if found >= UNK else None

    def encode(self, texts: list[str]) -> list[list[int]]:
        rows = cut_sentencepiece(self._processor, texts, int)
        # The file has <unk>, <s>, </s> at 0, 1, 2; of these only <unk> can come out of text.
        return [[i + 1 if i else UNK for i in row] for row in rows]

    def pieces(self) -> list[str]:
        return list(self._processor.id_to_piece(list(range(UNK, self.layout.vocabulary))))

    def bytes_by_id(self) -> dict[int, int]:
        spm = self._processor
        places = ((spm.piece_to_id(name), byte) for byte, name in enumerate(BYTE_PIECES))
        return {place + 1: byte for place, byte in places if spm.is_byte(place)}

    def save(self, folder: Path) -> None:
        (folder / SPM_NAME).write_bytes(self._processor.serialized_model_proto())
        if self.added:
            save_listed(folder, self.added)

    def _check(self, path: str | Path) -> None:
        spm = self._processor
        found = (spm.unk_id(), spm.bos_id(), spm.eos_id(), spm.pad_id())
        if found != (0, 1, 2, -1):
            raise CheckpointError(
                f"{path} has <unk>, <s>, </s> and padding at the ids {found}; NLLB's layout "
                "needs 0, 1, 2 and no padding (-1). Train it with unk_id=0, bos_id=1, eos_id=2, pad_id=-1"
            )


class TokenizersBackend:
    """Reads `tokenizer.json`: its pieces and merges, and of its normaliser the character rules.

    Its special tokens are left out, so that none of them can come out of text, and so is its
    post-processor.
    """

    def __init__(
        self, path: str | Path, opened: "Tokenizer | None" = None, named: Iterable[str] = ()
    ) -> None:
        """Read the file at `path`; `opened` is what it holds, from callers who have it already.

        named: special tokens that other files list without an id.
        """
        from tokenizers import Tokenizer, pre_tokenizers

        self._whole = open_tokenizer_json(path) if opened is None else opened
        self.layout, self._pieces, self.added = _read_ids(self._whole, named, path)
        self._cutter = Tokenizer(self._whole.model)  # shares the vocabulary, doesn't copy it
        self._cutter.pre_tokenizer = pre_tokenizers.Metaspace("▁", prepend_scheme="always", split=True)
        self.charsmap: Charsmap | None = None
        """What to do to characters before all else; without it the file's own normaliser does it."""
        if self._whole.normalizer is not None:
            spec = json.loads(self._whole.normalizer.__getstate__())
            try:
                self.charsmap = _charsmap(spec)
            except ValueError as error:
                raise CheckpointError(f"{path} has a broken precompiled_charsmap: {error}") from None
            if self.charsmap is None:
                self._cutter.normalizer = self._whole.normalizer
        self._check_injection(path)

    def encode(self, texts: list[str]) -> list[list[int]]:
        tidied = [tidy(text, self.charsmap) for text in texts]
        encodings = self._cutter.encode_batch_fast(tidied, add_special_tokens=False)
        return [encoding.ids for encoding in encodings]

    def pieces(self) -> list[str]:
        return self._pieces

    def bytes_by_id(self) -> dict[int, int]:
        if not getattr(self._whole.model, "byte_fallback", False):
            return {}
        places = ((self.piece_id(name), byte) for byte, name in enumerate(BYTE_PIECES))
        return {place: byte for place, byte in places if place is not None}

    def piece_id(self, name: str) -> int | None:
        found = self._cutter.token_to_id(name)
        return found if found is not None and self.layout.is_piece(found) else None

    def save(self, folder: Path) -> None:
        self._whole.save(str(folder / JSON_NAME))

    def _check_injection(self, path: str | Path) -> None:
        """A vocabulary may still join pieces to a special token; such a file is not safe to use."""
        names = [*SPECIALS, MASK, *self.layout.languages]
        for name, row in zip(names * 2, self.encode(names + ["x" + name for name in names]), strict=True):
            if not all(i == UNK or self.layout.is_piece(i) for i in row):
                raise CheckpointError(
                    f"{path} turns the text {name!r} into a special token; "
                    f"remove it from the merges, or use {SPM_NAME} instead"
                )


def open_tokenizer_json(path: str | Path) -> "Tokenizer":
    """A file of the `tokenizers` library; CheckpointError if it is none."""
    from tokenizers import Tokenizer

    with reading_json(path):
        return Tokenizer.from_file(str(path))


def tidy(text: str, charsmap: Charsmap | None = None) -> str:
    """Text as it is cut: characters replaced, spaces single and none at either end.

    SentencePiece does the same; the files of older converters leave spaces at the ends.
    """
    if charsmap is not None:
        text = charsmap.normalize(text)
    return " ".join(filter(None, text.split(" ")))


def _read_ids(
    whole: "Tokenizer", named: Iterable[str], path: str | Path
) -> tuple[NllbLayout, list[str], dict[int, AddedToken]]:
    """The layout, the pieces and the added tokens of a tokenizer.json.

    It may leave out the languages, and then the mask may be anywhere. CheckpointError where its ids
    are not NLLB's.
    """
    published = {*SPECIALS, MASK, *NllbLayout(0).languages}
    listed = {i: AddedToken.of(token) for i, token in whole.get_added_tokens_decoder().items()}
    cut = whole.get_vocab(with_added_tokens=False)
    names = cut | {token.content: i for i, token in listed.items()}
    pieces = sorted((place, name) for name, place in cut.items() if name not in published)
    vocabulary = len(pieces) + len(SPECIALS) - 1
    _check_ids(names, NllbLayout(vocabulary), path)
    for expected, (place, name) in enumerate(pieces, start=len(SPECIALS)):
        if place != expected:
            raise CheckpointError(
                f"{path} gives {name!r} the id {place} and leaves out {expected}: NLLB's layout "
                "numbers the pieces without gaps, and what is added comes after the languages"
            )
    own = {i: token for i, token in listed.items() if token.content not in published or i > vocabulary}
    layout, added = added_tokens(vocabulary, own, named, cut.get, path)
    for place, token in listed.items():
        if token.content not in published and place not in added:
            raise CheckpointError(
                f"{path} gives the added token {token.content!r} the id {place}, which is a language's: "
                "add tokens to a tokenizer that has NLLB's languages"
            )
    return layout, [name for _, name in pieces], added


def _check_ids(names: dict[str, int], layout: NllbLayout, path: str | Path) -> None:
    """Special tokens, and the languages if there are any, have NLLB's ids; the mask comes after them."""
    wanted = {name: place for place, name in enumerate(SPECIALS)}
    present = {code: place for code, place in layout.languages.items() if code in names}
    if present and names.get(MASK, layout.first_free) < layout.first_free:
        present[MASK] = layout.mask
    for name, place in {**wanted, **present}.items():
        if names.get(name) != place:
            raise CheckpointError(
                f"{path} gives {name} the id {names.get(name)}, but in NLLB's layout with "
                f"{layout.vocabulary} pieces it has {place}; use {SPM_NAME} instead, or convert it anew"
            )


def _charsmap(spec: dict[str, Any]) -> Charsmap | None:
    """The character rules of a normaliser made of them and of tidying spaces; None if it has other parts."""
    parts = list(_flat(spec))
    rules = [part["precompiled_charsmap"] for part in parts if part["type"] == "Precompiled"]
    spaces = [part for part in parts if part["type"] == "Strip" or _is_space_rule(part)]
    if len(rules) != 1 or len(rules) + len(spaces) != len(parts):
        return None
    return Charsmap(base64.b64decode(rules[0]))


def _flat(spec: dict[str, Any]) -> Iterator[dict[str, Any]]:
    if spec["type"] == "Sequence":
        for part in spec["normalizers"]:
            yield from _flat(part)
    else:
        yield spec


def _is_space_rule(part: dict[str, Any]) -> bool:
    """Replace " {2,}" or " " by " " or "▁": the ways of converters to say that a run of spaces is one."""
    if part["type"] != "Replace":
        return False
    return set("".join(part["pattern"].values())) <= set(" {2,}") and part["content"] in (" ", "▁")
