"""Paragraphs of runs, as Office Open XML writes text: each run has words and, before them, how they look.

A paragraph's runs of one style are one text; a style of its own within it is a pair of marks, and so are
elements around runs. What else stands in a paragraph is kept where it is among the words.
"""

from collections import Counter
from collections.abc import Callable, Container, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache, partial

from dragoman.documents import xml
from dragoman.documents.document import Collector, Form, Mark, Part, Parts, merged, paired, plain
from dragoman.documents.inline import Pairs
from dragoman.errors import InvalidDocument

_FIRST_STYLE = 1 << 20
"""Pairs of styles are numbered from here on, above those of elements."""
_STYLE = "style:"
"""Begins the source of a mark that stands for the properties of runs."""


@dataclass(frozen=True, slots=True)
class Words:
    """Words, and the properties of their run as they are written; None for words in no run."""

    text: str
    style: str | None


Item = Words | Mark


def as_they_come(markup: "Markup", items: Iterable[Item], pairs: Pairs) -> Iterator[Item]:
    """What is in a paragraph, for formats in which nothing of it belongs together."""
    yield from items


@dataclass(frozen=True)
class Markup:
    """What a format calls its elements."""

    paragraphs: frozenset[str]
    run: str
    properties: str
    text: str
    style: Callable[[str], str]
    """How words look by the element of their properties: the same without what doesn't matter."""
    skipped: frozenset[str] = frozenset()
    """What is no part of a paragraph's text, and stays where it is: at its beginning or its end."""
    dropped: frozenset[str] = frozenset()
    """What a paragraph with other words doesn't need."""
    wrappers: frozenset[str] = frozenset()
    """What may be around runs; anything else is kept as one."""
    reads: Mapping[str, str | None] = field(default_factory=dict)
    """What a reader sees of an element; None for the words in it."""
    space: str = ""
    """The attribute of a text that keeps its blanks."""
    unescape: Callable[[str], str] = str
    escape: Callable[[str], str] = str
    """What the format escapes beyond XML."""
    longest: int | None = None
    """Characters that a paragraph may have."""
    arrange: "Callable[[Markup, Iterable[Item], Pairs], Iterator[Item]]" = as_they_come
    """Finds among the items of a paragraph what belongs together."""


def find(
    found: Collector,
    markup: Markup,
    place: int,
    counts: bool = True,
    names: Sequence[str | None] = (),
    kept: Container[str] = (),
) -> int:
    """Collect the paragraphs of a file. Returns how many it has.

    place: of the first one; counts: whether others are further on, by one each; names: of the paragraphs;
    kept: what paragraphs say that stay as they are, with case folded.
    """
    form = cache(partial(_form, markup))
    number = 0
    for tokens in xml.elements(found.text, markup.paragraphs):
        for nth, start, end in _spans(markup, tokens):
            try:
                items = _items(markup, found.text[start:end])
            except InvalidDocument:  # a link or an insertion that goes on behind a text box
                found.skip(start)
                continue
            said = "".join(item.text for item in items if isinstance(item, Words))
            if said.casefold() in kept:
                continue
            base = _base(items)
            index = number + nth - 1
            name = names[index] if index < len(names) else None
            found.add(_styled(items, base), start, end, form(base), name, place + index * counts)
        number += sum(token.name in markup.paragraphs and token.kind != "close" for token in tokens)
    return number


def _form(markup: Markup, base: str | None) -> Form:
    return Form(partial(_write, markup, base), partial(_read, markup, base))


# ---- where texts are ---------------------------------------------------------------------------------------


def _spans(markup: Markup, tokens: Sequence[xml.Token]) -> Iterator[tuple[int, int, int]]:
    """The number of each paragraph in an element, and where its runs stand.

    Those before and behind a text box, which has paragraphs of its own, are apart.
    """
    ends = xml.ends(tokens)
    nested = [0]
    for token in tokens:
        nested.append(nested[-1] + (token.name in markup.paragraphs))
    number = 0
    for place, token in enumerate(tokens):
        number += token.name in markup.paragraphs and token.kind != "close"
        if token.name not in markup.paragraphs or token.kind != "open":
            continue
        at, last = place + 1, ends[place]
        run: list[int] = []
        while at < last:
            token = tokens[at]
            end = ends.get(at, at)
            if token.name in markup.skipped:
                at = end + 1
                continue
            whole = end > at and token.name not in markup.wrappers
            if whole and nested[end + 1] > nested[at]:
                yield from _span(tokens, run, number)
                run = []
            elif token.kind != "text":
                run += [at, end] if whole else [at]
            at = end + 1 if whole else at + 1
        yield from _span(tokens, run, number)


