"""Full stops that end no sentence: abbreviations before names and numbers, and ordinal numbers.

`data/abbreviations.tsv` lists abbreviations by language and by what they stand before: a `name`, a
`number`, or anything (`inside`); or as such that may well end a sentence (`end`). None of them does before
a word in lower case. Those without a language are used in any Latin script. A word is listed without its
last full stop and without spaces; in lower case it also stands for its capitalised form.

A wrong join costs little (a model translates two sentences as one), a wrong cut tears a name from its
title; so doubtful stops end no sentence.
"""

from collections.abc import Mapping
from functools import cache

import regex

from dragoman.languages import Language

NAME, NUMBER, INSIDE = "name", "number", "inside"

# Where a number with a full stop is an ordinal. Their nouns are in lower case, but for German's.
_ORDINALS = frozenset({
    "azj", "bos", "ces", "dan", "deu", "est", "eus", "fao", "fin", "hrv", "hun", "isl", "lit", "ltz", "lvs",
    "mkd", "nno", "nob", "pol", "slk", "slv", "srp", "tur",
})  # fmt: skip
# What an ordinal follows in German and Luxembourgish, where its noun is a capitalised word.
_BEFORE_ORDINAL = regex.compile(
    r"(?:^|[^\p{L}])(?:d(?:er|ie|as|em|en|es)|i[mn]|am|vom|zu[mr]|beim|ans?|aufs?|ab|bis|seit|je(?:de|ne)[rsmn]?"
    r"|diese[rsmn]?|welche[rsmn]?|(?:k?ein|mein|dein|sein|unser|ihr|euer|eur)(?:e[rsmn]?)?|de[nr]|dat|dem|op)\s+$",
    regex.IGNORECASE,
)
_DETERMINED = frozenset({"deu", "ltz"})
_ROMAN_FIRST = frozenset({"hun", "tur", "azj"})  # II. Lajos

# The word before a full stop, with those abbreviated before it: `p. m`, `z.B`, `dott.ssa`, `c.-à-d`.
_LAST_WORD = regex.compile(
    r"(?:^|[^\p{L}\p{M}\p{N}.])((?:\p{L}{1,3}\.[\s\u202f]?)*[\p{L}\p{M}][\p{L}\p{M}ªº·.-]*)\.$"
)
_LAST_NUMBER = regex.compile(r"(?:^|[^\p{L}\p{N}.,:])(\p{Nd}{1,4}|[IVXLC]+)\.$")
_NUMBER = regex.compile(r"\p{Nd}|[IVXLCM]+\b")
_LOWER = regex.compile(r"\p{Ll}")
_LETTER = regex.compile(r"\p{L}")
_DOTTED = regex.compile(r"\p{L}(?:\.\p{L}{1,2})*$")
_INITIAL = regex.compile(r"\p{Lu}\.[\p{Lu}\s-]")


def ends_no_sentence(before: str, after: str, language: Language) -> bool:
    """Whether the full stop at the end of `before` (no white space behind) goes on with `after`."""
    if not before.endswith(".") or before.endswith(".."):
        return False
    if number := _LAST_NUMBER.search(before):
        return _is_ordinal(before[: number.start(1)], number[1], after, language)
    found = _LAST_WORD.search(before)
    if found is None:
        return False
    written = regex.sub(r"\s", "", found[1])
    kinds = _kinds(written, language) or _kinds(regex.split(r"\.\s", found[1])[-1], language)
    if _LOWER.match(after):
        return bool(kinds) or _DOTTED.match(written) is not None
    if written[0].isupper() and _DOTTED.match(written) and _INITIAL.match(after):
        return True
    if INSIDE in kinds or (NAME in kinds and _LETTER.match(after)):
        return True
    return NUMBER in kinds and _NUMBER.match(after) is not None


def _is_ordinal(before: str, number: str, after: str, language: Language) -> bool:
    if language.iso3 not in _ORDINALS:
        return False
    if _LOWER.match(after):
        return True
    if not _LETTER.match(after):
        return False
    if number.isdigit():
        return language.iso3 in _DETERMINED and _BEFORE_ORDINAL.search(before) is not None
    return language.iso3 in _ROMAN_FIRST


def _kinds(word: str, language: Language) -> frozenset[str]:
    """What an abbreviation may stand before; none if it isn't listed."""
    listed = _listed(language.iso1 or language.iso3, language.script == "Latn")
    return listed.get(word) or listed.get(word[:1].lower() + word[1:]) or frozenset()


@cache
def _listed(code: str, latin: bool) -> Mapping[str, frozenset[str]]:
    found: dict[str, frozenset[str]] = {}
    for language, kind, words in _rows():
        if language == code or (latin and not language):
            for word in words:
                found[word] = found.get(word, frozenset()) | {kind}
    return found


@cache
def _rows() -> tuple[tuple[str, str, tuple[str, ...]], ...]:
    from importlib.resources import files  # late: it costs more than the rest of this module

    text = files("dragoman.data").joinpath("abbreviations.tsv").read_text(encoding="utf-8")
    rows = (line.split("\t") for line in text.splitlines()[1:])
    return tuple((language, kind, tuple(words.split())) for language, kind, words in rows)
