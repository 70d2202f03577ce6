"""Glossaries: what a term of one language is to be in another, and whether a translation has it so.

A term of the source is found where it stands as it is written, word by word, in any case of letters unless it
is written in capitals like an abbreviation. A translation has it if it contains the target term, perhaps with
an ending (“Bahnhof” in “Bahnhofs”). Words that stay are terms that are their own translation.
"""

import csv
import io
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING

import regex

from dragoman.errors import InvalidOption, UnknownLanguage
from dragoman.languages import Language, all_languages, find, look_up
from dragoman.text.prolog import refuse_entities

if TYPE_CHECKING:
    from xml.etree.ElementTree import Element

LARGEST = 64 << 20
"""Bytes that a file may have."""
LONGEST = 200
"""Characters that a term may have."""


@dataclass(frozen=True)
class Term:
    """A term, and what it is to be."""

    source: str
    target: str


Pair = tuple[str | None, str | None]
"""NLLB codes of the languages; None is any."""


class Glossary:
    """Terms by language pair.

    >>> Glossary({"station": "Bahnhof", "Dragoman": "Dragoman"})
    """

    def __init__(self, terms: "Mapping[str, str] | Iterable[Term]", pair: Pair = (None, None)) -> None:
        """terms: for one pair of languages, or for any. Raises InvalidOption for one that is empty."""
        if isinstance(terms, Mapping):
            terms = [Term(source, target) for source, target in terms.items()]
        self._tables: dict[Pair, _Table] = {pair: _Table(terms)}

    @classmethod
    def read(cls, path: str | Path) -> "Glossary":
        """The glossary in a file: .tsv, .csv, .tbx, or .txt with a word that stays in each line.

        Raises InvalidOption with the place of what is wrong, and OSError.
        """
        path = Path(path)
        with path.open("rb") as file:
            data = file.read(LARGEST + 1)
        if len(data) > LARGEST:
            raise InvalidOption(f"{path} is larger than {LARGEST >> 20} MB; a glossary isn't")
        reader = _READERS.get(path.suffix.lower())
        if reader is None:
            raise InvalidOption(f"{path} is no glossary by its name; it may be {', '.join(_READERS)}")
        glossary = cls({})
        try:
            for pair, terms in reader(data).items():
                glossary._tables[pair] = _Table(terms)
        except (InvalidOption, UnknownLanguage) as error:
            raise InvalidOption(f"{path}: {error}") from None
        if not len(glossary):
            raise InvalidOption(f"{path} holds no term")
        return glossary

    def __len__(self) -> int:
        return sum(len(table) for table in self._tables.values())

    def __or__(self, other: "Glossary") -> "Glossary":
        """Both; of terms that both have, the other's."""
        merged = Glossary({})
        for pair in {**self._tables, **other._tables}:
            tables = [tables[pair] for tables in (self._tables, other._tables) if pair in tables]
            merged._tables[pair] = _Table(term for table in tables for term in table)
        return merged

    @property
    def fingerprint(self) -> str:
        """Hexadecimal digits that tell glossaries with other terms apart."""
        told = sorted(
            f"{pair}\0{term.source}\0{term.target}" for pair, table in self._tables.items() for term in table
        )
        return sha256("\n".join(told).encode("utf-8", "surrogatepass")).hexdigest()[:32]

    def terms_in(self, text: str, source: Language, target: Language) -> tuple[Term, ...]:
        """The terms that a text has, each once; of those that overlap the first, and of these the longest."""
        taken: dict[Term, None] = {}
        occupied: list[tuple[int, int]] = []
        # What was said of this very pair goes before what was said of any.
        for pair in ((source.nllb, target.nllb), (source.nllb, None), (None, target.nllb), (None, None)):
            table = self._tables.get(pair)
            for start, end, term in table.found(text, source) if table else ():
                if all(end <= first or last <= start for first, last in occupied):
                    occupied.append((start, end))
                    taken[term] = None
        return tuple(taken)


def missing(terms: Iterable[Term], translation: str, language: Language) -> list[Term]:
    """The terms that a translation doesn't have."""
    return [term for term in terms if not _has(translation, term.target, language)]


