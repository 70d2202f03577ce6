"""Access keys of interface strings: found in the source, put into the translation."""

import pytest

from dragoman.documents import po
from dragoman.documents.access_keys import AccessKey, access_key, sign_of
from dragoman.documents.document import Mark


@pytest.mark.parametrize(
    ("text", "sign", "letter", "bare"),
    [
        ("&Open", "&", "O", "Open"),
        ("Save &as...", "&", "a", "Save as..."),
        ("E&xit", "&", "x", "Exit"),
        ("Prin&t", "&", "t", "Print"),
        ("_Save", "_", "S", "Save"),
        ("Save _As", "_", "A", "Save As"),
        ("_Open the file %(file_name)s", "_", "O", "Open the file %(file_name)s"),
        ("~File", "~", "F", "File"),
        ("&Über Dragoman", "&", "Ü", "Über Dragoman"),
        ("&Insert &nbsp;", "&", "I", "Insert &nbsp;"),
        ("Find && &Replace", "&", "R", "Find && Replace"),
    ],
)
def test_a_key_is_found(text: str, sign: str, letter: str, bare: str) -> None:
    assert access_key(text, sign) == (AccessKey(sign, letter), bare)


@pytest.mark.parametrize(
    "text",
    [
        "", "&", "Open", "Search & replace", "R&D", "Q&A", "AT&T", "Drag&drop the files", "Tom&",
        "black&white",
        "&amp;", "&copy 2024", "Price&nbsp", "&Cut, &Paste", "a=1&b=2", "Size = %&s",
        "https://example.org/?a&b",
        "max_depth", "__init__", "_a_", "Hello %(_name)s", "{_count} files", "%_s", "<_b>x</_b>", "$_foo",
        r"C:\Temp\_foo", "foo(_bar)", "@_user has replied", "foo/_bar", "_It is a whole sentence.",
        "~5 minutes", "It takes ~two minutes.", "~/file", "/~user", "&" + 70 * "x",
    ],
)  # fmt: skip
@pytest.mark.parametrize("sign", ["&", "_", "~"])
def test_what_may_be_no_key_is_left_alone(text: str, sign: str) -> None:
    assert access_key(text, sign) is None


@pytest.mark.parametrize(
    ("texts", "sign"),
    [
        (["&Open", "Close", "R&D"], "&"),
        (["_Open", "_Save", "_Quit", *["Something else"] * 200], "_"),
        (["~File", "~Edit"], "~"),
        (["_Open", *["Something else"] * 50], None),
        (["_internal", "&copy 2024 by the authors", "~two minutes", "Drag&drop"], None),
        ([], None),
    ],
)
def test_a_file_s_strings_show_which_sign_is_theirs(texts: list[str], sign: str | None) -> None:
    assert sign_of(texts) == sign


@pytest.mark.parametrize(
    ("letter", "parts", "expected"),
    [
        ("o", ("Offnen",), ("&Offnen",)),
        ("a", ("Speichern als ...",), ("Speichern &als ...",)),
        ("e", ("Speichern",), ("&Speichern",)),
        ("x", ("F&E verlassen",), ("&F&E verlassen",)),
        ("d", ("%(d)d der {d} <d>Dateien",), ("%(d)d &der {d} <d>Dateien",)),
        ("o", ("開く...",), ("開く(&O)...",)),
        ("O", ("開く (Ctrl+O)",), ("開く(&O) (Ctrl+O)",)),
        ("О", ("打开",), ("打开(&О)",)),  # a Cyrillic letter
        ("ß", ("変更",), ("変更(&ß)",)),
        ("Ü", ("关于 R&D",), ("关于 R&D(&Ü)",)),
        ("u", ("URLを開く",), ("&URLを開く",)),
        ("b", ("Fett: &lt;b&gt;",), ("&Fett: &lt;b&gt;",)),
        ("l", ("&lt; und &gt; Listen",), ("&lt; und &gt; &Listen",)),
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
    sources = ["Save &as...", "R&D", "&Quit", "Drag&drop the files here", "{&count} of %(_n)s"]
    document = po.parse("\n\n".join(f'msgid "{text}"\nmsgstr ""' for text in sources).encode())
    shown = [("Save as...",), ("R&D",), ("Quit",), *((text,) for text in sources[3:])]
    assert [segment.parts for segment in document.segments] == shown
    translations = [
        ("Speichern als ...",),
        ("F&E",),
        ("Beenden",),
        ("Dateien hierher ziehen",),
        (sources[4],),
    ]
    assert all(document.accepts(place, parts) for place, parts in enumerate(translations))
    written = document.render(translations).decode()
    assert [line for line in written.splitlines() if line.startswith("msgstr")] == [
        'msgstr "Speichern &als ..."',
        'msgstr "F&E"',
        'msgstr "&Beenden"',
        'msgstr "Dateien hierher ziehen"',
        'msgstr "{&count} of %(_n)s"',
    ]


def test_catalogues_of_texts_have_no_keys() -> None:
    data = b'msgid "It takes ~two minutes"\nmsgstr ""\n\nmsgid "_count files"\nmsgstr ""\n'
    assert [segment.text for segment in po.parse(data).segments] == ["It takes ~two minutes", "_count files"]
