"""The languages of Dragoman: one table, and one way in, `find`.

The table is `data/languages.tsv`: a row per language token of NLLB-200, in the order in which their ids
(256001 to 256202) were published. That order is almost alphabetical; never sort it. X-ALMA's 50 languages are
columns of the same rows. What NLLB lacks and another model speaks is in `data/further_languages.tsv`, and is
found only among that model's languages. In `aliases` a space parts two aliases and `_` stands for a space
inside one. An alias decides where a spelling fits several rows: `zh` is an alias of zho_Hans, so it never
means zho_Hant.

A tag's region picks a row only where the table says so (`ar-EG`, `zh-TW`); any other region is let go
(`fr-CA` is French). A tag's script is never let go: `sr-Latn` is an error, as the model writes Cyrillic.
"""

import re
import unicodedata
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from functools import cache, lru_cache
from types import MappingProxyType

from dragoman.errors import UnknownLanguage

_SCRIPTS = {
    "Arab": "Arabic", "Armn": "Armenian", "Beng": "Bengali", "Cyrl": "Cyrillic", "Deva": "Devanagari",
    "Ethi": "Ethiopic", "Geor": "Georgian", "Grek": "Greek", "Gujr": "Gujarati", "Guru": "Gurmukhi",
    "Hang": "Hangul", "Hans": "Simplified Chinese", "Hant": "Traditional Chinese", "Hebr": "Hebrew",
    "Jpan": "Japanese", "Khmr": "Khmer", "Knda": "Kannada", "Laoo": "Lao", "Latn": "Latin",
    "Mlym": "Malayalam", "Mymr": "Myanmar", "Olck": "Ol Chiki", "Orya": "Odia", "Sinh": "Sinhala",
    "Taml": "Tamil", "Telu": "Telugu", "Tfng": "Tifinagh", "Thai": "Thai", "Tibt": "Tibetan",
}  # fmt: skip
_CODE = re.compile("[a-z]{3}_[A-Z][a-z]{3}")
_NO_SPACES = frozenset({"Hans", "Hant", "Jpan", "Khmr", "Laoo", "Mymr", "Thai", "Tibt"})
_RIGHT_TO_LEFT = frozenset({"Arab", "Hebr"})


@dataclass(frozen=True, slots=True)
class Language:
    """One row of the table."""

    nllb: str
    """The token of NLLB-200, such as `fra_Latn`."""
    iso1: str | None
    """ISO 639-1, also where it names the group this row stands for (`ar` for arb_Arab)."""
    iso3: str
    name: str
    own_name: str
    script: str
    """ISO 15924. NLLB's sat_Beng is trained on Ol Chiki text, so its script is Olck."""
    xalma: str | None
    xalma_name: str | None
    """How X-ALMA's prompts call it."""
    group: int | None
    """X-ALMA's language module, 1 to 8; English has none."""
    aliases: tuple[str, ...]

    @property
    def writes_spaces(self) -> bool:
        """Whether words are written apart."""
        return self.script not in _NO_SPACES

    @property
    def right_to_left(self) -> bool:
        """Whether lines run from right to left."""
        return self.script in _RIGHT_TO_LEFT

    @property
    def script_name(self) -> str:
        """The script in English, such as `Cyrillic`."""
        return _SCRIPTS.get(self.script, self.script)

    @property
    def short_code(self) -> str:
        """The shortest code that `find` takes for this row: `fr`, `ceb`, `zho_Hant`."""
        if self in further_languages():
            return self.iso1 or self.iso3
        codes = (self.iso1, self.iso3, self.nllb)
        return next((code for code in codes if code and _spellings().get(_fold(code)) is self), self.nllb)


@cache
def all_languages() -> tuple[Language, ...]:
    """The 202 rows in NLLB's order."""
    return _read_table("languages.tsv")


@cache
def further_languages() -> tuple[Language, ...]:
    """Languages that NLLB hasn't got, with codes like NLLB's."""
    return _read_table("further_languages.tsv")


@cache
def known_languages() -> tuple[Language, ...]:
    """The rows of both tables: what some model speaks."""
    return (*all_languages(), *further_languages())


def _read_table(name: str) -> tuple[Language, ...]:
    from importlib.resources import files  # late: it costs more than the rest of this module

    text = files("dragoman.data").joinpath(name).read_text(encoding="utf-8")
    return tuple(_parse_row(line) for line in text.splitlines()[1:])


