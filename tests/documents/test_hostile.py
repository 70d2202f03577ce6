"""Files that would harm: each is refused with a reason, or kept as it is, within bounds."""

import io
import stat
import tracemalloc
import zipfile
from collections.abc import Callable

import pytest

from dragoman import documents
from dragoman.documents.formats import FORMATS
from dragoman.errors import InvalidDocument
from tests.documents.packages import book, open_document, paragraph, run, slides, unpacked, word, workbook

TEXT = "x" * 40_000_000
"""40 MB that are packed in 40 KB."""
PACKAGES: dict[str, Callable[[str], bytes]] = {
    "docx": lambda text: word(paragraph(run(text))),
    "pptx": lambda text: slides(f"<a:p><a:r><a:t>{text}</a:t></a:r></a:p>"),
    "xlsx": lambda text: workbook(f"<si><t>{text}</t></si>", ""),
    "odf": lambda text: open_document(f"<text:p>{text}</text:p>"),
    "epub": lambda text: book({"a.xhtml": f"<p>{text}</p>"}),
}
MAIN = {
    "docx": "word/document.xml",
    "pptx": "ppt/slides/slide1.xml",
    "xlsx": "xl/sharedStrings.xml",
    "odf": "content.xml",
    "epub": "OEBPS/a.xhtml",
}
TEXTS = [f for f in FORMATS if f.name not in (*PACKAGES, "parquet")]


@pytest.fixture(params=PACKAGES)
def package(request) -> str:
    return request.param


@pytest.fixture(scope="module")
def bombs() -> dict[str, bytes]:
    return {name: make(TEXT) for name, make in PACKAGES.items()}


def entry(data: bytes, name: str) -> int:
    """Where the directory of a package tells of a file."""
    at = data.rindex(name.encode()) - 46
    assert data[at : at + 4] == b"PK\x01\x02"
    return at


def with_entry(data: bytes, info: zipfile.ZipInfo, content: bytes = b"") -> bytes:
    target = io.BytesIO(data)
    with zipfile.ZipFile(target, "a") as archive:
        archive.writestr(info, content)
    return target.getvalue()


def refused(data: bytes, format: str, message: str) -> None:
    """The file is refused, for a fraction of the memory that it is said to be worth."""
    tracemalloc.start()
    try:
        with pytest.raises(InvalidDocument, match=message):
            documents.parse(data, format)
        assert tracemalloc.get_traced_memory()[1] < 60_000_000
    finally:
        tracemalloc.stop()


# ---- packages ----------------------------------------------------------------------------------------------


def test_a_bomb_is_not_unpacked(package, bombs):
    refused(bombs[package], package, "too large")


def test_a_bomb_that_lies_about_its_size_is_not_unpacked(package, bombs):
    data = bombs[package]
    at = entry(data, MAIN[package]) + 24
    refused(data[:at] + (100).to_bytes(4, "little") + data[at + 4 :], package, "can't be read|too large")


def test_many_small_bombs_are_not_unpacked():
    pages = {f"{number}.xhtml": "<p>" + "x" * 10_000_000 + "</p>" for number in range(12)}
    with pytest.raises(InvalidDocument, match="too large"):
        documents.parse(book(pages), "epub")


