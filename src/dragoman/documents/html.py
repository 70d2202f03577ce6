"""HTML as it comes, well formed or not: its texts and the attributes that people read.

Tags are found as browsers find them, and never moved or mended, so that all between the texts is kept byte
for byte. White space in a text counts as one space.
"""

import html
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

from dragoman.documents.document import Collector, Form, Mark, Part, Parts, TextDocument, merged, paired
from dragoman.documents.encodings import Encoded, decode
from dragoman.documents.inline import VOID, Pairs

_PARTS_OF_PAGES = """
address article aside audio base blockquote body button canvas caption center col colgroup dd details
dialog dir div dl dt fieldset figcaption figure footer form frame frameset h1 h2 h3 h4 h5 h6 head header
hgroup hr html iframe input label legend li link main map menu meta nav noscript object ol optgroup
option p param picture pre script search section select source style summary svg table tbody td template
textarea tfoot th thead title tr track ul video
"""
_BOUNDARIES = frozenset(_PARTS_OF_PAGES.split())
_RAW = frozenset(("script", "style", "xmp", "noembed", "noframes", "iframe", "textarea", "title"))
_NEVER = frozenset(
    ("script", "style", "xmp", "noembed", "noframes", "iframe", "textarea", "svg", "math", "pre")
)
_CODE = frozenset(("code", "kbd", "samp", "var", "tt"))
_READ = ("title", "alt", "placeholder", "aria-label", "aria-description", "label", "summary")
_SAID_BY_META = ("description", "og:title", "og:description", "twitter:title", "twitter:description")

_START = re.compile(r"<(?:!--|!\[CDATA\[|[!?]|/?[a-zA-Z])")
_NAME = re.compile(r"</?([a-zA-Z][^\s/>]*)")
_TAG = re.compile(r"""</?([a-zA-Z][^\s/>]*+)(?:[^>"'=]++|=\s*(?:"[^"]*"|'[^']*')?|["'])*+>""")
_ATTRIBUTE = re.compile(r"""([^\s"'<>/=]+)(?:\s*=\s*("[^"]*"|'[^']*'|[^\s"'=<>`]+))?""")
_BLANKS = re.compile(r"[ \t\r\n\f]+")
_CHARSET = re.compile(
    rb"""<meta\s[^>]*?charset\s*=\s*["']?\s*([\w:.-]+)|<\?xml\s[^>]*?encoding\s*=\s*["']([\w.-]+)""", re.I
)
_XHTML = 'xmlns="http://www.w3.org/1999/xhtml"'
_LATIN = frozenset(("iso-8859-1", "latin1", "latin-1", "ascii", "us-ascii"))


class Token(NamedTuple):
    """A text, a tag, or something else between two places of a file."""

    kind: str  # "text", "open", "empty", "close", "kept", "other"
    start: int
    end: int
    name: str = ""


def parse(data: bytes) -> TextDocument:
    """An HTML file. Raises InvalidDocument if its bytes are no text."""
    found = Collector(decode(data, _charset(data), lambda character: f"&#{ord(character)};"))
    _Reader(found, _XHTML in found.text[:4096]).read()
    return found.document()


def texts(text: str) -> Iterator[tuple[Parts, int, int, Form]]:
    """The segments of a piece of HTML and where they are, without those within the tags of others."""
    found = Collector(Encoded(text.encode("utf-8", "surrogatepass"), text, "utf-8"))
    _Reader(found).read()
    for number, segment in enumerate(found.segments):
        if number not in found.within:
            yield segment.parts, found.starts[number], found.ends[number], found.forms[number]


def _charset(data: bytes) -> str | None:
    match = _CHARSET.search(data[:4096])
    if match is None:
        return None
    name = (match[1] or match[2]).decode("ascii").lower()
    return "cp1252" if name in _LATIN else "utf-8" if name.startswith("utf-16") else name


# ---- tokens ------------------------------------------------------------------------------------------------


