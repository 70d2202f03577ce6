"""Which script a character belongs to, and which scripts a language is written in.

Python knows no script property, but the names of the characters begin with it. For letters, marks and
digits of the languages here they agree with Unicode's Scripts.txt, but that letters which only annotate
(modifiers such as `ʰ`) belong to no script, and Hiragana and Katakana are one.
"""

import unicodedata
from functools import lru_cache

from dragoman.languages import Language

# The first word of a character's Unicode name tells its script.
_SCRIPT_WORDS = {
    "ARABIC": "Arab", "ARABIC-INDIC": "Arab", "ARMENIAN": "Armn", "BENGALI": "Beng", "BOPOMOFO": "Bopo",
    "CJK": "Hani", "CYRILLIC": "Cyrl", "DEVANAGARI": "Deva", "ETHIOPIC": "Ethi", "EXTENDED": "Arab",
    "FEMININE": "Latn", "GEORGIAN": "Geor", "GREEK": "Grek", "GUJARATI": "Gujr", "GURMUKHI": "Guru",
    "HANGUL": "Hang", "HEBREW": "Hebr", "HIRAGANA": "Kana", "IDEOGRAPHIC": "Hani", "KANNADA": "Knda",
    "KATAKANA": "Kana", "KATAKANA-HIRAGANA": "Kana", "KHMER": "Khmr", "LAO": "Laoo", "LATIN": "Latn",
    "MALAYALAM": "Mlym", "MASCULINE": "Latn", "MYANMAR": "Mymr", "OL": "Olck", "ORIYA": "Orya",
    "SINHALA": "Sinh", "TAMIL": "Taml", "TELUGU": "Telu", "THAI": "Thai", "TIBETAN": "Tibt",
    "TIFINAGH": "Tfng",
}  # fmt: skip
# The first words of letters and marks that go with any script.
_SHARED_WORDS = frozenset({"COMBINING", "ENCLOSING", "MICRO", "MODIFIER", "SUPERSCRIPT", "VARIATION"})
_SEVERAL = {"Hans": ("Hani",), "Hant": ("Hani", "Bopo"), "Jpan": ("Hani", "Kana")}
# Han characters that differ by country, as its own standard lists them.
_CHARACTER_SETS = {"Hans": "gb2312", "Hant": "big5hkscs", "Jpan": "euc_jis_2004"}


def scripts_of(language: Language) -> frozenset[str]:
    """The scripts of a language's letters, as `script_of` calls them: Japanese has `Hani` and `Kana`."""
    return frozenset(_SEVERAL.get(language.script, (language.script,)))


@lru_cache(maxsize=1 << 16)
def script_of(character: str) -> str:
    """The script of a letter, mark or digit (ISO 15924, or a word for one that no language here uses).

    "" for what goes with any script: punctuation, symbols, spaces, `0` to `9`, combining accents.
    """
    kind = unicodedata.category(character)[0]
    if character.isascii():
        return "Latn" if kind == "L" else ""
    if kind not in "LMN":
        return ""
    words = unicodedata.name(character, "").split(" ")
    word = words[1] if words[0] in ("FULLWIDTH", "HALFWIDTH") else words[0]
    if word in _SCRIPT_WORDS:
        return _SCRIPT_WORDS[word]
    return "" if kind == "N" or word in _SHARED_WORDS else word


def is_own_spelling(text: str, language: Language) -> bool:
    """Whether a text keeps to the characters of a language's country: no 漢 in simplified Chinese."""
    encoding = _CHARACTER_SETS.get(language.script)
    return encoding is None or all(fits(character, encoding) for character in text)


def letter_script(character: str) -> str:
    """The script of a letter; "" for anything else."""
    return script_of(character) if unicodedata.category(character).startswith("L") else ""


def chinese_scripts(text: str) -> set[str]:
    """Which of Hans and Hant the characters fit, by the character sets of the two; and Japanese (Kanji)."""
    simplified = sum(fits(character, "gb2312") and not fits(character, "big5") for character in text)
    traditional = sum(fits(character, "big5") and not fits(character, "gb2312") for character in text)
    if simplified == traditional:
        return {"Hans", "Hant", "Jpan"}
    return {"Hans" if simplified > traditional else "Hant", "Jpan"}


@lru_cache(maxsize=1 << 16)
def fits(character: str, encoding: str) -> bool:
    """Whether a character set of the standard library has the character."""
    try:
        character.encode(encoding)
    except UnicodeEncodeError:
        return False
    return True
