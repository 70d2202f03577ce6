"""How many more tokens a translation takes than its source: what a guard against endless output has to allow.

Languages differ in how many characters they need for the same (`data/lengths.tsv`, means of FLORES-200
devtest over English; languages without a row are taken for long). Tokenizers differ in how many tokens
they cut those into: Llama's cuts Gujarati into bytes and takes twelve times as many as for English. So
each tokenizer is asked itself, about the language's common words where there is a list of them.
`recipes/vocabulary/lengths.py` makes the table and says how many translations a cap would cut.
"""

from collections.abc import MutableMapping
from functools import cache
from weakref import WeakKeyDictionary

from dragoman.languages import Language
from dragoman.text.scripts import script_of
from dragoman.text.tokenizers import LlamaTokenizer, MultilingualTokenizer
from dragoman.text.words import word_list

Tokenizer = MultilingualTokenizer | LlamaTokenizer

_WORDS = 512
"""How many common words are cut to see how fine a tokenizer cuts a language."""
_LIST, _NAME = 1.15, 1.5
"""Text has longer words than a list of the commonest, and more so than the language's own name."""
_LEAST = 0.5
"""Tokens a character of a language of which only the name is known, at the least."""
_LONG, _SHORT = 1.25, 0.75
"""Characters of an unknown language for one of English: as a target, as a source."""


def growth(tokenizer: Tokenizer, source: Language, target: Language) -> float:
    """How many tokens a translation into `target` takes for one of its source, rather too many."""
    known = _characters()
    longer = known.get(target.nllb, _LONG) / known.get(source.nllb, _SHORT)
    return longer * _rate(tokenizer, target, most=True) / _rate(tokenizer, source, most=False)


_rates: WeakKeyDictionary[Tokenizer, MutableMapping[tuple[str, bool], float]] = WeakKeyDictionary()


def _rate(tokenizer: Tokenizer, language: Language, most: bool) -> float:
    """Tokens a character, the most or the least that seems likely."""
    rates = _rates.setdefault(tokenizer, {})
    key = language.nllb, most
    if key not in rates:
        rates[key] = _measured(tokenizer, language, most)
    return rates[key]


def _measured(tokenizer: Tokenizer, language: Language, most: bool) -> float:
    words = word_list(language.nllb)[:_WORDS]
    lead = " " if language.writes_spaces else ""
    if words:
        text = lead.join(words)
        rate = len(tokenizer.encode_pieces([text])[0]) / len(text)
        return rate * _LIST if most else rate
    name = language.own_name
    rate = len(tokenizer.encode_pieces([name])[0]) / len(name)
    letters = [character for character in dict.fromkeys(name) if script_of(character)]
    alone = sum(map(len, tokenizer.encode_pieces(letters))) / max(len(letters), 1)
    return min(max(_NAME * rate, _LEAST), max(alone, _LEAST)) if most else min(rate, _LEAST / 2)


@cache
def _characters() -> dict[str, float]:
    from importlib.resources import files  # late: it costs more than the rest of this module

    text = files("dragoman.data").joinpath("lengths.tsv").read_text(encoding="utf-8")
    rows = (line.split("\t") for line in text.splitlines()[1:])
    return {code: float(characters) for code, characters in rows}
