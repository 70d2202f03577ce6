"""Android's strings.xml: strings, arrays of them and plurals."""

import re

from dragoman.documents import marked, xml
from dragoman.documents.document import Collector, Document, Form, Mark, Part, Parts
from dragoman.documents.inline import Pairs
from dragoman.errors import InvalidDocument

_ESCAPE = re.compile(r"\\(?:u([0-9a-fA-F]{4})|(.))", re.DOTALL)
_NAMED = {"n": "\n", "t": "\t"}
_BLANKS = re.compile(r"[ \t\r\n]+")
_REFERENCE = re.compile(r"\s*[@?](?:\+?[\w.]+:)?[\w.]+/[\w.]+\s*")


def parse(data: bytes) -> Document:
    """A strings.xml. Raises InvalidDocument if it isn't one."""
    found = Collector(xml.read(data))
    text = found.text
    tokens = list(xml.tokens(text))
    ends = xml.ends(tokens)
    form = Form(_write, _read)
    path: list[dict[str, str]] = []
    names: list[str] = []
    for place, token in enumerate(tokens):
        if token.kind == "close":
            path.pop()
            names.pop()
        elif token.kind == "open":
            path.append(xml.attributes(text[token.start : token.end]))
            names.append(token.name)
            if len(names) == 1 and token.name != "resources":
                raise InvalidDocument(f"the file is no strings.xml: it begins with <{token.name}>")
            if names[1:] in (["string"], ["string-array", "item"], ["plurals", "item"]) and not any(
                one.get("translatable") == "false" for one in path
            ):
                start, end = token.end, tokens[ends[place]].start
                name = ".".join(filter(None, (one.get("name") or one.get("quantity") for one in path[1:])))
                if not _REFERENCE.fullmatch(text, start, end):
                    found.add(_read(text[start:end]), start, end, form, name)
    return found.document()


def _read(written: str) -> Parts:
    """The parts of a string; what stands in xliff:g is no language."""
    return marked.read(written, _words, _kept)


def _words(written: str, token: xml.Token) -> Part:
    source = written[token.start : token.end]
    return _unescaped(_BLANKS.sub(" ", xml.unescaped(source))) if token.kind == "text" else Mark(source)


def _kept(tag: str, inner: str, pairs: Pairs) -> Mark | None:
    if xml.name(tag) != "xliff:g" or tag.endswith("/>"):
        return None
    return Mark(tag, reads=_unescaped(xml.unescaped(inner)))


def _unescaped(raw: str) -> str:
    if len(raw) > 1 and raw.startswith('"') and raw.endswith('"') and not raw.endswith('\\"'):
        raw = raw[1:-1]
    return _ESCAPE.sub(lambda m: chr(int(m[1], 16)) if m[1] else _NAMED.get(m[2], m[2]), raw)


def _write(parts: Parts) -> str:
    written = "".join(part.source if isinstance(part, Mark) else _escaped(part) for part in parts)
    return "\\" + written if written.startswith(("@", "?")) else written


def _escaped(words: str) -> str:
    words = words.replace("\\", "\\\\").replace("'", "\\'").replace('"', '\\"')
    return xml.escaped(words.replace("\n", "\\n").replace("\t", "\\t"))
