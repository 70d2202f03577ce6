"""The texts of a run: every part of every language, without what models are tested on."""

from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from dragoman.errors import InvalidOption
from dragoman.languages import find, is_code
from dragoman.training.config import CAUSAL, PREFERENCE, TrainingConfig
from dragoman.training.data import can_make_up
from dragoman.training.filters import TextFilter, in_their_languages, text_key
from dragoman.training.parts import ENGLISH, MONOLINGUAL, PREFERENCES, Part, PartOptions, Store, read_part
from dragoman.training.reading import BadRows, kind_of, read_rows
from dragoman.training.stored_rows import StoredRows
from dragoman.training.texts import PreferencePart, TextPart, read_preferences, read_texts

AnyPart = Part | TextPart | PreferencePart
EN = "en"


@dataclass(frozen=True)
class Kept:
    """What there is of one part in one language."""

    code: str
    name: str
    rows: int
    dropped: Counter[str]

    def __str__(self) -> str:
        left = ", ".join(f"{count:,} {reason}" for reason, count in self.dropped.most_common())
        return f"{self.code} {self.name}: {self.rows:,} rows" + (f"; left out: {left}" if left else "")


@dataclass
class Texts:
    """All of it, and what was left out and why."""

    parts: list[AnyPart] = field(default_factory=list)
    dev: list[AnyPart] = field(default_factory=list)
    kept: list[Kept] = field(default_factory=list)
    bad: BadRows = field(default_factory=BadRows)
    held_out: int = 0
    """How many sentences must not be learned."""

    def __str__(self) -> str:
        """Some lines for people."""
        bad = f"bad rows:\n{self.bad}" if self.bad.counts else "no bad rows"
        held = [f"{self.held_out:,} sentences are held out"] if self.held_out else []
        return "\n".join([*held, *map(str, self.kept), bad])


def collect(config: TrainingConfig, data: Path, folder: Path | None) -> Texts:
    """Read everything that the settings name below `data`.

    folder: where rows are kept (None: in memory). InvalidOption if a part or a language has no text at all.
    """
    found = Texts()
    dev = _dev(config, data, found.bad)
    forbidden = _held_out(config, data, found.bad) | {
        text_key(side) for part in dev for row in rows_of(part) for side in row[: sides_of(part)]
    }
    found.dev = [_begin_of(part, config.evaluate_pairs) for part in dev]
    found.held_out = len(forbidden)
    for short, code in {EN: ENGLISH, **codes_of(config)}.items():
        for options in config.parts:
            if short not in codes_of(config, options):
                continue
            store = _store(folder, f"{options.name}-{short}")
            part = _part(config, options, (short, code), data, forbidden, found, store)
            if part is not None:
                found.parts.append(part)
    there = {part.name for part in found.parts}
    for options in config.parts:
        if options.name not in there:
            raise InvalidOption(
                f"the part {options.name!r} has no text: there is no {data / options.files} for any language "
                f"({', '.join(config.languages)}), or nothing of it is left:\n{found}"
            )
    spoken = {part.code for part in found.parts} | {getattr(part, "other", "") for part in found.parts}
    silent = [short for short, code in config.languages.items() if code not in spoken]
    if silent or not found.parts:
        raise InvalidOption(
            f"there is no text in {', '.join(silent) or 'any language'}; look at parts and data"
        )
    return found


def codes_of(config: TrainingConfig, options: PartOptions | None = None) -> dict[str, str]:
    """Corpus code -> NLLB code of the languages a part is read in: of texts alone English, too."""
    codes = {short: nllb_code(code) for short, code in config.languages.items()}
    if options is not None and options.kind == MONOLINGUAL and "{" in options.files:
        codes = {EN: ENGLISH, **codes}
    if options is not None:
        codes.pop(options.other, None)
    return codes


def nllb_code(code: str) -> str:
    """The code of a language in any spelling; a new one's own."""
    return code if is_code(code) else find(code).nllb


def rows_of(part: AnyPart) -> Sequence[Sequence[str]]:
    """The rows of a part of any kind."""
    return part.pairs if isinstance(part, Part) else part.rows


def sides_of(part: AnyPart) -> int:
    """How many items of a row are text that a model may learn."""
    return {Part: 2, TextPart: 1, PreferencePart: 3}[type(part)]


def _store(folder: Path | None, name: str) -> Store:
    if folder is None:
        return tuple
    return lambda rows: StoredRows.write(rows, folder / f"{name.replace('/', '-')}.rows")


def _part(
    config: TrainingConfig,
    options: PartOptions,
    language: tuple[str, str],
    data: Path,
    forbidden: Collection[str],
    found: Texts,
    store: Store,
) -> AnyPart | None:
    short, code = language
    if not options.files:
        known = can_make_up(options.name, code)
        return Part(code, options.name, options.share, ()) if known else None
    if options.kind == MONOLINGUAL:
        return _texts(options, language, data, forbidden, found, store)
    if options.kind == PREFERENCES:
        return _preferences(config, options, language, data, forbidden, found, store)
    other = ENGLISH if options.other == EN else codes_of(config)[options.other]
    read = read_part(options, code, short, data, forbidden, config.seed, found.bad, other, store)
    if read is None:
        return None
    part, chosen = read
    found.kept.append(Kept(code, options.name, len(part), chosen.dropped))
    return part