def _parse_row(line: str) -> Language:
    nllb, iso1, iso3, name, own_name, script, xalma, xalma_name, group, aliases = line.split("\t")
    return Language(
        nllb=nllb,
        iso1=iso1 or None,
        iso3=iso3,
        name=name,
        own_name=own_name,
        script=script,
        xalma=xalma or None,
        xalma_name=xalma_name or None,
        group=int(group) if group else None,
        aliases=tuple(alias.replace("_", " ") for alias in aliases.split(" ") if alias),
    )


LANGUAGES: tuple[Language, ...]
"""`all_languages()`, read on first use."""


def __getattr__(name: str) -> tuple[Language, ...]:
    if name == "LANGUAGES":
        return all_languages()
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


@cache
def nllb_codes() -> tuple[str, ...]:
    """The 202 language tokens of NLLB-200; the one at index i has id 256001 + i."""
    return tuple(language.nllb for language in all_languages())


def is_code(spelling: str) -> bool:
    """Whether this is spelled like NLLB's codes (`tyv_Cyrl`), be there such a language or not."""
    return _CODE.fullmatch(spelling) is not None


def of_code(code: str) -> Language:
    """The language with this token in a model's tokenizer.

    A model may have languages beyond the tables': such a one has its code for a name, and the
    script that its code says. UnknownLanguage if `code` is neither in a table nor spelled like their codes.
    """
    further = (row for row in further_languages() if row.nllb == code)
    known = _by_code().get(code) or next(further, None) or _spellings().get(_fold(code))
    if known is None and is_code(code):
        iso3, script = code.split("_")
        return Language(code, None, iso3, code, code, script, None, None, None, ())
    return known or find(code, known_languages())


@cache
def _by_code() -> Mapping[str, Language]:
    return MappingProxyType({language.nllb: language for language in all_languages()})


AUTO = "auto"
"""As a source language: detect it."""


def find_source(spelling: str | None, among: Collection[Language] | None = None) -> Language | None:
    """As `find`, but None for None and for "auto": the language is to be detected."""
    is_open = spelling is None or (isinstance(spelling, str) and _fold(spelling) == AUTO)
    return None if is_open else find(spelling or "", among)


def find(spelling: str, among: Collection[Language] | None = None) -> Language:
    """The language that `spelling` means: an NLLB code, ISO 639, a BCP 47 tag, a locale, a name.

    Case, accents and the choice of `-`, `_` or space don't matter. UnknownLanguage if there is no such
    language, or if it is not `among` those given (what a model speaks). Those of them that the table
    hasn't got (see `of_code`) are found by the spellings of their rows (`tyv_Cyrl`, `tyv`).
    """
    if not isinstance(spelling, str):
        raise UnknownLanguage(
            f"A language is a text such as 'fr', 'fra_Latn' or 'French'; got {spelling!r:.40}"
        )
    key = _fold(spelling)
    if not key:
        raise UnknownLanguage(f"{_quote(spelling)} names no language. Give one such as 'fr' or 'French'")
    for other in among or ():
        if other.nllb not in _by_code() and key in map(_fold, _own_spellings(other)):
            return other
    if key == AUTO:
        raise UnknownLanguage("'auto' is for the source language, where it means: detect it")
    is_long = len(spelling.strip()) > _LONGEST
    language = None if is_long else _spellings().get(key) or _find_tag(spelling.strip(), among)
    if language is None and among is not None:
        language = next((row for row in further_languages() if key in map(_fold, _own_spellings(row))), None)
    if language is None:
        raise _unknown(f"{_quote(spelling)} is no language I know.", suggest(spelling, among))
    if among is not None and language not in among:
        raise _not_spoken(language, spelling, among)
    return language


def look_up(spelling: str) -> Language | None:
    """As `find` among the whole table, but None for what is no language, without the cost of a message."""
    return _spellings().get(_fold(spelling)) or _find_tag(spelling.strip(), None)


def suggest(spelling: str, among: Collection[Language] | None = None, count: int = 3) -> list[Language]:
    """Up to `count` languages with a spelling near this one, best first; [] if none is near."""
    key = _fold(spelling) if isinstance(spelling, str) else ""
    if not key:
        return []
    allowed = None if among is None else {language.nllb for language in among}
    likeness = _likeness(key)
    best: dict[Language, tuple[float, bool]] = {}
    for known, language in _spellings().items():
        if (allowed is None or language.nllb in allowed) and (score := likeness(known)):
            best[language] = max((score, known[0] == key[0]), best.get(language, (0.0, False)))
    # X-ALMA's languages are the widely used ones, so they win ties; NLLB's order settles the rest.
    order = {language: (language.xalma is None, i) for i, language in enumerate(all_languages())}
    ranked = sorted(best, key=lambda language: (*(-part for part in best[language]), *order[language]))
    return ranked[:count]


