"""A segment taken apart: what is around it, what in it stays, and the words between."""

from collections.abc import Iterator

from dragoman.documents.document import Mark, Part, Parts
from dragoman.text.markup import kept_spans


class Kept(str):
    """Words that no translation changes."""

    __slots__ = ()


def is_kept(part: Part) -> bool:
    return isinstance(part, Kept)


def protected(parts: Parts) -> list[Part]:
    """The same with what in words is no language (`text.markup`) apart, as `Kept`."""
    result: list[Part] = []
    for part in parts:
        if isinstance(part, Mark):
            result.append(part)
            continue
        done = 0
        for start, end in kept_spans(part):
            result += [part[done:start], Kept(part[start:end])]
            done = end
        result.append(part[done:])
    return [part for part in result if part != ""]


def peeled(parts: Parts) -> tuple[Parts, Parts, Parts]:
    """What can stay outside of a translation: blanks, unseen marks and pairs at both ends of a segment.

    Returns what is before, what is to be translated, and what is behind.
    """
    middle = list(parts)
    before: list[Part] = []
    after: list[Part] = []
    while middle:
        first, last = middle[0], middle[-1]
        if isinstance(first, str) and (inner := first.lstrip()) != first:
            before.append(first[: len(first) - len(inner)])
            middle[:1] = [inner] if inner else []
        elif isinstance(last, str) and (inner := last.rstrip()) != last:
            after.append(last[len(inner) :])
            middle[-1:] = [inner] if inner else []
        elif _is_unseen(first):
            before.append(middle.pop(0))
        elif _is_unseen(last):
            after.append(middle.pop())
        elif isinstance(first, Mark) and isinstance(last, Mark) and _are_pair(first, last):
            before.append(middle.pop(0))
            after.append(middle.pop())
        else:
            break
    return tuple(before), tuple(middle), tuple(reversed(after))


def pieces(parts: Parts) -> Iterator[tuple[Part, bool]]:
    """Parts one by one, and whether each is words to translate by themselves."""
    for part in protected(parts):
        is_words = isinstance(part, str) and not is_kept(part)
        yield part, is_words and any(map(str.isalpha, str(part)))


def collapsed(parts: Parts) -> tuple[Parts, dict[int, Parts]]:
    """The same with one mark in place of each outermost pair, and what is in those by their numbers."""
    result: list[Part] = []
    inside: dict[int, Parts] = {}
    opening: Mark | None = None
    words: list[Part] = []
    for part in parts:
        if opening is not None:
            words.append(part)
            if isinstance(part, Mark) and part.kind == "close" and part.number == opening.number:
                inside[opening.number] = (opening, *words)
                result.append(Mark("", "kept", opening.number, reads="#"))
                opening, words = None, []
        elif isinstance(part, Mark) and part.kind == "open":
            opening = part
        else:
            result.append(part)
    return tuple(result), inside


def _is_unseen(part: Part) -> bool:
    return isinstance(part, Mark) and part.kind == "kept" and not part.reads.strip()


def _are_pair(first: Mark, last: Mark) -> bool:
    return (first.kind, last.kind) == ("open", "close") and first.number == last.number
