"""Access keys: the sign in an interface's strings before the letter that works together with Alt.

`&Open` (Qt, KDE, wxWidgets, Windows), `_Open` (GTK) and `~Open` (LibreOffice). A model can't know what
that is, so that it sees the string without it; the translation gets the sign before the same letter, if any,
else before its first one. Chinese, Japanese and Korean have no such letters: there the key follows in
brackets, `開く(&O)`.
"""

import re
from dataclasses import dataclass

from dragoman.documents.document import Parts, merged

# Within a word (`E&xit`) only `&`, as `_` joins words of programs, and only what is no abbreviation (`R&D`).
_KEY = re.compile(r"(?<!\w)[&_~](?=[^\W\d_])|(?<=[^\W\d_])&(?=[a-z])")
_ENTITY = re.compile(r"&#?\w+;")
_SIGNS = re.compile(r"[&_~]")
_ELSE = re.compile(r"://|\w=")
"""Of addresses and of what programs are told, whose signs are no keys."""
_PLACEHOLDER = re.compile(r"%\(\w+\)\w|%[\w$.+-]+|\$?\{[^{}]*\}|<[^<>]*>")
_LETTER = re.compile(r"[^\W\d_]")
_END = re.compile(r"[\s.…:：。]*\Z")
_FIRST_OF_EAST_ASIA = "\u2e80"


@dataclass(frozen=True)
class AccessKey:
    """A sign, and the letter behind it."""

    sign: str
    letter: str

    def put(self, parts: Parts) -> Parts:
        """The parts of a translation with the key in them; as they are if they have no letter."""
        places = [
            (number, at)
            for number, part in enumerate(parts)
            if isinstance(part, str)
            for at in _letters(part)
        ]
        if not places:
            return parts
        same = [place for place in places if self._is_at(parts, *place)]
        begins = [(number, at) for number, at in same if not _is_within_word(parts, number, at)]
        number, at = [*begins, *same, *places][0]
        key = self.sign
        if not same and str(parts[number])[at] >= _FIRST_OF_EAST_ASIA:
            number = places[-1][0]
            at = next(_END.finditer(str(parts[number]))).start()
            key = f"({self.sign}{self.letter.upper()})"
        text = str(parts[number])
        return merged([*parts[:number], text[:at] + key + text[at:], *parts[number + 1 :]])

    def taken(self, parts: Parts) -> Parts:
        """The parts without what `put` has put there."""
        sign = re.compile(rf"\({self.sign}[A-Z]\)|{self.sign}(?=[^\W\d_])")
        for number, part in enumerate(parts):
            match = sign.search(part) if isinstance(part, str) else None
            if match is not None:
                text = str(part)[: match.start()] + str(part)[match.end() :]
                return merged([*parts[:number], text, *parts[number + 1 :]])
        return parts

    def _is_at(self, parts: Parts, number: int, at: int) -> bool:
        return str(parts[number])[at].casefold() == self.letter.casefold()


def access_key(text: str) -> tuple[AccessKey, str] | None:
    """The access key of a string, and the string without it; None if it has none, or what may be none."""
    plain = _ENTITY.sub(lambda entity: "x" * len(entity[0]), text)
    match = _KEY.search(plain)
    if match is None or len(_SIGNS.findall(plain)) != 1 or _ELSE.search(text):
        return None
    at = match.start()
    return AccessKey(text[at], text[at + 1]), text[:at] + text[at + 1 :]


def _letters(text: str) -> list[int]:
    """Where letters are that a key may be."""
    hidden = {at for found in _PLACEHOLDER.finditer(text) for at in range(*found.span())}
    return [letter.start() for letter in _LETTER.finditer(text) if letter.start() not in hidden]


def _is_within_word(parts: Parts, number: int, at: int) -> bool:
    return at > 0 and str(parts[number])[at - 1].isalnum()
