"""The part of a tokenizer's vocabulary that one target language needs.

Most of NLLB's 256,000 tokens belong to other languages than the one being written, and yet each of them
is scored at each step. `target_vocabulary` chooses those worth scoring for a language, `source_tokens` adds
what a sentence brings along: names and numbers are copied. What is left out can still be spelled with
shorter tokens, so every text stays possible; but a model spells worse than it writes.

No ids are stored. A language shows in the letters of the pieces (py3langid knows its n-grams) and in a
list of its common words (`data/words`), and both are asked about whatever tokenizer is loaded. Each makes
up for the other: letters tell 122 of NLLB's languages, but take names and loan words for foreign; words
tell 34, some of them only in everyday matters. Frequency alone, without either, loses a fifth of a text's
tokens. Measured on 256,000 pieces trained on 58 languages, a stand-in for NLLB's: 32,000 of them and the
tokens of the English source hold 98.9 to 100 % of the tokens of FLORES-200 in 16 languages with a list, and
97.7 % in one without. So many are the default as rows are cheap by then: 8,000 more of NLLB-600M's weigh
a twenty-fifth of a decoder step. `recipes/vocabulary` has the figures.
"""

import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import chain, islice
from weakref import WeakKeyDictionary

from dragoman.errors import InvalidOption, InvalidText
from dragoman.languages import Language
from dragoman.text.piece_languages import PieceLanguages
from dragoman.text.scripts import is_own_spelling, script_of, scripts_of
from dragoman.text.tokenizers.llama import LlamaTokenizer
from dragoman.text.tokenizers.llama_backends import FIRST_BYTE, HEAD
from dragoman.text.tokenizers.multilingual import MultilingualTokenizer
from dragoman.text.words import word_list

Tokenizer = MultilingualTokenizer | LlamaTokenizer

SPACE = "▁"
_WORD = re.compile(r"[^\W\d_]+")
_LINES = 4096
"""How many lines of a text are cut at once."""
_WORDS = 32
"""How many words of a list are cut as one line. Words near each other are about as common."""
_FLATNESS = 500
"""The n-th commonest piece of a script is taken to occur 1 / (n + 500) times as often as one might."""


def target_vocabulary(
    tokenizer: Tokenizer, language: Language, size: int | None = 32_000, text: Iterable[str] | None = None
) -> list[int]:
    """The ids of the tokens to write a language with, ascending: `size` of them, in this order.

    1. Always, even beyond `size`: `</s>`, `<unk>`, the language's code, bytes, all tokens without letters,
       and each single letter of the language's scripts and of ASCII.
    2. What `text` is made of, the commonest first: lines in the language, of the kind to be translated.
    3. What the bundled list of the language's common words is made of (34 languages have one).
    4. Tokens in the language's scripts, the likeliest first: by their place in the vocabulary, which is
       by frequency, times the probability that a text with such letters is in the language, which
       py3langid knows for three fifths of NLLB's languages. Of Chinese and Japanese the national
       character sets decide instead.

    `size=None` keeps all of these tokens, and so does a language of which neither list, `text` nor
    py3langid tells anything: in a script shared by many, frequency alone would drop what it needs.

    InvalidOption for a size below 1; InvalidText if `text` is a str or holds something else than str.
    """
    if size is not None and (isinstance(size, bool) or not isinstance(size, int) or size < 1):
        raise InvalidOption(
            f"the size of a vocabulary is {size!r}; it must be a whole number from 1, or None"
        )
    pieces = _pieces(tokenizer)
    kept = dict.fromkeys([*_special(tokenizer, language), *pieces.indispensable(scripts_of(language))])
    told = _tokens_of(tokenizer, text) if text is not None else []
    listed = _tokens_of_list(tokenizer, language)
    ordered, known = pieces.by_likelihood(language)
    limit = size if size is not None and (told or listed or known) else len(tokenizer)
    for token in chain(told, listed, ordered):
        if len(kept) >= limit:
            break
        kept[token] = None
    return sorted(kept)


def source_tokens(tokenizer: Tokenizer, ids: Iterable[int]) -> list[int]:
    """The tokens that a translation may copy from a source's ids, ascending.

    They are the source's own, and those of its words in lower case, capitalised, in capitals, and without
    a space in front. It takes 0.1 ms for a sentence.
    """
    pieces = _pieces(tokenizer)
    own = [i for i in ids if 0 <= i - pieces.first < len(pieces.names)]
    text = tokenizer.decode(own)
    cased = [word for word in _WORD.findall(text) if word.lower() != word.upper()]
    variants = [" ".join(map(change, cased)) for change in (str.lower, str.capitalize, str.upper)]
    # A bracket hardly ever makes one token with a word.
    variants += ["(" + text.replace(" ", "(")] if own else []
    return sorted({*own, *chain(*tokenizer.encode_pieces(variants))})


# ---- the pieces of a tokenizer -----------------------------------------------------------------------------