def _span(tokens: Sequence[xml.Token], run: Sequence[int], number: int) -> Iterator[tuple[int, int, int]]:
    if run:
        yield number, tokens[run[0]].start, tokens[run[-1]].end


# ---- what is in a text -------------------------------------------------------------------------------------


def _read(markup: Markup, base: str | None, written: str) -> Parts:
    parts = _styled(_items(markup, written), base)
    return () if markup.longest is not None and len(plain(parts)) > markup.longest else parts


def _items(markup: Markup, text: str) -> list[Item]:
    """The words and marks of a piece of a paragraph."""
    pairs = Pairs()
    found = (item for item in _each(markup, text, pairs) if isinstance(item, Mark) or item.text)
    return list(markup.arrange(markup, found, pairs))


def _each(markup: Markup, text: str, pairs: Pairs) -> Iterator[Item]:
    tokens = list(xml.tokens(text))
    ends = xml.ends(tokens)
    at = 0
    while at < len(tokens):
        token, end = tokens[at], ends.get(at, at)
        if token.name in markup.wrappers:
            yield pairs.tag(text[token.start : token.end])
            at += 1
            continue
        if token.name == markup.run and token.kind == "open":
            yield from _run(markup, text, tokens, ends, at)
        elif token.name == markup.text:
            yield Words(markup.unescape(_said(text, tokens[at : end + 1])), None)
        elif token.kind != "text" and token.name not in markup.dropped:
            reads = markup.reads.get(token.name, "")
            reads = _said(text, tokens[at : end + 1]).strip() if reads is None else reads
            yield Mark(text[token.start : tokens[end].end], reads=reads)
        at = end + 1


def _run(
    markup: Markup, text: str, tokens: Sequence[xml.Token], ends: Mapping[int, int], place: int
) -> Iterator[Item]:
    """What is in a run."""
    style = ""
    at = place + 1
    while at < ends[place]:
        token, end = tokens[at], ends.get(at, at)
        source = text[token.start : tokens[end].end]
        if token.name == markup.properties:
            style = markup.style(source)
        elif token.name == markup.text:
            yield Words(markup.unescape(_said(text, tokens[at + 1 : end])), style)
        elif token.kind != "text" and token.name not in markup.dropped:
            reads = "" if "type=" in source else markup.reads.get(token.name, "")
            yield Mark(f"<{markup.run}>{style}{source}</{markup.run}>", reads=reads or "")
        at = end + 1


def _said(text: str, tokens: Sequence[xml.Token]) -> str:
    return "".join(xml.words(text, token) for token in tokens)


def _base(items: Sequence[Item]) -> str | None:
    """The style of most words."""
    lengths: Counter[str | None] = Counter()
    for item in items:
        if isinstance(item, Words):
            lengths[item.style] += len(item.text)
    return max(lengths, key=lengths.__getitem__, default="")


def _styled(items: Sequence[Item], base: str | None) -> Parts:
    """Parts with a pair around words of another style than `base`."""
    parts: list[Part] = []
    current = base
    number = _FIRST_STYLE
    for item in items:
        wanted = item.style if isinstance(item, Words) else base if item.kind != "kept" else current
        if wanted != current:
            if current != base:
                parts.append(Mark(_STYLE, "close", number))
            if wanted != base:
                number += 1
                parts.append(Mark(_STYLE + (wanted or ""), "open", number))
            current = wanted
        parts.append(item.text if isinstance(item, Words) else item)
    if current != base:
        parts.append(Mark(_STYLE, "close", number))
    return paired(merged(parts))


def _write(markup: Markup, base: str | None, parts: Parts) -> str:
    styles = [base]
    pieces = []
    for part in parts:
        if isinstance(part, str):
            pieces.append(written(markup, Words(part, styles[-1])))
        elif not part.source.startswith(_STYLE):
            pieces.append(part.source)
        elif part.kind == "open":
            styles.append(part.source.removeprefix(_STYLE))
        elif part.kind == "close":
            styles.pop()
    return "".join(pieces)


def written(markup: Markup, words: Words) -> str:
    """A run of these words. Raises InvalidDocument for characters that XML can't have."""
    text = f"<{markup.text}{markup.space}>{xml.escaped(markup.escape(words.text))}</{markup.text}>"
    return text if words.style is None else f"<{markup.run}>{words.style}{text}</{markup.run}>"
