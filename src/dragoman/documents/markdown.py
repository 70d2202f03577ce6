"""Markdown (CommonMark, with tables and strikethrough): its words, with all else as it stands.

markdown-it-py says what is a paragraph, a heading or a cell, and what in it is emphasis or a link; where that
stands in the file is found here, so that everything else is kept byte for byte.
"""

import itertools
import re
from collections.abc import Callable, Iterator, Sequence
from functools import cache
from typing import Any

from markdown_it import MarkdownIt
from markdown_it.rules_inline import StateInline
from markdown_it.token import Token

from dragoman.documents import html
from dragoman.documents.document import Collector, Document, Form, Mark, Part, Parts, paired, renumbered
from dragoman.documents.encodings import decode
from dragoman.documents.inline import Pairs
from dragoman.errors import InvalidDocument

_FRONT = re.compile(r"\A(---|\+\+\+)[ \t]*\r?\n(?:.*\r?\n)*?\1[ \t]*(?:\r?\n|\Z)")
# What is no Markdown of CommonMark's, and no words either: notes, boxes to tick, formulas.
_KEPT = re.compile(r"\[\^[^\]\s]{1,80}\]:?|\$\$[^$]+\$\$|\$(?=[^\s$\d])[^$\n]*[^\s$]\$(?!\w)")
_BOX = re.compile(r"\[[ xX]\](?=\s)")
_CODE = re.compile(r"(`+)(?!`)(.*?)(?<!`)\1(?!`)", re.DOTALL)
_AUTOLINK = re.compile(r"<([^<>\s]*)>")
_BREAK = re.compile(r"[ \t]*\\?\n[ \t]*")
_SPECIAL = re.compile(r"([\\`*_\[\]<>&~$])")
_BLOCK_START = re.compile(
    r"\A(?:(\d{1,9})([.)])(?=\s|$)|(?=[-+*](?:\s|$)|#{1,6}(?:\s|$)|>|=+\s*$|-+\s*$|:::|~~~|\|))"
)
_DIRECTIVE = re.compile(r"\A(?::::|\{[%:#])")


References = dict[str, Any]
"""What links may point to, by label, as markdown-it keeps them."""


class Unreadable(Exception):
    """Something in a line stands otherwise than it was read."""


def parse(data: bytes) -> Document:
    """A Markdown text. Raises InvalidDocument if it is no text."""
    found = Collector(decode(data))
    text = found.text
    front = _FRONT.match(text)
    head = front.end() if front else 0
    lines = _lines(text, head)
    env: dict[str, Any] = {}
    try:
        tokens = _parser().parse(text[head:], env)
    except RecursionError:
        raise InvalidDocument("the Markdown is nested too deeply") from None
    cell, row = 0, -1
    is_cell = False
    for token in tokens:
        if token.type in ("th_open", "td_open"):
            is_cell = True
        if token.type == "html_block" and token.map and token.level == 0:
            _add_html(found, lines[token.map[0]][0], lines[token.map[1] - 1][1])
        if token.type != "inline" or not token.map or not token.content.strip():
            continue
        first = token.map[0]
        if is_cell and first != row:
            cell, row = lines[first][0], first
        spans = _locate(text, lines, token, cell if is_cell else None)
        if spans is not None and not _DIRECTIVE.match(token.content):
            cell = spans[-1][1]
            breaks = [text[a[1] : b[0]] for a, b in itertools.pairwise(spans)]
            writer = _Writer(env.get("references", {}), breaks, is_cell)
            try:
                parts = inline(token.content, env.get("references", {}), breaks)
            except Unreadable:
                found.skip(spans[0][0])
            else:
                found.add(parts, spans[0][0], cell, Form(writer.write, writer.read))
        elif spans is None:
            found.skip(lines[first][0])
        is_cell = False
    return found.document()


def _add_html(found: Collector, start: int, end: int) -> None:
    """The texts of a block of HTML."""
    for parts, first, last, form in html.texts(found.text[start:end]):
        found.add(parts, start + first, start + last, form)


