"""Texts of one language, and preferences, from files, row by row. Bad rows are counted with their places.

| file | a text |
|---|---|
| `.json[l][.gz]`, `.parquet` | `{"text": "..."}` |
| any other, `.gz` or not | a line |

| file | a preference |
|---|---|
| `.json[l][.gz]`, `.parquet` | `source`, `chosen`, `reject[ed]`, `directions` ("en-de"), as X-ALMA's |
| | `translation`: translations by several systems with scores or judged by people, as ALMA-R's |
"""

import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeGuard

from dragoman.errors import InvalidOption
from dragoman.training.reading import BadRows, json_rows, kind_of, parquet_rows, utf8_lines

REJECTED = ("reject", "rejected")
SYSTEMS = ("gpt4", "alma")
"""Who translated, in ALMA-R's rows."""
REFERENCE = "ref"
RATED = (REFERENCE, *SYSTEMS)
_COLUMNS = {"source", "chosen", *REJECTED, "directions", "translation"}


@dataclass(frozen=True)
class TextPart:
    """Texts of one language."""

    code: str
    name: str
    share: float
    rows: Any
    """(text,) each."""

    def __len__(self) -> int:
        return len(self.rows)


@dataclass(frozen=True)
class PreferencePart:
    """Preferences of one language with English."""

    code: str
    name: str
    share: float
    rows: Any
    """(source, chosen, rejected, source language, target language) each, with NLLB codes."""

    def __len__(self) -> int:
        return len(self.rows)


Preference = tuple[str, str, str, str, str]
"""Source, chosen, rejected, and the corpus codes of source and target."""


def read_texts(path: str | Path, bad: BadRows) -> Iterator[str]:
    """The texts of a file, in their order, white space made plain."""
    path = Path(path)
    for place, text in _texts(path, bad):
        plain = " ".join(text.split())
        if plain:
            yield plain
        elif place:
            bad.add(path, place, "an empty text")


def _texts(path: Path, bad: BadRows) -> Iterator[tuple[str, str]]:
    """Place and text; empty lines of plain text are part of how it is written, and have no place."""
    if kind_of(path) not in ("json", "jsonl", "parquet"):
        for number, line in utf8_lines(path, bad):
            yield (f"line {number}" if line else ""), line or ""
        return
    for place, row in _objects(path, {"text"}, bad):
        text = row.get("text") if isinstance(row, Mapping) else None
        if isinstance(text, str):
            yield place, text
        else:
            bad.add(path, place, "no text")


def _objects(path: Path, columns: set[str], bad: BadRows) -> Iterable[tuple[str, Any]]:
    return parquet_rows(path, columns, bad) if kind_of(path) == "parquet" else json_rows(path, bad)


def read_preferences(path: str | Path, bad: BadRows, scorer: str = "kiwi_xcomet") -> Iterator[Preference]:
    """The preferences of a file. scorer: of ALMA-R's rows, whose scores decide where no person has.

    A row of ALMA-R's is a preference in both directions, unless `required_directions` names one.
    InvalidOption if the file is neither JSON nor Parquet.
    """
    path = Path(path)
    if kind_of(path) not in ("json", "jsonl", "parquet"):
        raise InvalidOption(f"{path}: preferences are in .json, .jsonl or .parquet files")
    for place, row in _objects(path, _COLUMNS, bad):
        for found in _preferences(row, scorer):
            if isinstance(found, str):
                bad.add(path, place, found)
                continue
            source, chosen, rejected = (" ".join(text.split()) for text in found[:3])
            if not (source and chosen and rejected):
                bad.add(path, place, "an empty side")
            elif chosen == rejected:
                bad.add(path, place, "the same text chosen and rejected")
            else:
                yield source, chosen, rejected, *found[3:]


def _preferences(row: Any, scorer: str) -> Iterator[Preference | str]:
    """The preferences of a row, or what is wrong with it."""
    if not isinstance(row, Mapping):
        yield "no object"
    elif isinstance(row.get("translation"), Mapping):
        yield from _compared(row["translation"], scorer)
    else:
        yield _plain(row)


def _plain(row: Mapping[str, Any]) -> Preference | str:
    texts = [row.get("source"), row.get("chosen"), next((row[n] for n in REJECTED if row.get(n)), None)]
    if not all(isinstance(text, str) for text in texts):
        return "no source, chosen or rejected text"
    source, dash, target = str(row.get("directions", "")).partition("-")
    if not (source and dash and target):
        return 'no directions such as "en-de"'
    return texts[0], texts[1], texts[2], source, target  # type: ignore[return-value]


def _compared(row: Mapping[str, Any], scorer: str) -> Iterator[Preference | str]:
    """The best and the worst translation in each direction that has some, or in the required one alone."""
    required = row.get("required_directions")
    source, dash, target = str(required or row.get("language_pair") or "").partition("-")
    if not (source and dash and target):
        yield 'no language_pair such as "en-de"'
        return
    directions = [(source, target)] if required else [(source, target), (target, source)]
    there = [
        (one, other)
        for one, other in directions
        if any(isinstance(row.get(f"{name}_{other}"), str) for name in SYSTEMS)
    ]
    for one, other in there or directions[:1]:
        yield _best_and_worst(row, one, other, scorer)


def _best_and_worst(row: Mapping[str, Any], source: str, target: str, scorer: str) -> Preference | str:
    if not isinstance(row.get(source), str):
        return f"no text in {source}"
    texts = {name: row.get(target if name == REFERENCE else f"{name}_{target}") for name in RATED}
    judged = row.get("Delta")
    if _is_finite(judged) and judged and all(isinstance(texts[name], str) for name in SYSTEMS):
        # As the authors' code has it, and against the words of their card: above zero GPT-4's is the better.
        best, worst = SYSTEMS if judged > 0 else reversed(SYSTEMS)
        return row[source], str(texts[best]), str(texts[worst]), source, target
    found = {name: row.get(f"{name}_{target}_{scorer}") for name in RATED}
    scores = {n: float(x) for n, x in found.items() if _is_finite(x) and isinstance(texts[n], str)}
    if len(scores) < 2:
        return f"fewer than two translations with a score by {scorer}"
    best, worst = max(scores, key=scores.__getitem__), min(scores, key=scores.__getitem__)
    return row[source], str(texts[best]), str(texts[worst]), source, target


def _is_finite(score: Any) -> TypeGuard[float]:
    return isinstance(score, (int, float)) and math.isfinite(score)
