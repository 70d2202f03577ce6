"""The texts of a run: every part of every language, without what models are tested on."""

from collections import Counter
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from dragoman.errors import InvalidOption
from dragoman.languages import find, is_code
from dragoman.training.config import CAUSAL, PREFERENCE, TrainingConfig
from dragoman.training.data import can_make_up
from dragoman.training.filters import RowFilter, in_their_languages, text_key
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
    collector = _Collector(config, data, folder, forbidden, found)
    for short, code in {EN: ENGLISH, **codes_of(config)}.items():
        for options in config.parts:
            if short in codes_of(config, options):
                collector.add(options, short, code)
    _check(config, data, found)
    return found


def _check(config: TrainingConfig, data: Path, found: Texts) -> None:
    there = {part.name for part in found.parts}
    for options in config.parts:
        if options.name not in there:
            raise InvalidOption(
                f"the part {options.name!r} has no text: there is no {data / options.files} for any language "
                f"({', '.join(config.languages)}), or nothing of it is left:\n{found}"
            )
    spoken = {part.code for part in found.parts} | {getattr(part, "other", "") for part in found.parts}
    silent = [short for short, code in codes_of(config).items() if code not in spoken]
    if silent or not found.parts:
        raise InvalidOption(
            f"there is no text in {', '.join(silent) or 'any language'}; look at parts and data"
        )


@dataclass
class _Collector:
    """Reads one part of one language after the other."""

    config: TrainingConfig
    data: Path
    folder: Path | None
    forbidden: Collection[str]
    found: Texts

    def add(self, options: PartOptions, short: str, code: str) -> None:
        """What there is of a part in a language; nothing if it has no file."""
        if not options.files:
            if can_make_up(options.name, code):
                self.found.parts.append(Part(code, options.name, options.share, ()))
            return
        path = self.data / options.files.format(language=short, code=code)
        if not path.exists():
            return
        reads: dict[str, Callable[..., tuple[AnyPart, Counter[str]]]] = {
            MONOLINGUAL: self._texts,
            PREFERENCES: self._preferences,
        }
        part, dropped = reads.get(options.kind, self._pairs)(options, path, short, code)
        self.found.kept.append(Kept(code, options.name, len(part), dropped))
        if len(part):
            self.found.parts.append(part)

    def _pairs(self, options: PartOptions, path: Path, short: str, code: str) -> tuple[Part, Counter[str]]:
        other, store = self._other(options), self._store(options, short)
        read = read_part(
            options, code, short, self.data, self.forbidden, self.config.seed, self.found.bad, other, store
        )
        if read is None:
            return Part(code, options.name, options.share, (), other), Counter()
        return read[0], read[1].dropped

    def _texts(
        self, options: PartOptions, path: Path, short: str, code: str
    ) -> tuple[TextPart, Counter[str]]:
        chosen = RowFilter(self.forbidden)
        rows: Iterator[tuple[str]] = ((text,) for text in read_texts(path, self.found.bad))
        if options.same_language:
            rows = in_their_languages(rows, (code,), chosen.dropped)
        kept = self._store(options, short)(chosen(rows, texts=1))
        return TextPart(code, options.name, options.share, kept), chosen.dropped

    def _preferences(
        self, options: PartOptions, path: Path, short: str, code: str
    ) -> tuple[PreferencePart, Counter[str]]:
        chosen = RowFilter(self.forbidden)
        # A file of all languages is read once for each; its bad rows count once.
        is_first = "{" in options.files or short == next(iter(self.config.languages))
        bad = self.found.bad if is_first else BadRows()
        codes = {short: code, options.other: self._other(options)}

        def wanted() -> Iterator[tuple[str, ...]]:
            for *texts, source, target in read_preferences(path, bad, self.config.preference.scorer):
                if {source, target} == set(codes):
                    yield *texts, codes[source], codes[target]
                else:
                    chosen.dropped["of other languages"] += 1

        rows = self._store(options, short)(chosen(wanted(), texts=3))
        return PreferencePart(code, options.name, options.share, rows), chosen.dropped

    def _other(self, options: PartOptions) -> str:
        return ENGLISH if options.other == EN else codes_of(self.config)[options.other]

    def _store(self, options: PartOptions, short: str) -> Store:
        if self.folder is None:
            return tuple
        path = self.folder / f"{options.name.replace('/', '-')}-{short}.rows"
        return lambda rows: StoredRows.write(rows, path)


def codes_of(config: TrainingConfig, options: PartOptions | None = None) -> dict[str, str]:
    """Corpus code -> NLLB code of the languages a part is read in: of texts alone English, too."""
    codes = {short: nllb_code(code) for short, code in config.languages.items()}
    if options is None:
        return codes
    if options.kind == MONOLINGUAL:
        return {EN: ENGLISH, **codes} if "{" in options.files else codes
    return {short: code for short, code in codes.items() if short != options.other}


def nllb_code(code: str) -> str:
    """The code of a language in any spelling; a new one's own."""
    return code if is_code(code) else find(code).nllb


def rows_of(part: AnyPart) -> Sequence[Sequence[str]]:
    """The rows of a part of any kind."""
    return part.pairs if isinstance(part, Part) else part.rows


def sides_of(part: AnyPart) -> int:
    """How many items of a row are text that a model may learn."""
    return {Part: 2, TextPart: 1, PreferencePart: 3}[type(part)]


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
