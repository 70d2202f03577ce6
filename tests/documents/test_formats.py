"""What holds for every format: nothing is lost, and what is written is read again."""

from pathlib import Path

import pytest

from dragoman import documents
from dragoman.documents.document import Mark, Parts, is_well_formed
from dragoman.documents.formats import FORMATS, by_name, has_format
from dragoman.errors import InvalidDocument, InvalidOption

BILINGUAL = ("po", "xliff", "tmx")
"""Formats in which a translation has a place of its own, and what has one is no segment any more."""
SAMPLES = sorted((Path(__file__).parent / "samples").iterdir())


def altered(parts: Parts) -> Parts:
    """Other words with letters of the same kind."""
    return tuple(
        part if isinstance(part, Mark) else part.translate(str.maketrans("aeo", "éía")) for part in parts
    )


def alike(parts: Parts) -> list[object]:
    """Without how marks are written: attributes of tags may be translated too."""
    return [(p.kind, p.number, p.reads) if isinstance(p, Mark) else p for p in parts]


@pytest.fixture(params=SAMPLES, ids=lambda path: path.name)
def sample(request) -> Path:
    return request.param


def test_every_format_has_a_sample():
    assert {documents.find_format(path, path.read_bytes()) for path in SAMPLES} == set(FORMATS)


def test_a_document_without_translations_is_the_file_that_came(sample):
    document = documents.open(sample)
    assert document.render([None] * len(document.segments)) == sample.read_bytes()


def test_segments_have_words_and_well_nested_marks(sample):
    document = documents.open(sample)
    assert len(document.segments) > 1
    assert not document.skipped
    for number, segment in enumerate(document.segments):
        assert segment.text.strip()
        assert is_well_formed(segment.parts, segment.parts)
        assert document.accepts(number, segment.parts)


def test_what_is_written_is_read_again(sample):
    document = documents.open(sample)
    wanted = [altered(segment.parts) for segment in document.segments]
    assert all(document.accepts(number, parts) for number, parts in enumerate(wanted))
    format = documents.find_format(sample, sample.read_bytes())
    again = documents.parse(document.render(wanted), format)
    if format.name in BILINGUAL:
        wanted = []
    assert [alike(segment.parts) for segment in again.segments] == [alike(parts) for parts in wanted]


def test_places_are_in_the_order_of_the_file(sample):
    places = [segment.place for segment in documents.open(sample).segments]
    assert places == sorted(places)


@pytest.mark.parametrize("format", FORMATS, ids=lambda format: format.name)
@pytest.mark.parametrize("data", [b"", b"\n", b" \r\n\r\n"])
def test_an_empty_file_is_an_empty_document_or_refused(format, data):
    try:
        document = documents.parse(data, format)
    except InvalidDocument:
        return
    assert document.segments == []
    assert document.render([]) == data


@pytest.mark.parametrize("format", [f for f in FORMATS if f.name != "properties"], ids=lambda f: f.name)
def test_bytes_that_are_no_utf8_are_refused(format):
    with pytest.raises(InvalidDocument):
        documents.parse(b"caf\xe9 au lait \xff", format)


@pytest.mark.parametrize("format", FORMATS, ids=lambda format: format.name)
@pytest.mark.parametrize("data", [b"a\x00b", b"PK\x03\x04" + bytes(100), bytes(range(256))])
def test_what_is_no_such_file_is_refused(format, data):
    with pytest.raises(InvalidDocument):
        documents.parse(data, format)


def test_formats_are_found_by_name_extension_and_content():
    assert by_name("markdown") is by_name("md") is by_name(".MD")
    assert has_format("a/b/REPORT.MD")
    assert not has_format("report")
    with pytest.raises(InvalidOption, match="do you mean 'markdown'"):
        by_name("markdwon")
    with pytest.raises(InvalidDocument, match="no extension of a known format"):
        documents.find_format("report.xyz", b"")


def test_only_tables_have_columns():
    with pytest.raises(InvalidOption, match="columns are for tables"):
        documents.parse(b"text", "text", columns=["1"])
