"""Texts of one language, and preferences, from files, row by row. Bad rows are counted with their places.

| file | a text |
|---|---|
| `.json[l][.gz]`, `.parquet` | `{"text": "..."}` |
| any other, `.gz` or not | a line |

| file | a preference |
|---|---|
| `.json[l][.gz]`, `.parquet` | `source`, `chosen`, `reject[ed]`, `directions` ("en-de"), as X-ALMA's |
| | `translation`: scored translations by several systems, as ALMA-R's |
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dragoman.errors import InvalidOption
from dragoman.training.reading import BadRows, json_rows, kind_of, parquet_rows, utf8_lines

REJECTED = ("reject", "rejected")
SYSTEMS = ("gpt4", "alma", "ref")
"""Who translated, in ALMA-R's rows; ref is the reference."""
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
            yield (f"line {number}" if line else ""), line
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
    """The preferences of a file. scorer: of ALMA-R's rows, whose scores decide.

    InvalidOption if the file is neither JSON nor Parquet.
    """
    path = Path(path)
    if kind_of(path) not in ("json", "jsonl", "parquet"):
        raise InvalidOption(f"{path}: preferences are in .json, .jsonl or .parquet files")
    for place, row in _objects(path, _COLUMNS, bad):
        found = _preference(row, scorer)
        if isinstance(found, str):
            bad.add(path, place, found)
        else:
            source, chosen, rejected = (" ".join(text.split()) for text in found[:3])
            if not (source and chosen and rejected):
                bad.add(path, place, "an empty side")
            elif chosen == rejected:
                bad.add(path, place, "the same text chosen and rejected")
            else:
                yield source, chosen, rejected, *found[3:]


def _preference(row: Any, scorer: str) -> Preference | str:
    """A preference, or what is wrong with the row."""
    if not isinstance(row, Mapping):
        return "no object"
    if isinstance(row.get("translation"), Mapping):
        return _scored(row["translation"], scorer)
    texts = [row.get("source"), row.get("chosen"), next((row[n] for n in REJECTED if row.get(n)), None)]
    if not all(isinstance(text, str) for text in texts):
        return "no source, chosen or rejected text"
    source, dash, target = str(row.get("directions", "")).partition("-")
    if not (source and dash and target):
        return 'no directions such as "en-de"'
    return texts[0], texts[1], texts[2], source, target  # type: ignore[return-value]


def _scored(row: Mapping[str, Any], scorer: str) -> Preference | str:
    """The best and the worst of a row's translations, by their scores."""
    direction = row.get("required_directions") or row.get("language_pair")
    source, dash, target = str(direction or "").partition("-")
    if not (source and dash and target) or not isinstance(row.get(source), str):
        return "no language_pair with a text in its source language"
    texts = {name: row.get(target if name == "ref" else f"{name}_{target}") for name in SYSTEMS}
    scores = {name: row.get(f"{name}_{target}_{scorer}") for name in SYSTEMS}
    rated = [
        (float(scores[name]), texts[name])  # type: ignore[arg-type]
        for name in SYSTEMS
        if isinstance(texts[name], str) and isinstance(scores[name], (int, float))
    ]
    if len(rated) < 2:
        return f"fewer than two translations with a score by {scorer}"
    best, worst = max(rated, key=lambda one: one[0]), min(rated, key=lambda one: one[0])
    return row[source], str(best[1]), str(worst[1]), source, target
