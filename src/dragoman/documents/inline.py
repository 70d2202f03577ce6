"""Tags between words, as pairs; and the tags in strings that hold words for a screen."""

import re
from collections import Counter

from dragoman.documents.document import Mark, Part, Parts, paired

TAG = re.compile(r"<(/?)([a-zA-Z][\w:.-]{0,60})((?:\s[^<>]{0,2000})?)(/?)>")
VOID = frozenset(
    [
        "area",
        "base",
        "br",
        "col",
        "embed",
        "hr",
        "img",
        "input",
        "link",
        "meta",
        "param",
        "source",
        "track",
        "wbr",
    ]
)


class Pairs:
    """Makes marks of tags as they come, with one number for both ends of a pair."""

    def __init__(self) -> None:
        self._count = 0
        self._open: list[tuple[str, int]] = []
        self._names: Counter[str] = Counter()

    def opening(self, source: str, name: str) -> Mark:
        self._count += 1
        self._open.append((name, self._count))
        self._names[name] += 1
        return Mark(source, "open", self._count)

    def closing(self, source: str, name: str) -> Mark:
        """The end of the innermost pair of that name; it stands alone if there is none."""
        if not self._names[name]:
            return Mark(source)
        while True:
            other, number = self._open.pop()
            self._names[other] -= 1
            if other == name:
                return Mark(source, "close", number)

    def tag(self, source: str) -> Mark:
        """A tag as HTML or XML write it."""
        match = TAG.fullmatch(source)
        if match is None:
            return Mark(source)
        name = match[2].lower()
        if match[1]:
            return self.closing(source, name)
        if match[4] or match[3].endswith("/") or name in VOID:
            return Mark(source, reads="\n" if name == "br" else "")
        return self.opening(source, name)


def tagged(text: str) -> Parts:
    """A string with its tags as marks."""
    if "<" not in text:
        return (text,) if text else ()
    pairs = Pairs()
    parts: list[Part] = []
    done = 0
    for match in TAG.finditer(text):
        parts += [text[done : match.start()], pairs.tag(match[0])]
        done = match.end()
    return paired([*parts, text[done:]])


def untagged(parts: Parts) -> str:
    """The string that `tagged` made parts of."""
    return "".join(part if isinstance(part, str) else part.source for part in parts)