def tokens(text: str, is_xml: bool = False) -> Iterator[Token]:
    """The tokens of HTML, one behind the other. is_xml: whether `<title/>` is all of an element."""
    at = 0
    while at < len(text):
        match = _START.search(text, at)
        start = match.start() if match else len(text)
        if start > at:
            yield Token("text", at, start)
        if match is None:
            return
        token = _token(text, start, match[0])
        if is_xml and token.kind == "open" and text[token.end - 2] == "/":
            token = token._replace(kind="empty")
        yield token
        at = token.end
        if token.kind == "open" and token.name in _RAW:
            closing = re.compile(rf"</{token.name}(?=[\s/>])", re.I).search(text, at)
            end = closing.start() if closing else len(text)
            if end > at:
                yield Token("text" if token.name == "title" else "other", at, end)
            at = end


def _token(text: str, start: int, begins: str) -> Token:
    for opening, closing in (("<!--", "-->"), ("<![CDATA[", "]]>"), ("<!", ">"), ("<?", ">")):
        if begins == opening:
            end = text.find(closing, start + len(opening))
            return Token("other", start, len(text) if end < 0 else end + len(closing))
    tag = _TAG.match(text, start)
    if tag is None:
        return Token("other", start, len(text))
    return Token("close" if begins.startswith("</") else "open", start, tag.end(), tag[1].lower())


def attributes(text: str, token: Token) -> Iterator[tuple[str, int, int]]:
    """The attributes of a tag: name, and where the value begins and ends, without quotation marks."""
    name = _NAME.match(text, token.start)
    assert name is not None
    for match in _ATTRIBUTE.finditer(text, name.end(), token.end - 1):
        if match[2] is not None:
            quoted = match[2][0] in "\"'"
            yield match[1].lower(), match.start(2) + quoted, match.end(2) - quoted


# ---- segments ----------------------------------------------------------------------------------------------


class _Reader:
    """Collects the segments of a file, whose tokens are never all in memory."""

    def __init__(self, found: Collector, is_xml: bool = False) -> None:
        self._found, self._text, self._is_xml = found, found.text, is_xml
        self._ends = self._kept_elements()

    def read(self) -> None:
        run: list[Token] = []
        done = 0
        for token in tokens(self._text, self._is_xml):
            if token.start < done:
                continue
            end, has_boundary = self._ends.get(token.start, (token.end, False))
            if token.name in _BOUNDARIES or has_boundary:
                self._add(run)
                run = []
                self._attributes(token, None)
            else:
                run.append(token)
                if end > token.end:
                    run.append(Token("kept", token.end, end))
            done = end
        self._add(run)

    def _kept_elements(self) -> dict[int, tuple[int, bool]]:
        """By where they begin, the elements in which nothing is translated.

        Returns where each ends, and whether it is or has a part of the page that no sentence goes on over.
        """
        waiting: dict[str, list[tuple[int, int] | None]] = {}
        ends = {}
        boundaries = 0
        for token in tokens(self._text, self._is_xml):
            if token.kind == "open" and token.name not in VOID:
                stays = self._stays(token)
                waiting.setdefault(token.name, []).append((token.start, boundaries) if stays else None)
            elif token.kind == "close" and (others := waiting.get(token.name)) and (opened := others.pop()):
                is_boundary = token.name in _BOUNDARIES
                ends[opened[0]] = token.end, is_boundary or boundaries > opened[1]
            boundaries += token.name in _BOUNDARIES
        return ends

    def _stays(self, token: Token) -> bool:
        """Whether nothing in this element is translated."""
        if token.name in _NEVER or token.name in _CODE:
            return True
        if "translate" not in self._text[token.start : token.end].lower():
            return False
        for name, start, end in attributes(self._text, token):
            value = self._text[start:end].lower()
            if (name == "translate" and value == "no") or (
                name == "class" and "notranslate" in value.split()
            ):
                return True
        return False

    def _add(self, run: Sequence[Token]) -> None:
        """The texts and tags of `run` as a segment, without the blanks around them."""
        first, last = 0, len(run)
        while first < last and self._is_blank(run[first]):
            first += 1
        while first < last and self._is_blank(run[last - 1]):
            last -= 1
        if first == last:
            return
        start, end = run[first].start, run[last - 1].end
        words = self._text[start:end]
        start += len(words) - len(words.lstrip(" \t\r\n\f"))
        end -= len(words) - len(words.rstrip(" \t\r\n\f"))
        outer = self._found.add(inline(self._text[start:end]), start, end, _FORM)
        for token in run[first:last]:
            self._attributes(token, outer)

    def _is_blank(self, token: Token) -> bool:
        return token.kind == "text" and not self._text[token.start : token.end].strip(" \t\r\n\f")

    def _attributes(self, token: Token, outer: int | None) -> None:
        """The attributes of a tag that people read. outer: the segment that the tag is in."""
        if token.kind not in ("open", "empty"):
            return
        found = {name: (start, end) for name, start, end in attributes(self._text, token)}
        if token.name == "html":
            self._found.languages += [found[name] for name in ("lang", "xml:lang") if name in found]
        if not found or (outer is not None and self._stays(token)):
            return
        for start, end in self._read(token, found):
            value = html.unescape(self._text[start:end])
            if self._text[start - 1] in "\"'":
                number = self._found.add((value,), start, end, _ATTRIBUTE_FORM)
                if number is not None and outer is not None:
                    self._found.within[number] = outer, token.start, token.end

    def _read(self, token: Token, found: Mapping[str, tuple[int, int]]) -> Iterator[tuple[int, int]]:
        yield from (found[name] for name in _READ if name in found)
        if "content" in found and token.name == "meta":
            about = found.get("name") or found.get("property")
            if about and self._text[slice(*about)].lower() in _SAID_BY_META:
                yield found["content"]
        if "value" in found and token.name == "input" and "type" in found:
            kind = self._text[slice(*found["type"])].lower()
            if kind in ("submit", "button", "reset"):
                yield found["value"]


