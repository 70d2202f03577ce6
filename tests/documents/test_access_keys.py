"""Access keys of interface strings: found in the source, put into the translation."""

import pytest

from dragoman.documents import po
from dragoman.documents.access_keys import AccessKey, access_key
from dragoman.documents.document import Mark


@pytest.mark.parametrize(
    ("text", "sign", "letter", "bare"),
    [
        ("&Open", "&", "O", "Open"),
        ("Save &as...", "&", "a", "Save as..."),
        ("E&xit", "&", "x", "Exit"),
        ("_Save", "_", "S", "Save"),
        ("Save _As", "_", "A", "Save As"),
        ("~File", "~", "F", "File"),
        ("&Über Dragoman", "&", "Ü", "Über Dragoman"),
        ("&Insert &nbsp;", "&", "I", "Insert &nbsp;"),
    ],
)
def test_a_key_is_found(text: str, sign: str, letter: str, bare: str) -> None:
    assert access_key(text) == (AccessKey(sign, letter), bare)


@pytest.mark.parametrize(
    "text",
    [
        "Open", "Search & replace", "R&D", "AT&T", "&amp;", "&Cut && &Paste", "max_depth", "__init__", "_a_",
        "~5 minutes", "5 & 6", "https://example.org/?a&b", "a=1&b=2", "Tom&", "", "&",
    ],
)  # fmt: skip
def test_what_may_be_no_key_is_left_alone(text: str) -> None:
    assert access_key(text) is None


@pytest.mark.parametrize(
    ("letter", "parts", "expected"),
    [
        ("o", ("Offnen",), ("&Offnen",)),
        ("a", ("Speichern als ...",), ("Speichern &als ...",)),
        ("e", ("Speichern als",), ("Sp&eichern als",)),
        ("x", ("Beenden",), ("&Beenden",)),
        ("d", ("%(d)d der {d} <d>Dateien",), ("%(d)d &der {d} <d>Dateien",)),
        ("o", ("開く...",), ("開く(&O)...",)),
        ("u", ("URLを開く",), ("&URLを開く",)),
        ("o", ("42",), ("42",)),
        ("o", (), ()),
    ],
)
def test_a_key_is_put_and_taken_again(letter: str, parts, expected) -> None:
    key = AccessKey("&", letter)
    assert key.put(parts) == expected
    assert key.taken(expected) == parts


def test_tags_are_no_place_for_a_key() -> None:
    mark = Mark("<b>", "open", 1)
    assert AccessKey("_", "b").put((mark, "Das Bild")) == (mark, "Das _Bild")


def test_strings_of_a_catalogue_are_translated_without_their_keys() -> None:
    data = b'msgid "Save &as..."\nmsgstr ""\n\nmsgid "R&D"\nmsgstr ""\n\nmsgid "_Quit"\nmsgstr ""\n'
    document = po.parse(data)
    assert [segment.parts for segment in document.segments] == [("Save as...",), ("R&D",), ("Quit",)]
    translations = [("Speichern als ...",), ("F&E",), ("Beenden",)]
    assert all(document.accepts(place, parts) for place, parts in enumerate(translations))
    written = document.render(translations).decode()
    assert [line for line in written.splitlines() if line.startswith("msgstr")] == [
        'msgstr "Speichern &als ..."',
        'msgstr "F&E"',
        'msgstr "_Beenden"',
    ]