def spellings(term: str) -> list[str]:
    """How a target term may be written: as it is, and as a sentence begins."""
    return list(dict.fromkeys((term, term[:1].upper() + term[1:])))


# ---- inside ------------------------------------------------------------------------------------------------


class _Table:
    """The terms of one pair of languages, found by their first words."""

    def __init__(self, terms: Iterable[Term]) -> None:
        self._terms: dict[str, Term] = {}
        for term in terms:
            term = Term(" ".join(term.source.split()), " ".join(term.target.split()))
            if not term.source or not term.target:
                raise InvalidOption(f"a term lacks a side: {term.source or term.target!r}")
            if max(len(term.source), len(term.target)) > LONGEST:
                raise InvalidOption(f"{term.source[:40]!r}… is no term: it has over {LONGEST} characters")
            self._terms[term.source] = term
        self._indices: dict[bool, dict[str, list[Term]]] = {}

    def __len__(self) -> int:
        return len(self._terms)

    def __iter__(self) -> Iterator[Term]:
        return iter(self._terms.values())

    def found(self, text: str, language: Language) -> Iterator[tuple[int, int, Term]]:
        """(start, end, term) of each place where one stands, the longest of each start first."""
        index = self._index(language.writes_spaces)
        for at in _starts(text, language) if index else ():
            for term in index.get(_start(text, at, language.writes_spaces), ()):
                match = _pattern(term.source).match(text, at)
                if match and (not language.writes_spaces or _ends_word(text, match.end())):
                    yield match.start(), match.end(), term

    def _index(self, by_words: bool) -> dict[str, list[Term]]:
        """The terms by how they begin, the longest first."""
        if by_words not in self._indices:
            index: dict[str, list[Term]] = {}
            for term in sorted(self._terms.values(), key=lambda term: -len(term.source)):
                index.setdefault(_start(term.source, 0, by_words), []).append(term)
            self._indices[by_words] = index  # whole, as other threads may look at it
        return self._indices[by_words]


_FIRST = regex.compile(r"\w|[^\w\s]")
_ENDING = regex.compile(r"\w+")
_LONGEST_ENDING = 4
_FIRST_WORD = regex.compile(r"\w+")


def _start(text: str, at: int, by_words: bool) -> str:
    """What terms are found by: their first word, or character, in small letters."""
    word = _FIRST_WORD.match(text, at) if by_words else None
    return (word[0] if word else text[at : at + 1]).casefold()


def _starts(text: str, language: Language) -> Iterator[int]:
    """The places where a term may begin."""
    for match in _FIRST.finditer(text):
        at = match.start()
        if not language.writes_spaces or at == 0 or not (text[at - 1].isalnum() and text[at].isalnum()):
            yield at


def _ends_word(text: str, at: int) -> bool:
    return at >= len(text) or not (text[at - 1].isalnum() and text[at].isalnum())


@lru_cache(maxsize=4096)
def _pattern(term: str) -> regex.Pattern[str]:
    """Finds a term, with whatever white space between its words."""
    words = r"\s+".join(map(regex.escape, term.split()))
    is_abbreviation = sum(map(str.isupper, term)) >= 2
    return regex.compile(words, 0 if is_abbreviation else regex.IGNORECASE)