@dataclass
class _Pieces:
    """What letters tell about the pieces of a tokenizer; it takes 0.4 s for NLLB's."""

    first: int
    """The id of the first piece; the others follow."""
    names: list[str]
    groups: dict[frozenset[str], list[int]]
    """The ids by the scripts of their letters, ascending; no script for those without letters."""
    letters: dict[str, list[int]]
    """The ids of single letters, with a space in front or without, by script; "" has those of ASCII."""
    likelihoods: dict[frozenset[str], PieceLanguages] = field(default_factory=dict)

    def indispensable(self, scripts: frozenset[str]) -> Iterator[int]:
        """Pieces without letters, and single letters of the scripts and of ASCII."""
        yield from self.groups.get(frozenset(), [])
        for script in ("", *scripts):
            yield from self.letters.get(script, [])

    def in_scripts(self, scripts: frozenset[str]) -> list[int]:
        """Pieces with letters of these scripts only, the commonest first."""
        fitting = [ids for found, ids in self.groups.items() if found and found <= scripts]
        return sorted(chain(*fitting))

    def by_likelihood(self, language: Language) -> tuple[list[int], bool]:
        """Pieces in the language's scripts, the likeliest first; whether that tells more than frequency."""
        scripts = scripts_of(language)
        ids = self.in_scripts(scripts)
        if "Hani" in scripts:
            return sorted(ids, key=lambda i: (self._strangeness(i, language), i)), True
        if scripts not in self.likelihoods:
            names = [self.names[i - self.first] for i in ids]
            self.likelihoods[scripts] = PieceLanguages(names, language.script)
        surprise = self.likelihoods[scripts].surprise(language.nllb)
        if surprise is None:
            return ids, False
        import numpy as np

        cost = np.log(np.arange(len(ids)) + _FLATNESS) + surprise
        return np.array(ids)[np.argsort(cost, kind="stable")].tolist(), True

    def _strangeness(self, token: int, language: Language) -> int:
        """0 for a piece that Japanese alone would write, 2 for one that the language's country wouldn't."""
        name = self.names[token - self.first].replace(SPACE, "")
        if not is_own_spelling(name, language):
            return 2
        return 0 if any(script_of(character) == "Kana" for character in name) else 1


_known: WeakKeyDictionary[Tokenizer, _Pieces] = WeakKeyDictionary()


def _pieces(tokenizer: Tokenizer) -> _Pieces:
    if tokenizer not in _known:
        first, end = _range(tokenizer)
        _known[tokenizer] = _classify(first, tokenizer.tokens(range(first, end)))
    return _known[tokenizer]


def _range(tokenizer: Tokenizer) -> tuple[int, int]:
    """The ids of pieces of text: the first, and the one behind the last."""
    if isinstance(tokenizer, MultilingualTokenizer):
        ids = tokenizer.layout.piece_ids
        return ids.start, ids.stop
    return len(HEAD), tokenizer.vocabulary


def _special(tokenizer: Tokenizer, language: Language) -> list[int]:
    """What isn't text, but may be generated, or stands for text."""
    always = [tokenizer.eos_id, tokenizer.unk_id]
    if isinstance(tokenizer, MultilingualTokenizer):
        return [*always, tokenizer.language_id(language.nllb), *tokenizer.byte_ids]
    return [*always, *range(FIRST_BYTE, len(HEAD))]


def _classify(first: int, names: list[str]) -> _Pieces:
    groups: dict[frozenset[str], list[int]] = {}
    letters: dict[str, list[int]] = {}
    for token, name in enumerate(names, start=first):
        scripts = frozenset(map(script_of, name)) - {""}
        groups.setdefault(scripts, []).append(token)
        if len(name) <= 2 and scripts and len(letter := name.replace(SPACE, "")) == 1:
            letters.setdefault("" if letter.isascii() else next(iter(scripts)), []).append(token)
    return _Pieces(first, names, groups, letters)


# ---- the tokens of texts -----------------------------------------------------------------------------------


def _tokens_of(tokenizer: Tokenizer, text: Iterable[str]) -> list[int]:
    """The tokens of a text, the commonest first."""
    if isinstance(text, str):
        raise InvalidText("the text for a vocabulary is a str; give its lines: text.splitlines()")
    counts: Counter[int] = Counter()
    lines = iter(text)
    while chunk := list(islice(lines, _LINES)):
        for row in tokenizer.encode_pieces(chunk):
            counts.update(row)
    return [token for token, _ in counts.most_common()]


def _tokens_of_list(tokenizer: Tokenizer, language: Language) -> list[int]:
    """The tokens of the bundled words, the commonest first."""
    words = word_list(language.nllb)
    # Without spaces words stand behind others, which a bracket stands in for.
    lead = " " if language.writes_spaces else "("
    lines = [lead + lead.join(words[i : i + _WORDS]) for i in range(0, len(words), _WORDS)]
    weights: defaultdict[int, float] = defaultdict(float)
    for place, row in enumerate(tokenizer.encode_pieces(lines)):
        for token in row:
            weights[token] += 1 / (place + 0.5)  # by Zipf's law
    found = sorted(weights, key=weights.__getitem__, reverse=True)
    return found if language.writes_spaces else [*found, *_respaced(tokenizer, found)]


def _respaced(tokenizer: Tokenizer, ids: Iterable[int]) -> list[int]:
    """The same pieces with a space in front where there was none, and the other way round."""
    names = tokenizer.tokens(ids)
    changed = [name[1:] if name.startswith(SPACE) else SPACE + name for name in names]
    found = [tokenizer.token_to_id(name) for name in changed]
    first, end = _range(tokenizer)
    return [token for token in found if token is not None and first <= token < end]
