"""A tokenizer with fewer pieces: text that needs none of the others is cut as before, all else is spelled.

Byte pair encoding joins neighbours step by step, so a piece is reached only by way of smaller ones, which
stay with it. Ids follow each other again: special tokens, the pieces that are left in their order, and
behind them languages and whatever else there was.
"""

import json
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from pathlib import Path
from typing import Any

from dragoman.errors import CheckpointError
from dragoman.files import read_json
from dragoman.text.tokenizers.added import CONFIG_NAME, JSON_NAME, OLD_NAME
from dragoman.text.tokenizers.backends import SPM_NAME
from dragoman.text.tokenizers.m2m100 import VOCABULARY_NAME
from dragoman.text.tokenizers.multilingual import MultilingualTokenizer
from dragoman.text.tokenizers.spm_file import NORMAL, SpmFile, without_pieces

GENERATION = "generation_config.json"
SPACE = "▁"
_IDS = ("_token_id", "_token_ids", "suppress_tokens", "bad_words_ids")
"""How settings end that hold ids."""
_Rank = Callable[[str, str], float | None]
"""What joins two neighbours, the lowest first; None if nothing does."""


@dataclass(frozen=True)
class Renumbering:
    """Which id an old one becomes."""

    kept: tuple[int, ...]
    """The pieces that stay, ascending."""
    pieces: range
    """All ids that stood for text."""

    def __call__(self, old: int) -> int | None:
        """None for a piece that is gone."""
        if old in self.pieces:
            return self._places.get(old)
        return old if old < self.pieces.start else old - len(self.pieces) + len(self.kept)

    @cached_property
    def _places(self) -> dict[int, int]:
        return {old: new for new, old in enumerate(self.kept, self.pieces.start)}

    def rows(self, count: int) -> tuple[int, ...]:
        """Of `count` rows of an embedding those that stay."""
        return (*range(self.pieces.start), *self.kept, *range(self.pieces.stop, count))

    def settings(self, given: Mapping[str, Any]) -> dict[str, Any]:
        """A config's `…_token_id` and the like as they are now; left out where a token is gone."""

        def changed(value: Any) -> Any:
            if isinstance(value, list):
                found = [changed(each) for each in value]
                return None if None in found else found
            return self(value) if isinstance(value, int) and not isinstance(value, bool) else value

        renewed = {name: changed(value) if name.endswith(_IDS) else value for name, value in given.items()}
        return {name: value for name, value in renewed.items() if value is not None or given[name] is None}


@dataclass(frozen=True)
class CutTokenizer:
    """What is left of a tokenizer."""

    ids: Renumbering
    files: Mapping[str, bytes]
    """What takes the place of the tokenizer's files, by name."""


def cut_tokenizer(tokenizer: MultilingualTokenizer, folder: Path, kept: Iterable[int]) -> CutTokenizer:
    """The tokenizer in `folder` with the pieces `kept`, those that they are made of, and all characters.

    So what could be spelled still can be. CheckpointError if its files can't be read.
    """
    pieces, rank = tokenizer.layout.piece_ids, _rank_of(folder)
    spelled = tokenizer.tokens(pieces)
    wanted = {spelled[i - pieces.start] for i in (*kept, *tokenizer.byte_ids) if i in pieces}
    wanted.update(name for name in spelled if len(name.replace(SPACE, "")) <= 1)
    names = wanted.union(*(_made_of(name, rank) for name in wanted))
    left = tuple(i for i, name in zip(pieces, spelled, strict=True) if name in names)
    ids = Renumbering(left, pieces)
    return CutTokenizer(ids, _cut_files(folder, names, set(spelled) - names, ids))


def _cut_files(
    folder: Path, names: Collection[str], gone: Collection[str], ids: Renumbering
) -> dict[str, bytes]:
    made: dict[str, bytes] = {}
    if (path := folder / SPM_NAME).is_file():
        made[SPM_NAME] = without_pieces(path, gone)
    if (path := folder / VOCABULARY_NAME).is_file():
        made[VOCABULARY_NAME] = _dumped(_renamed(read_json(path, CheckpointError), ids))
    if (path := folder / JSON_NAME).is_file():
        made[JSON_NAME] = _dumped(_cut_json(read_json(path, CheckpointError), names, ids))
    if (path := folder / OLD_NAME).is_file():
        made[OLD_NAME] = _dumped(_renamed(read_json(path, CheckpointError), ids))
    if (path := folder / CONFIG_NAME).is_file():
        config = read_json(path, CheckpointError)
        if decoder := config.get("added_tokens_decoder"):
            found = {ids(int(place)): entry for place, entry in decoder.items()}
            config["added_tokens_decoder"] = {
                str(place): entry for place, entry in found.items() if place is not None
            }
        made[CONFIG_NAME] = _dumped(config)
    if (path := folder / GENERATION).is_file():
        made[GENERATION] = _dumped(ids.settings(read_json(path, CheckpointError)))
    return made


def _renamed(vocabulary: Mapping[str, int], ids: Renumbering) -> dict[str, int]:
    found = {name: ids(place) for name, place in vocabulary.items()}
    return {name: place for name, place in found.items() if place is not None}


def _cut_json(data: dict[str, Any], names: Collection[str], ids: Renumbering) -> dict[str, Any]:
    """A tokenizer.json with some of its pieces, and the merges that lead to them."""
    model = data["model"]
    joined = (merge if isinstance(merge, list) else merge.split(" ", 1) for merge in model["merges"])
    kept = [pair for pair in joined if all(name in names for name in (*pair, "".join(pair)))]
    model.update(vocab=_renamed(model["vocab"], ids), merges=kept)
    for token in data.get("added_tokens") or ():
        token["id"] = ids(token["id"])
    data["added_tokens"] = [each for each in data.get("added_tokens") or () if each["id"] is not None]
    for token in ((data.get("post_processor") or {}).get("special_tokens") or {}).values():
        token["ids"] = [ids(place) for place in token["ids"]]
    return data


# ---- what pieces are made of ----------------------------------------------------------------------------


def _rank_of(folder: Path) -> _Rank:
    if (path := folder / SPM_NAME).is_file():
        scores = {piece: score for piece, score, kind in SpmFile.read(path).pieces if kind == NORMAL}

        def by_score(left: str, right: str) -> float | None:
            score = scores.get(left + right)
            return None if score is None else -score

        return by_score
    merges = read_json(folder / JSON_NAME, CheckpointError)["model"]["merges"]
    pairs = (merge if isinstance(merge, list) else merge.split(" ", 1) for merge in merges)
    places = {(left, right): place for place, (left, right) in enumerate(pairs)}
    return lambda left, right: places.get((left, right))


def _made_of(piece: str, rank: _Rank) -> set[str]:
    """All that joining the characters of a piece, and nothing else, goes through."""
    symbols = list(piece)
    found = set(symbols)
    while len(symbols) > 1:
        ranks = [rank(left, right) for left, right in pairwise(symbols)]
        known = [(value, at) for at, value in enumerate(ranks) if value is not None]
        if not known:
            break
        at = min(known)[1]
        symbols[at : at + 2] = ["".join(symbols[at : at + 2])]
        found.add(symbols[at])
    return found


def _dumped(data: object) -> bytes:
    return json.dumps(data, ensure_ascii=False, indent=1).encode()