def _texts(
    options: PartOptions,
    language: tuple[str, str],
    data: Path,
    forbidden: Collection[str],
    found: Texts,
    store: Store,
) -> TextPart | None:
    short, code = language
    path = data / options.files.format(language=short, code=code)
    if not path.exists():
        return None
    chosen = TextFilter(forbidden)
    rows = ((text,) for text in read_texts(path, found.bad))
    checked = in_their_languages(rows, (code,), chosen.dropped) if options.same_language else rows
    kept = store((text,) for text in chosen(row[0] for row in checked))
    found.kept.append(Kept(code, options.name, len(kept), chosen.dropped))
    return TextPart(code, options.name, options.share, kept) if kept else None


def _preferences(
    config: TrainingConfig,
    options: PartOptions,
    language: tuple[str, str],
    data: Path,
    forbidden: Collection[str],
    found: Texts,
    store: Store,
) -> PreferencePart | None:
    short, code = language
    path = data / options.files.format(language=short, code=code)
    if not path.exists():
        return None
    dropped: Counter[str] = Counter()
    # A file of all languages is read once for each; its bad rows count once.
    is_first = "{" in options.files or short == next(iter(config.languages))
    bad = found.bad if is_first else BadRows()
    codes = {short: code, options.other: ENGLISH if options.other == EN else codes_of(config)[options.other]}

    def wanted() -> Iterator[tuple[str, ...]]:
        for *texts, source, target in read_preferences(path, bad, config.preference.scorer):
            if {source, target} != set(codes):
                dropped["of other languages"] += 1
            elif any(text_key(text) in forbidden for text in texts):
                dropped["held out"] += 1
            else:
                yield *texts, codes[source], codes[target]

    rows = store(wanted())
    found.kept.append(Kept(code, options.name, len(rows), dropped))
    return PreferencePart(code, options.name, options.share, rows) if rows else None


def _dev(config: TrainingConfig, data: Path, bad: BadRows) -> list[AnyPart]:
    """The development rows of each language, all of them."""
    if not config.dev:
        return []
    found: list[AnyPart] = []
    others = {part.other for part in config.parts if part.kind != MONOLINGUAL and part.files}
    other = others.pop() if len(others) == 1 else EN
    codes = {EN: ENGLISH, **codes_of(config)}
    for short, code in codes_of(config).items():
        path = data / config.dev.format(language=short, code=code)
        if not path.exists() or short == other:
            continue
        if config.objective in PREFERENCE:
            rows = tuple(
                (*texts, codes[source], codes[target])
                for *texts, source, target in read_preferences(path, bad, config.preference.scorer)
                if {source, target} == {short, other}
            )
            found.append(PreferencePart(code, "dev", 1.0, rows))
        elif config.objective == CAUSAL and kind_of(path) != "tsv":
            found.append(TextPart(code, "dev", 1.0, tuple((text,) for text in read_texts(path, bad))))
        else:
            pairs = tuple(row[:2] for row in read_rows(path, short, bad, None, other))
            found.append(Part(code, "dev", 1.0, pairs, codes[other]))
    if not any(map(len, found)):
        raise InvalidOption(f"dev: there is no {data / config.dev} with rows for any of the languages")
    return [part for part in found if len(part)]


def _begin_of(part: AnyPart, rows: int) -> AnyPart:
    if isinstance(part, Part):
        return replace(part, pairs=part.pairs[:rows])
    return replace(part, rows=part.rows[:rows])


def _held_out(config: TrainingConfig, data: Path, bad: BadRows) -> set[str]:
    """The keys of all sentences in the files that are held out."""
    keys: set[str] = set()
    for pattern in config.held_out:
        there: dict[Path, list[str]] = {}
        for short, code in {EN: ENGLISH, **codes_of(config)}.items():
            path = data / pattern.format(language=short, code=code)
            if path.exists():
                there.setdefault(path, []).append(short)
        if not there:
            raise InvalidOption(
                f"held_out: there is no {data / pattern}; what can't be read can't be left out"
            )
        for path, languages in there.items():
            found = _keys_of(path, languages, bad)
            if not found:
                raise InvalidOption(
                    f"held_out: {path} has no row in {' or '.join(languages)}; what can't be read can't be "
                    "left out"
                )
            keys |= found
    return keys


def _keys_of(path: Path, languages: Sequence[str], bad: BadRows) -> set[str]:
    """The keys of a file's sentences in any of these languages; bad rows count where it is one's own."""
    if kind_of(path) == "txt":
        found = set(map(text_key, read_texts(path, bad)))
    else:
        found = {
            text_key(side)
            for language in languages
            for row in read_rows(path, language, bad if len(languages) == 1 else BadRows())
            for side in row[:2]
        }
    return found - {""}