def _ends(all_tokens: Sequence[Token]) -> dict[int, int]:
    """The numbers of the end tags of elements, by those of their start tags."""
    waiting: dict[str, list[int]] = {}
    ends = {}
    for place, token in enumerate(all_tokens):
        if token.kind == "open":
            waiting.setdefault(token.name, []).append(place)
        elif token.kind == "close" and waiting.get(token.name):
            ends[waiting[token.name].pop()] = place
    return ends


# ---- what is in a text -------------------------------------------------------------------------------------


def inline(text: str) -> Parts:
    """The parts of a text with tags."""
    found = list(tokens(text))
    ends = _ends(found)
    pairs = Pairs()
    parts: list[Part] = []
    place = 0
    while place < len(found):
        token = found[place]
        source = text[token.start : token.end]
        end = ends.get(place, place)
        if token.kind == "text":
            parts.append(html.unescape(source))
        elif token.kind == "open" and end > place and _stays_inline(source, token):
            last = found[end].end
            words = "".join(text[t.start : t.end] for t in found[place:end] if t.kind == "text")
            parts.append(Mark(text[token.start : last], reads=_BLANKS.sub(" ", html.unescape(words)).strip()))
            place = end
        elif token.kind == "other":
            parts.append(Mark(source))
        else:
            parts.append(pairs.tag(source))
        place += 1
    return paired(_one_space(merged(parts)))


def _stays_inline(source: str, token: Token) -> bool:
    if token.name in _CODE or token.name in _NEVER:
        return True
    return bool(
        re.search(r"""\stranslate\s*=\s*["']?no\b|\sclass\s*=\s*["'][^"']*\bnotranslate\b""", source, re.I)
    )


def _one_space(parts: Parts) -> list[Part]:
    return [part if isinstance(part, Mark) else _BLANKS.sub(" ", part) for part in parts]


def write(parts: Parts) -> str:
    return "".join(part.source if isinstance(part, Mark) else _escaped(part) for part in parts)


def _escaped(words: str) -> str:
    return html.escape(words, quote=False).replace("\xa0", "&#160;")


def _write_attribute(parts: Parts) -> str:
    return html.escape("".join(str(part) for part in parts)).replace("&#x27;", "&#39;")


_FORM = Form(write, inline)
_ATTRIBUTE_FORM = Form(_write_attribute)