def test_a_bomb_that_has_no_text_is_never_unpacked(package):
    target = io.BytesIO(PACKAGES[package]("One day"))
    with zipfile.ZipFile(target, "a", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("media/large.bmp", bytes(40_000_000))
    data = target.getvalue()
    document = documents.parse(data, package)
    tracemalloc.start()
    made = document.render([("Ein Tag",) for _ in document.segments])
    assert tracemalloc.get_traced_memory()[1] < 1_000_000
    tracemalloc.stop()
    assert zipfile.ZipFile(io.BytesIO(made)).testzip() is None


def test_a_package_within_a_package_stays_as_it_is(package):
    inner = PACKAGES["xlsx"]("Not to be opened")
    data = with_entry(PACKAGES[package]("One day"), zipfile.ZipInfo("embedded/table.xlsx"), inner)
    document = documents.parse(data, package)
    assert not any("opened" in segment.text for segment in document.segments)
    assert (
        unpacked(document.render([("Ein Tag",) for _ in document.segments]))["embedded/table.xlsx"] == inner
    )


def test_files_that_lie_in_each_other_are_refused(package):
    data = PACKAGES[package]("One")
    last = data.rindex(b"PK\x01\x02")
    first = data.index(b"PK\x01\x02")
    offset = data[first + 42 : first + 46]
    refused(data[: last + 42] + offset + data[last + 46 :], package, "lie in each other")


def test_links_to_other_files_are_refused(package):
    link = zipfile.ZipInfo("link")
    link.external_attr = (stat.S_IFLNK | 0o777) << 16
    refused(with_entry(PACKAGES[package]("One"), link, b"/etc/passwd"), package, "link instead of a file")


@pytest.mark.parametrize("name", ["../up", "a/../../up", "/etc/up", "\\up", "a\\..\\..\\up"])
def test_files_outside_of_the_package_are_refused(package, name):
    refused(with_entry(PACKAGES[package]("One"), zipfile.ZipInfo(name)), package, "outside")


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_two_files_of_one_name_are_refused(package):
    refused(with_entry(PACKAGES[package]("One"), zipfile.ZipInfo(MAIN[package])), package, "one name")


def test_encrypted_files_are_refused(package):
    data = bytearray(PACKAGES[package]("One"))
    data[entry(bytes(data), MAIN[package]) + 8] |= 1
    refused(bytes(data), package, "encrypted")
    refused(b"\xd0\xcf\x11\xe0" + bytes(600), package, "encrypted")


def test_files_that_were_cut_off_are_refused(package):
    data = PACKAGES[package]("One")
    for length in (4, 100, len(data) // 2, len(data) - 1):
        with pytest.raises(InvalidDocument):
            documents.parse(data[:length], package)


def test_files_that_have_changed_on_their_way_are_refused(package):
    data = bytearray(PACKAGES[package]("One day or another, who knows"))
    start = bytes(data).index(MAIN[package].encode()) + len(MAIN[package])
    data[start + 5] ^= 0xFF
    with pytest.raises(InvalidDocument):
        documents.parse(bytes(data), package)


def test_a_package_of_another_kind_is_refused(package):
    other = next(name for name in PACKAGES if name != package)
    with pytest.raises(InvalidDocument):
        documents.parse(PACKAGES[other]("One"), package)
    with pytest.raises(InvalidDocument):
        documents.parse(b"\x89PNG\r\n\x1a\n" + bytes(100), package)


# ---- markup ------------------------------------------------------------------------------------------------

BOMB = "<!DOCTYPE a [<!ENTITY a 'lol'>" + "".join(
    f"<!ENTITY b{n} '&a;&a;&a;&a;'>" for n in range(20)
) + "]>"  # fmt: skip
OUTSIDE = '<!DOCTYPE a [<!ENTITY a SYSTEM "file:///etc/passwd">]>'
MARKUP = {
    "android": "<resources><string name='a'>One &a;</string></resources>",
    "xliff": "<xliff><file><trans-unit id='1'><source>One &a;</source></trans-unit></file></xliff>",
    "tmx": "<tmx><body><tu><tuv xml:lang='en'><seg>One &a;</seg></tuv></tu></body></tmx>",
}


@pytest.mark.parametrize("declared", [BOMB, OUTSIDE], ids=["bomb", "outside"])
@pytest.mark.parametrize("format", [*MARKUP, *PACKAGES])
def test_entities_are_neither_expanded_nor_fetched(format, declared):
    if format in MARKUP:
        refused((declared + MARKUP[format]).encode(), format, "DTD")
        return
    data = PACKAGES[format]("One")
    files = {name: content.decode("latin-1") for name, content in unpacked(data).items()}
    files[MAIN[format]] = declared + files[MAIN[format]].rpartition("?>")[2].replace("One", "&a;")
    target = io.BytesIO()
    with zipfile.ZipFile(target, "w") as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    if format == "epub":  # Pages are read as HTML, where an entity that it doesn't know is words.
        assert [segment.text for segment in documents.parse(target.getvalue(), format).segments] == ["&a;"]
    else:
        refused(target.getvalue(), format, "DTD")


@pytest.mark.parametrize(
    ("format", "text"),
    [
        ("json", "[" * 100_000 + "]" * 100_000),
        ("yaml", "[" * 100_000),
        ("android", "<resources>" * 100_000),
        ("tmx", "<tmx>" * 100_000),
        ("po", 'msgid "a"\nmsgid_plural "b"\nmsgstr[1000000000] ""\n'),
    ],
)
def test_what_is_deeper_or_longer_than_any_real_file_is_refused(format, text):
    refused(text.encode(), format, "deep|nest|none of a gettext")


@pytest.mark.parametrize(
    "text",
    [
        "<p" * 20_000,
        "<b>" * 20_000,
        "<b>" * 20_000 + "</i>" * 20_000,
        "<p><b>x" * 20_000,
        "</p>" * 20_000 + "x",
        "<a title='" * 20_000,
        "<!--" * 20_000,
        "<![CDATA[" * 20_000,
        "<code>x" * 20_000,
        "<script>" * 20_000,
        '<a ="' * 20_000 + "x",
        "&" * 20_000 + "x",
        "&#x110000;&#0;x",
    ],
    ids=lambda text: text[:12],
)
def test_broken_html_comes_back_as_it_was(text):
    document = documents.parse(text.encode(), "html")
    assert document.render([None] * len(document.segments)) == text.encode()
    for number, segment in enumerate(document.segments):
        document.accepts(number, segment.parts)


# ---- texts -------------------------------------------------------------------------------------------------

WITH_A_WORD = {
    "text": "{}\n",
    "markdown": "# {}\n",
    "html": "<p>{}</p>",
    "json": '{{"a": "{}"}}',
    "yaml": "a: {}\n",
    "properties": "a={}\n",
    "po": 'msgid "{}"\nmsgstr ""\n',
    "srt": "1\n00:00:01,000 --> 00:00:02,000\n{}\n",
    "vtt": "WEBVTT\n\n00:00:01.000 --> 00:00:02.000\n{}\n",
    "ass": "[Events]\nFormat: Start, Text\nDialogue: 0:00:01.00,{}\n",
    "android": "<resources><string name='a'>{}</string></resources>",
    "xliff": "<xliff><file><body><trans-unit id='1'><source>{}</source></trans-unit></body></file></xliff>",
    "tmx": "<tmx><body><tu><tuv xml:lang='en'><seg>{}</seg></tuv></tu></body></tmx>",
    "csv": "{}\n",
    "strings": '"a" = "{}";\n',
}


@pytest.mark.parametrize("format", [format.name for format in TEXTS])
@pytest.mark.parametrize("word", ["x" * 100_000, "x<" * 50_000, "x{" * 50_000, "x\\" * 50_000, "(x" * 50_000])
def test_a_word_of_100_000_characters_comes_back(format, word):
    try:
        document = documents.parse(WITH_A_WORD[format].format(word).encode(), format)
    except InvalidDocument:
        assert word[1] in "<{\\"
        return
    for number, segment in enumerate(document.segments):
        if document.accepts(number, ("y" * 100_000,)):
            other = [("y" * 100_000,) if n == number else None for n in range(len(document.segments))]
            assert b"y" * 100_000 in document.render(other)
        document.accepts(number, segment.parts)


@pytest.mark.parametrize("cell", ["=1+1", "@SUM(A1)", "+A1", "-A1", "=cmd|' /C calc'!A0"])
def test_cells_that_would_be_computed_stay_and_none_becomes_one(cell):
    document = documents.parse(f'{cell},"{cell}",word\n'.encode(), "csv")
    assert [segment.text for segment in document.segments] == ["word"]
    assert not document.accepts(0, (cell,))
    assert document.accepts(0, ("Wort",))