@cache
def _parser() -> MarkdownIt:
    parser = MarkdownIt("commonmark").enable(["table", "strikethrough"]).disable("inline")
    for name in ("link", "image"):
        rules = parser.inline.ruler.__rules__
        rule = next(rule for rule in rules if rule.name == name)
        parser.inline.ruler.at(name, _recording(rule.fn, 1 if name == "link" else 2))
    return parser


def _recording(rule: Any, width: int) -> Any:
    """The rule for links or images, which also notes where each ends: its label, and all of it."""

    def recording(state: StateInline, silent: bool) -> bool:
        start = state.pos
        if not rule(state, silent):
            return False
        if not silent:
            end, state.pos = state.pos, start
            label = state.md.helpers.parseLinkLabel(state, start + width - 1, False)
            state.pos = end
            state.env.setdefault("links", {})[state.src, start] = (label, end)
        return True

    return recording


def _lines(text: str, head: int) -> list[tuple[int, int]]:
    """Start and end of each line behind the first `head` characters, as markdown-it counts lines."""
    spans = []
    start = head
    for ending in re.finditer(r"\r\n|\r|\n", text[head:]):
        spans.append((start, head + ending.start()))
        start = head + ending.end()
    return [*spans, (start, len(text))]


def _locate(
    text: str, lines: Sequence[tuple[int, int]], token: Token, cell: int | None
) -> list[tuple[int, int]] | None:
    """Where each line of a token's content stands in the text; None where it is not as it was read."""
    assert token.map is not None
    spans = []
    for number, content in enumerate(token.content.split("\n"), token.map[0]):
        start, end = lines[number]
        content = content.strip()
        at = text.find(content, start if cell is None else cell, end)
        if cell is not None and at < 0:
            content = content.replace("|", "\\|")
            at = text.find(content, cell, end)
        if at < 0:
            return None
        spans.append((at, at + len(content)))
    return spans


class _Writer:
    """Reads and writes what stands in one place of a document."""

    def __init__(self, references: References, breaks: Sequence[str], is_cell: bool) -> None:
        """breaks: what the file has between the lines of it; is_cell: of a table."""
        self._references, self._is_cell = references, is_cell
        beginnings = sorted({line.lstrip(" \t\\") for line in breaks}, key=len, reverse=True)
        self._breaks = re.compile("|".join(map(re.escape, beginnings)) or r"\Z(?!)")

    def read(self, written: str) -> Parts:
        if self._is_cell:
            written = written.replace("\\|", "|")
        try:
            return inline(self._breaks.sub("\n", written), self._references, self._breaks.findall(written))
        except Unreadable:
            return ()

    def write(self, parts: Parts) -> str:
        """The Markdown that says these parts, with as few backslashes as it takes."""
        written = self._cell(_joined(parts, lambda words: words))
        if renumbered(self.read(written)) != renumbered(parts):
            written = self._cell(_joined(parts, lambda words: _SPECIAL.sub(r"\\\1", words)))
        start = None if self._is_cell or isinstance(parts[0], Mark) else _BLOCK_START.match(written)
        if start is None:
            return written
        number = start[1] or ""
        return f"{number}\\{written[len(number) :]}"

    def _cell(self, written: str) -> str:
        return re.sub(r"(?<!\\)\|", r"\\|", written) if self._is_cell else written


def _joined(parts: Parts, escape: Callable[[str], str]) -> str:
    return "".join(escape(part) if isinstance(part, str) else part.source for part in parts)


# ---- what is in a line -------------------------------------------------------------------------------------


def inline(content: str, references: References, breaks: Sequence[str] = ()) -> Parts:
    """The parts of a paragraph's content. breaks: what the file has between its lines.

    Raises Unreadable where what markdown-it read is not what stands there.
    """
    env: dict[str, Any] = {"references": references, "links": {}}
    children: list[Token] = []
    parser = _parser()
    parser.inline.parse(content, parser, env, children)
    return paired(list(_Walk(content, env["links"], breaks).parts(children)))