def _has(translation: str, term: str, language: Language) -> bool:
    for match in _pattern(term).finditer(translation):
        start, end = match.span()
        if not language.writes_spaces:
            return True
        if start and translation[start - 1].isalnum() and term[0].isalnum():
            continue
        ending = _ENDING.match(translation, end)
        if ending is None or len(ending[0]) <= min(len(term) // 2, _LONGEST_ENDING):
            return True
    return False


# ---- files -------------------------------------------------------------------------------------------------

_Tables = dict[Pair, list[Term]]


def _read_table(data: bytes, dialect: type[csv.Dialect]) -> _Tables:
    """Rows of terms: two columns, or one for what stays; or a row of language codes, and a column for each.

    DeepL's files have the two languages in a third and fourth column.
    """
    tables: _Tables = {}
    heads: list[Language] | None = None
    first = True
    rows = csv.reader(io.StringIO(_text(data), newline=""), dialect, strict=dialect is csv.excel)
    try:
        for number, row in enumerate(rows, 1):
            cells = [cell.strip() for cell in row]
            if not any(cells) or cells[0].startswith("#"):
                continue
            is_first, first = first, False
            if is_first and (heads := _languages(cells)):
                continue
            try:
                _add_row(tables, cells, heads)
            except (InvalidOption, UnknownLanguage) as error:
                raise InvalidOption(f"line {number}: {error}") from None
    except csv.Error as error:
        raise InvalidOption(f"line {rows.line_num}: {error}") from None
    return tables


def _add_row(tables: _Tables, cells: Sequence[str], heads: Sequence[Language] | None) -> None:
    if heads is not None:
        if len(cells) > len(heads):
            raise InvalidOption(f"{len(cells)} columns, but the first line names {len(heads)} languages")
        filled = [(language, cell) for language, cell in zip(heads, cells, strict=False) if cell]
        for language, cell in filled:
            for other, translation in filled:
                if other != language:
                    tables.setdefault((language.nllb, other.nllb), []).append(Term(cell, translation))
        return
    if len(cells) not in (1, 2, 4):
        raise InvalidOption(f"{len(cells)} columns; a term has two, one if it stays, four with languages")
    source, target = cells[0], cells[1] if len(cells) > 1 else cells[0]
    if not source or not target:
        raise InvalidOption(f"a term lacks a side: {source or target!r}")
    pair: Pair = (None, None)
    if len(cells) == 4:
        pair = find(cells[2], all_languages()).nllb, find(cells[3], all_languages()).nllb
    tables.setdefault(pair, []).append(Term(source, target))


def _languages(cells: Sequence[str]) -> list[Language] | None:
    """The languages that a first row names by their codes; None if it is a term."""
    codes = {language.short_code.lower(): language for language in all_languages()}
    codes |= {language.nllb.lower(): language for language in all_languages()}
    found = [codes.get(cell.lower()) for cell in cells]
    return [one for one in found if one] if len(found) > 1 and all(found) else None


def _read_lines(data: bytes) -> _Tables:
    """Words that stay."""
    lines = [line.strip() for line in _text(data).splitlines()]
    return {(None, None): [Term(line, line) for line in lines if line and not line.startswith("#")]}


_LANGUAGE = "{http://www.w3.org/XML/1998/namespace}lang"


def _read_tbx(data: bytes) -> _Tables:
    """TBX (ISO 30042), the version of 2008 or of 2019: the terms of each entry by language."""
    from xml.etree import ElementTree

    refuse_entities(data)
    try:
        root = ElementTree.fromstring(data)
    except (ElementTree.ParseError, LookupError, ValueError, RecursionError) as error:
        raise InvalidOption(f"it is no XML: {error}") from None
    tables: _Tables = {}
    for entry in root.iter():
        if _name(entry) not in ("termEntry", "conceptEntry"):
            continue
        terms: list[tuple[Language, str]] = []
        for section in entry:
            if _name(section) in ("langSet", "langSec"):
                language = _language(section.get(_LANGUAGE) or "")
                if language is None:  # one that nobody here speaks
                    continue
                terms += [
                    (language, "".join(one.itertext())) for one in section.iter() if _name(one) == "term"
                ]
        for language, term in terms:
            for other in {other for other, _ in terms if other != language}:
                # The first term of a language is the preferred one.
                translation = next(text for spoken, text in terms if spoken == other)
                tables.setdefault((language.nllb, other.nllb), []).append(Term(term, translation))
    return tables


def _language(tag: str) -> Language | None:
    """The language of a tag, or of what it begins with."""
    return look_up(tag) or look_up(tag.partition("-")[0]) if tag else None


def _name(element: "Element") -> str:
    return element.tag.rpartition("}")[2] if isinstance(element.tag, str) else ""


def _text(data: bytes) -> str:
    try:
        return data.decode("utf-16" if data[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig")
    except UnicodeDecodeError as error:
        raise InvalidOption(f"byte {error.start + 1} is no {error.encoding}; save it as UTF-8") from None


class _Tabs(csv.excel_tab):
    quoting = csv.QUOTE_NONE


_READERS = {
    ".tsv": lambda data: _read_table(data, _Tabs),
    ".csv": lambda data: _read_table(data, csv.excel),
    ".tbx": _read_tbx,
    ".txt": _read_lines,
}
