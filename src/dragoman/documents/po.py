"""gettext catalogues: what isn't translated yet. What is translated already stays, also if it is fuzzy."""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field

from dragoman.documents.access_keys import AccessKey, access_key, sign_of
from dragoman.documents.document import Collector, Document, Form, Parts
from dragoman.documents.encodings import decode
from dragoman.documents.inline import tagged, untagged
from dragoman.errors import InvalidDocument

_LINE = re.compile(r"[^\r\n]*(?:\r\n|\r|\n|\Z)")
_FIELD = re.compile(
    r'[ \t]*(msgctxt|msgid_plural|msgid|msgstr(?:\[(\d{1,2})\])?)[ \t]*("(?:[^"\\]|\\.)*+")[ \t]*$'
)
_MORE = re.compile(r'[ \t]*("(?:[^"\\]|\\.)*+")[ \t]*$')
_ESCAPE = re.compile(r"\\(?:([0-7]{1,3})|x([0-9a-fA-F]{2})|(.))", re.DOTALL)
_NAMED = {"n": "\n", "t": "\t", "r": "\r", "a": "\a", "b": "\b", "f": "\f", "v": "\v"}
_CHARSET = re.compile(rb"charset=([\w.-]+)")
_LANGUAGE = re.compile(r'"Language:[ \t]*([\w.@-]*)\\n"')


@dataclass
class _String:
    """A string of an entry: what it says, and where it stands, quotation marks included."""

    text: str
    start: int
    end: int


@dataclass
class _Entry:
    name: str | None = None
    singular: _String | None = None
    plural: _String | None = None
    translations: dict[int, _String] = field(default_factory=dict)


def parse(data: bytes) -> Document:
    """A .po or .pot file. Raises InvalidDocument if it isn't one."""
    charset = _CHARSET.search(data[:10_000])
    declared = charset[1].decode("ascii") if charset and charset[1] != b"CHARSET" else None
    found = Collector(decode(data, declared))
    write = _Writer("\r\n" if "\r\n" in found.text else "\n")
    form = Form(write, _read, is_target=True)
    entries = [entry for entry in _entries(found.text) if entry.singular is not None]
    sign = sign_of([entry.singular.text for entry in entries if entry.singular and entry.singular.text])
    for entry in entries:
        assert entry.singular is not None
        if not entry.singular.text:
            _header(found, entry)
            continue
        for number, string in sorted(entry.translations.items()):
            source = entry.plural if number and entry.plural else entry.singular
            if not string.text:
                name = entry.name or source.text[:60]
                key = access_key(source.text, sign) if sign else None
                said = source.text if key is None else key[1]
                own = form if key is None else _with_key(write, key[0])
                found.add(tagged(said), string.start, string.end, own, name)
    return found.document()


def _header(found: Collector, entry: _Entry) -> None:
    for string in entry.translations.values():
        language = _LANGUAGE.search(found.text, string.start, string.end)
        if language:
            found.languages.append(language.span(1))


def _entries(text: str) -> Iterator[_Entry]:
    """The entries of a catalogue, obsolete ones left out."""
    entry = _Entry()
    current: _String | None = None
    at = number = 0
    while at < len(text):
        line = _LINE.match(text, at)
        assert line is not None
        number += 1
        words = line[0].rstrip("\r\n")
        if match := _FIELD.match(words):
            if match[1] in ("msgctxt", "msgid") and entry.translations:
                yield entry
                entry = _Entry()
            current = _String(_unescaped(match[3]), at + match.start(3), at + match.end(3))
            _take(entry, match, current)
        elif current is not None and (match := _MORE.match(words)):
            current.text += _unescaped(match[1])
            current.end = at + match.end(1)
        elif words.strip() and not words.lstrip().startswith("#"):
            raise InvalidDocument(f"line {number} is none of a gettext catalogue")
        else:
            current = None
        at = line.end()
    if entry.translations:
        yield entry


def _take(entry: _Entry, match: re.Match[str], string: _String) -> None:
    if match[1] == "msgctxt":
        entry.name = string.text
    elif match[1] == "msgid":
        entry.singular = string
    elif match[1] == "msgid_plural":
        entry.plural = string
    else:
        entry.translations[int(match[2] or 0)] = string


def _unescaped(quoted: str) -> str:
    def character(match: re.Match[str]) -> str:
        if match[1] or match[2]:
            return chr(int(match[1], 8) if match[1] else int(match[2], 16))
        return _NAMED.get(match[3], match[3])

    return _ESCAPE.sub(character, quoted[1:-1])


def _read(written: str) -> Parts:
    return tagged("".join(_unescaped(line.strip()) for line in written.splitlines()))


def _with_key(write: "_Writer", key: AccessKey) -> Form:
    """How a string with an access key is written."""
    return Form(
        lambda parts: write(key.put(parts)), lambda written: key.taken(_read(written)), is_target=True
    )


@dataclass(frozen=True)
class _Writer:
    """Writes strings; one of several lines begins on a line of its own, as gettext's tools do it."""

    ending: str

    def __call__(self, parts: Parts) -> str:
        text = untagged(parts).replace("\\", "\\\\").replace('"', '\\"')
        for letter, character in _NAMED.items():
            if letter != "n":
                text = text.replace(character, f"\\{letter}")
        lines = [f'"{line}"' for line in re.findall(r"[^\n]*\n|[^\n]+", text)]
        quoted = [line.replace("\n", "\\n") for line in lines]
        return self.ending.join(['""', *quoted] if len(quoted) > 1 else quoted or ['""'])