class _Walk:
    """Goes through a content and the tokens of it side by side."""

    def __init__(
        self, content: str, links: dict[tuple[str, int], tuple[int, int]], breaks: Sequence[str]
    ) -> None:
        self._content, self._links, self._breaks = content, links, list(breaks)
        self._at = 0
        self._pairs = Pairs()
        self._ends: list[
            tuple[int, int, int]
        ] = []  # of open links: where the label begins and ends, and all of it

    def parts(self, tokens: Sequence[Token]) -> Iterator[Part]:
        tokens = [token for token in tokens if token.type != "text" or token.content]
        place = 0
        while place < len(tokens):
            token = tokens[place]
            if token.type == "link_open" and token.markup == "autolink":
                yield self._matched(_AUTOLINK, reads=1)
                place += 3
                continue
            yield from self._part(token)
            place += 1
        if self._content[self._at :].strip():
            raise Unreadable

    def _part(self, token: Token) -> Iterator[Part]:
        kind = token.type
        if kind == "text":
            yield from _kept(self._take(token.content), self._at == len(token.content))
        elif kind == "text_special":
            self._take(token.markup)
            yield token.content
        elif kind == "code_inline":
            yield self._matched(_CODE, reads=2)
        elif kind == "html_inline":
            yield self._pairs.tag(self._take(token.content))
        elif kind in ("softbreak", "hardbreak"):
            yield self._line_break(kind)
        elif kind == "link_open":
            label, end = self._link()
            yield self._pairs.opening(self._take("["), "link")
            self._ends.append((self._at, label, end))
        elif kind == "link_close":
            yield self._pairs.closing(self._rest(*self._ends.pop()), "link")
        elif kind == "image":
            yield from self._image(token)
        elif kind.endswith("_open"):
            yield self._pairs.opening(self._take(token.markup), token.markup)
        elif kind.endswith("_close"):
            yield self._pairs.closing(self._take(token.markup), token.markup)
        else:
            raise Unreadable

    def _take(self, raw: str) -> str:
        if not self._content.startswith(raw, self._at):
            raise Unreadable
        self._at += len(raw)
        return raw

    def _matched(self, pattern: re.Pattern[str], reads: int) -> Mark:
        match = pattern.match(self._content, self._at)
        if match is None:
            raise Unreadable
        self._at = match.end()
        return Mark(match[0], reads=match[reads].strip())

    def _line_break(self, kind: str) -> Part:
        match = _BREAK.match(self._content, self._at)
        if match is None:
            raise Unreadable
        self._at = match.end()
        between = self._breaks.pop(0) if self._breaks else "\n"
        if kind == "softbreak":
            return " "
        return Mark(match[0][: match[0].index("\n")] + between.lstrip(" \t\\"), reads="\n")

    def _link(self) -> tuple[int, int]:
        """Where the label of the link or image that begins here ends, and all of it."""
        found = self._links.get((self._content, self._at))
        if found is None:
            raise Unreadable
        return found

    def _rest(self, start: int, label: int, end: int) -> str:
        """What a link has behind its label."""
        if label != self._at:
            raise Unreadable
        self._at = end
        rest = self._content[label:end]
        # A link by its own words would point nowhere once they are translated.
        return f"][{self._content[start:label]}]" if rest in ("]", "][]") else rest

    def _image(self, token: Token) -> Iterator[Part]:
        label, end = self._link()
        alternative = token.children or []
        if any(child.type not in ("text", "text_special") for child in alternative):
            yield Mark(self._take(self._content[self._at : end]))
            return
        yield self._pairs.opening(self._take("!["), "image")
        yield "".join(child.content for child in alternative)
        start, self._at = self._at, label
        yield self._pairs.closing(self._rest(start, label, end), "image")


def _kept(words: str, are_first: bool) -> Iterator[Part]:
    """Words, with what among them is none; the first of a paragraph may have a box to tick."""
    done = 0
    box = _BOX.match(words) if are_first else None
    if box:
        yield Mark(box[0])
        done = box.end()
    for match in _KEPT.finditer(words, done):
        yield words[done : match.start()]
        yield Mark(match[0], reads=match[0] if match[0].startswith("$") else "")
        done = match.end()
    yield words[done:]