def _likeness(key: str) -> Callable[[str], float]:
    """A function that says how near a known spelling is to `key`: 0, or from 0.5 to 1."""
    from difflib import SequenceMatcher  # late: only a mistake needs it

    is_code = len(key) <= 3
    enough = 0.5 if is_code else 0.6
    matcher = SequenceMatcher(None, "", key, autojunk=False)

    def likeness(known: str) -> float:
        # Whole words first: `cz` is in cs-CZ, `kurdish` in Central Kurdish, and zh-nan starts with `zh`.
        if f" {key} " in f" {known} " or key.startswith(f"{known} "):
            return 0.9
        if is_code and " " in known:
            return 0.0  # else zz would be like az-AZ
        matcher.set_seq1(known)
        if matcher.real_quick_ratio() < enough or matcher.quick_ratio() < enough:
            return 0.0
        ratio = matcher.ratio()
        return ratio if ratio >= enough else 0.0

    return likeness


# ---- spellings ----

_LONGEST = 100  # far above any name, so hostile input costs nothing
_LETTERS = str.maketrans(
    {"ø": "o", "ł": "l", "đ": "d", "ð": "d", "ı": "i", "æ": "ae", "œ": "oe", "þ": "th", "ə": "e", "ɛ": "e"}
    | {"ɔ": "o", "ŋ": "n", "ɓ": "b", "ɗ": "d", "ƙ": "k", "ɩ": "i", "ʋ": "v"}
    | dict.fromkeys("'’‘`ʻʼʹ", "")  # as in o‘zbek and Ta’izzi
)


def _fold(spelling: str) -> str:
    """One key for all ways to write a spelling: no case, no accents, one space for any separator."""
    return _folded(spelling.strip()[:_LONGEST])


@lru_cache(4096)
def _folded(spelling: str) -> str:
    decomposed = unicodedata.normalize("NFKD", spelling.replace("´", "'").casefold())
    # Only marks with a combining class go: the vowel signs of Indic scripts have none and matter.
    bare = "".join(char for char in decomposed if not unicodedata.combining(char)).translate(_LETTERS)
    # Cf are joiners and direction marks: they part no words.
    categories = ((char, unicodedata.category(char)) for char in bare)
    kept = (char if category[0] in "LMN" else " " for char, category in categories if category != "Cf")
    return " ".join("".join(kept).split())


@cache
def _spellings() -> Mapping[str, Language]:
    """Every folded spelling. NLLB's codes come first, then aliases, then what the other columns imply."""
    found: dict[str, Language] = {}
    for spellings in (lambda row: [row.nllb], lambda row: row.aliases, _implied):
        for language in all_languages():
            for spelling in spellings(language):
                found.setdefault(_fold(spelling), language)
    return MappingProxyType(found)


def _own_spellings(row: Language) -> list[str]:
    return [row.nllb, *row.aliases, *_implied(row)]


def _implied(row: Language) -> list[str]:
    return list(filter(None, (row.iso1, row.iso3, row.name, row.own_name, row.xalma, row.xalma_name)))


# ---- tags and locales ----

_TAG = (
    r"(?P<language>[a-z]{2,3})(?:[-_](?P<extended>[a-z]{3}))?(?:[-_](?P<script>[a-z]{4}))?"
    r"(?:[-_](?P<region>[a-z]{2}|[0-9]{3}))?(?P<rest>(?:[-_][a-z0-9]{1,8})*)"
    r"(?:\.[a-z0-9_-]+)?(?:@(?P<modifier>[a-z0-9]+)(?:=[a-z0-9]+)?)?"
)
_MODIFIER_SCRIPTS = {"latin": "latn", "iqtelif": "latn", "cyrillic": "cyrl", "devanagari": "deva"}
_VARIANTS = frozenset(
    {"aranes", "ekavsk", "formal", "ijekavsk", "informal", "monoton", "oed", "oxendict", "polyton", "posix"}
    | {"tarask", "valencia"}
)
_ANDROID = (r"b\+(?P<tag>[a-z0-9+]+)", r"(?P<language>[a-z]{2,3})-r(?P<region>[a-z]{2}|[0-9]{3})")
# Languages so near to one whose script isn't known that they do for it.
_NEAR_IN_SCRIPT = {("srp", "latn"): ("bs", "hr")}


