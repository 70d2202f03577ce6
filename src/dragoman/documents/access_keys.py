"""Access keys: the sign in an interface's strings before the letter that works together with Alt.

`&Open` (Qt, KDE, wxWidgets, Windows), `_Open` (GTK) and `~Open` (LibreOffice). A model can't know what
that is, so that it sees the string without it. The translation gets the sign before the same letter if a word
begins with it, else before its first letter. Chinese, Japanese and Korean have no such letters: there the key
follows in brackets, `開く(&O)`. An interface uses one of the signs: which one its strings have to show.
"""

import re
from collections import Counter
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from html.entities import html5

from dragoman.documents.document import Parts, merged

_LABEL = re.compile(r"([&_~])(\w+)")
_NAME = re.compile(r"&\w*")
_MANY, _SHARE = 3, 0.1
"""So many strings of a file, or such a share of them, have to begin with a sign and a capital."""
_LONGEST = 60
_SENTENCE = re.compile(r"(?<!\.)[.!?。]\s*$")
"""How no menu's or button's string ends: `...` may."""
_HIDDEN = re.compile(
    r"%\(\w*\)\w|%[\w$.+-]*[&_~]?\w|\$?\{[^{}]*\}|<[^<>]*>|\$\w+"  # placeholders and tags
    r"|&lt;[^<>&]*&gt;|&#?\w+;|&&|__|~~"  # tags that are shown, entities, a sign that is one
    r"|\b\w+\+\w+|\S*(?://|[\\@=])\S*"  # shortcuts, addresses, paths, assignments
)
_LETTER = r"[^\W\d_]"
_KEY = {sign: re.compile(rf"(?<![^\s\"'«“„¿¡]){sign}(?={_LETTER})") for sign in "&_~"}
_WITHIN = re.compile(r"\b[^\W\d_]&(?=[a-z])|(?<=[^\W\d_])&(?=[a-z]\b)")
"""`E&xit` and `Prin&t`; but `R&D` is none, and `Drag&drop` may be none."""
_WORD = re.compile(_LETTER)
_FIRST_OF_EAST_ASIA = "\u2e80"


@dataclass(frozen=True)
class AccessKey:
    """A sign, and the letter behind it."""

    sign: str
    letter: str

    def put(self, parts: Parts) -> Parts:
        """The parts of a translation with the key in them; as they are if they have no letter."""
        places = [(number, at) for number, part in enumerate(parts) for at in _letters(part)]
        if not places:
            return parts
        same = [place for place in places if self._begins_a_word(parts, *place)]
        number, at = [*same, *places][0]
        key = self.sign
        if not same and str(parts[number])[at] >= _FIRST_OF_EAST_ASIA:
            number, at = places[-1]
            at += 1
            key = self._bracketed
        text = str(parts[number])
        return merged([*parts[:number], text[:at] + key + text[at:], *parts[number + 1 :]])

    def taken(self, parts: Parts) -> Parts:
        """The parts without what `put` has put there; as they are if it hasn't."""
        return next((bare for bare in self._barer(parts) if self.put(bare) == parts), parts)

    @property
    def _bracketed(self) -> str:
        upper = self.letter.upper()
        return f"({self.sign}{upper if len(upper) == 1 else self.letter})"

    def _barer(self, parts: Parts) -> Iterator[Parts]:
        """The parts, each time without something that could be the key."""
        written = re.compile(f"{re.escape(self._bracketed)}|{self.sign}")
        for number, part in enumerate(parts):
            for found in written.finditer(_hidden(part)) if isinstance(part, str) else ():
                text = str(part)[: found.start()] + str(part)[found.end() :]
                yield merged([*parts[:number], text, *parts[number + 1 :]])

    def _begins_a_word(self, parts: Parts, number: int, at: int) -> bool:
        text = str(parts[number])
        return text[at].casefold() == self.letter.casefold() and not (at and text[at - 1].isalnum())


def sign_of(texts: Collection[str]) -> str | None:
    """Which sign the strings of an interface have before their access keys; None if they show none."""
    found: Counter[str] = Counter()
    for text in texts:
        label = _LABEL.match(text)
        if label and label[2][0].isupper() and _is_label(text) and not _is_entity(label[0]):
            found[label[1]] += 1
    if not found:
        return None
    sign, count = found.most_common(1)[0]
    return sign if count >= min(_MANY, max(1, _SHARE * len(texts))) else None


def access_key(text: str, sign: str) -> tuple[AccessKey, str] | None:
    """The access key of a string, and the string without it; None if it has none, or what may be none."""
    if sign not in text or not _is_label(text):
        return None
    plain = _hidden(text)
    found = [match.end() - 1 for match in _KEY[sign].finditer(plain)]
    if sign == "&":
        found += [match.end() - 1 for match in _WITHIN.finditer(plain)]
    if len(found) != 1 or plain.count(sign) != 1:
        return None
    at = found[0]
    name = _NAME.match(text, at)
    if name is not None and _is_entity(name[0]):
        return None
    return AccessKey(sign, text[at + 1]), text[:at] + text[at + 1 :]


def _is_label(text: str) -> bool:
    return len(text) <= _LONGEST and not _SENTENCE.search(text)


def _is_entity(word: str) -> bool:
    """`&copy` and the like, which HTML reads without a semicolon, too."""
    return word[:1] == "&" and word[1:] in html5


def _hidden(text: str) -> str:
    """A text with placeholders, tags and the like made unreadable, as long as it was."""
    return _HIDDEN.sub(lambda found: "\0" * len(found[0]), text)


def _letters(part: object) -> list[int]:
    """Where letters are that a key may be."""
    return [letter.start() for letter in _WORD.finditer(_hidden(part))] if isinstance(part, str) else []
