"""Tokens that somebody added to a published tokenizer: where files list them, and where a text has them."""

import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from dragoman.errors import CheckpointError
from dragoman.languages import is_code, nllb_codes
from dragoman.text.tokenizers.layout import MASK, SPECIALS, NllbLayout, tail_of

CONFIG_NAME, JSON_NAME, OLD_NAME = "tokenizer_config.json", "tokenizer.json", "added_tokens.json"


@dataclass(frozen=True)
class AddedToken:
    """A token by its text, and how it is found in others' texts: the fields of the `tokenizers` library."""

    content: str
    special: bool = False
    """Whether decoding may leave it out."""
    normalized: bool = False
    """Whether it is looked for after the characters were normalised, and not before."""
    lstrip: bool = False
    rstrip: bool = False
    """Whether it takes the white space at its left or right with it."""
    single_word: bool = False

    @classmethod
    def of(cls, listed: object) -> "AddedToken":
        """From what a file lists or the library gives: an object with these fields, or the text alone."""
        if isinstance(listed, str):
            return cls(listed, special=True)
        known = [field.name for field in fields(cls)]
        if not isinstance(listed, Mapping):
            listed = {name: getattr(listed, name) for name in known}
        return cls(**{name: listed[name] for name in known if name in listed})

    @property
    def is_found_in_text(self) -> bool:
        """Language codes come from the languages asked for, and never from what a user wrote."""
        return not is_code(self.content) and self.content not in (*SPECIALS, MASK)

    @property
    def pattern(self) -> str:
        before, after = (r"\s*" if strips else "" for strips in (self.lstrip, self.rstrip))
        edges = (r"(?<!\w)", r"(?!\w)") if self.single_word else ("", "")
        return before + edges[0] + re.escape(self.content) + edges[1] + after


class Finder:
    """Finds added tokens in text: the leftmost first, and of several the longest."""

    def __init__(self, tokens: Mapping[int, AddedToken]) -> None:
        """tokens: by id; language codes among them are left alone."""
        wanted = {t.content: (place, t) for place, t in tokens.items() if t.is_found_in_text}
        ordered = sorted(wanted, key=len, reverse=True)
        self._ids = [wanted[content][0] for content in ordered]
        patterns = [f"({wanted[content][1].pattern})" for content in ordered]
        self._pattern = re.compile("|".join(patterns)) if patterns else None

    def __bool__(self) -> bool:
        return self._pattern is not None

    def split(self, text: str) -> Iterator[str | int]:
        """The text between the tokens, and their ids, in their order; no empty texts."""
        done = 0
        for match in self._pattern.finditer(text) if self._pattern else ():
            if text[done : match.start()]:
                yield text[done : match.start()]
            assert match.lastindex is not None
            yield self._ids[match.lastindex - 1]
            done = match.end()
        if text[done:]:
            yield text[done:]


def added_tokens(
    vocabulary: int,
    listed: Mapping[int, AddedToken],
    named: Iterable[str],
    piece_id: Callable[[str], int | None],
    where: object,
) -> tuple[NllbLayout, dict[int, AddedToken]]:
    """The layout that follows from what files list, and the added tokens by id.

    vocabulary: V in `layout`; listed, named: see `listed_in` and `named_in`. A token that is a piece too
    keeps the piece's id. CheckpointError if the ids leave gaps.
    """
    first = NllbLayout(vocabulary).first_free
    tail = tail_of({place: token.content for place, token in listed.items()}, first, where)
    known = {*SPECIALS, *nllb_codes(), *tail}
    new = (name for name in dict.fromkeys(named) if name not in known and piece_id(name) is None)
    layout = NllbLayout(vocabulary, (*tail, *new))
    spelled = {token.content: token for token in listed.values()}
    tokens = {
        first + place: spelled.get(name, AddedToken(name, special=True))
        for place, name in enumerate(layout.tail)
        if name != MASK
    }
    pieces = {i: t for i, t in listed.items() if layout.is_piece(i) and piece_id(t.content) == i}
    return layout, pieces | tokens


def listed_in(folder: Path) -> dict[int, AddedToken]:
    """The tokens that the files beside a SentencePiece model list with an id.

    CheckpointError for a damaged file.
    """
    if (folder / JSON_NAME).is_file():
        return {entry["id"]: AddedToken.of(entry) for entry in _head_of_json(folder / JSON_NAME)}
    config = _read(folder / CONFIG_NAME)
    decoder = config.get("added_tokens_decoder") or {}
    if decoder:
        return {int(place): AddedToken.of(entry) for place, entry in decoder.items()}
    return {place: AddedToken(name, special=True) for name, place in _read(folder / OLD_NAME).items()}


def named_in(folder: Path) -> list[str]:
    """The special tokens that tokenizer_config.json lists without an id."""
    config = _read(folder / CONFIG_NAME)
    listed = config.get("extra_special_tokens") or config.get("additional_special_tokens") or ()
    return [
        AddedToken.of(token).content for token in (listed.values() if isinstance(listed, dict) else listed)
    ]


def save_listed(folder: Path, tokens: Mapping[int, AddedToken]) -> None:
    """Write them where `listed_in` and transformers find them."""
    decoder = {str(place): asdict(token) for place, token in sorted(tokens.items())}
    config = {"added_tokens_decoder": decoder, "tokenizer_class": "NllbTokenizer"}
    (folder / CONFIG_NAME).write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")


def _head_of_json(path: Path) -> Iterable[Mapping[str, Any]]:
    """`added_tokens` of a tokenizer.json, which come before the vocabulary: 30 MB are not read for them."""
    text = ""
    with path.open(encoding="utf-8") as file:
        while block := file.read(1 << 16):
            text += block
            start = re.search(r'"added_tokens"\s*:\s*', text)
            if start is None and '"model"' not in text:
                continue
            if start is None:
                return []
            try:
                found: list[Mapping[str, Any]] = json.JSONDecoder().raw_decode(text, start.end())[0]
            except ValueError:
                continue  # more of it is to come
            return found
    raise CheckpointError(f"{path} is no tokenizer.json: its added_tokens have no end. Download it again")


def _read(path: Path) -> dict[str, Any]:
    if not path.is_file():
        return {}
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{path} can't be read: {error}") from None
    if not isinstance(data, dict):
        raise CheckpointError(f"{path} holds a {type(data).__name__}, not an object")
    return data