def _find_tag(spelling: str, among: Collection[Language] | None) -> Language | None:
    """Read BCP 47 (`zh-Hant-TW`), a POSIX locale (`sr_RS.UTF-8@latin`) or Android's `zh-rTW`, `b+sr+Cyrl`.

    None if it is none of them or its language is unknown; UnknownLanguage if only the script is.
    """
    # Compiled on first use, then cached by re.
    match = re.fullmatch(_TAG, _from_android(spelling), re.IGNORECASE | re.ASCII)
    if match is None or not _is_harmless(match["rest"]):
        return None
    parts = {name: part.lower() for name, part in match.groupdict().items() if part}
    code, known = parts["language"], _spellings()
    language = known.get(code)
    if "extended" in parts and language:
        # Only pairs that the table lists: zh-yue is one, but in zh-min-nan `min` is not Minangkabau.
        language, code = known.get(f"{code} {parts['extended']}"), parts["extended"]
    if language is None:
        return None
    # An individual code is taken at its word: ar-EG and ara-EG are Egyptian, arb-EG is Standard Arabic.
    codes = [code] if code in (language.iso1, language.iso3) or not language.iso1 else [code, language.iso1]
    script = parts.get("script") or _MODIFIER_SCRIPTS.get(parts.get("modifier", ""))
    for kind in filter(None, (script, parts.get("region"))):
        listed = [known[f"{code} {kind}"] for code in codes if f"{code} {kind}" in known]
        if listed and (kind == script or script in (None, listed[0].script.lower())):
            return listed[0]
    if script is None:
        return language
    variants = [other for other in all_languages() if other.iso3 == language.iso3]
    for other in [language, *variants]:
        if other.script.lower() == script:
            return other
    raise _unknown_script(spelling, script.capitalize(), variants, among)


def _from_android(spelling: str) -> str:
    """Android's names of resource folders as BCP 47; anything else as it is."""
    if whole := re.fullmatch(_ANDROID[0], spelling, re.IGNORECASE | re.ASCII):
        return whole["tag"].replace("+", "-")
    if parts := re.fullmatch(_ANDROID[1], spelling, re.IGNORECASE | re.ASCII):
        return f"{parts['language']}-{parts['region']}"
    return spelling


def _is_harmless(rest: str) -> bool:
    """Whether the end of a tag leaves the language what it is.

    Known variants, words with a digit (1996), and all after a singleton (-u-, -x-) do. So does a degree
    of politeness, which no model here is told. Other words may not:
    zh-xiang is another language than zh.
    """
    for part in re.split("[-_]", rest.lower())[1:]:
        if len(part) == 1:
            return True
        if part not in _VARIANTS and not (len(part) >= 4 and any(char.isdigit() for char in part)):
            return False
    return True


# ---- what to say when it fails ----


def _unknown(problem: str, nearest: Collection[Language]) -> UnknownLanguage:
    question = f" Did you mean {_list(nearest, ' or ')}?" if nearest else ""
    return UnknownLanguage(f"{problem}{question} List them with: dragoman languages")


def _unknown_script(
    spelling: str, script: str, known: list[Language], among: Collection[Language] | None
) -> UnknownLanguage:
    scripts = " and ".join(sorted({language.script_name for language in known}))
    name = known[0].name.split(" (")[0]
    problem = f"{_quote(spelling)}: I know {name} in {scripts} script, not in {_SCRIPTS.get(script, script)}."
    near = [_spellings()[code] for code in _NEAR_IN_SCRIPT.get((known[0].iso3, script.lower()), ())]
    return _unknown(problem, [each for each in [*known, *near] if among is None or each in among])


def _not_spoken(language: Language, spelling: str, among: Collection[Language]) -> UnknownLanguage:
    problem = f"{_quote(spelling)} is {language.name}, which this model doesn't speak."
    near = [*_relatives(language), *suggest(language.name, among)]
    near = [other for other in dict.fromkeys(near) if other in among][:3]
    if not among:
        spoken = "It speaks no language at all."
    elif len(among) <= 12:
        spoken = f"It speaks {_list(among)}."
    else:
        spoken = f"Nearest to it: {_list(near)}." if near else f"It speaks {len(among)} others."
    return UnknownLanguage(f"{problem} {spoken} List them with: dragoman languages")


def _relatives(language: Language) -> list[Language]:
    """Rows of the same language, and those its aliases begin with (`ar-EG` leads to arb_Arab)."""
    same = [other for other in all_languages() if other.iso3 == language.iso3 and other != language]
    heads = [alias.split("-")[0] for alias in language.aliases if "-" in alias]
    return same + [_spellings()[head] for head in heads if len(head) == 2 and head in _spellings()]


def _list(languages: Collection[Language], joint: str = ", ") -> str:
    return joint.join(f"{language.short_code!r} ({language.name})" for language in languages)


def _quote(spelling: str) -> str:
    return repr(spelling if len(spelling) <= 40 else spelling[:40] + "…")
