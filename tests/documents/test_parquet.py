"""Parquet: columns of texts, with all else as it was."""

import io
import sys

import pytest

from dragoman.documents import parquet
from dragoman.errors import InvalidDocument, InvalidOption

pyarrow = pytest.importorskip("pyarrow", reason="pyarrow is not installed")


def table():
    columns = {
        "id": pyarrow.array([1, 2, 3], pyarrow.int32()),
        "title": pyarrow.array(["One", None, "Two <b>three</b>"]),
        "kind": pyarrow.array(["new", "old", "new"]).dictionary_encode(),
        "note": pyarrow.array(["a note", "12", ""], pyarrow.large_string()),
    }
    return pyarrow.table(columns).replace_schema_metadata({"maker": "me"})


def packed(content, **options) -> bytes:
    import pyarrow.parquet

    target = io.BytesIO()
    pyarrow.parquet.write_table(content, target, **options)
    return target.getvalue()


def read(data: bytes):
    import pyarrow.parquet

    return pyarrow.parquet.ParquetFile(io.BytesIO(data))


def test_texts_are_segments_with_their_row_and_column():
    document = parquet.parse(packed(table(), row_group_size=2))
    assert [(s.place, s.name, s.text) for s in document.segments] == [
        (1, "title", "One"), (1, "note", "a note"), (3, "title", "Two three")
    ]  # fmt: skip
    assert document.unit == "row"


def test_other_columns_types_and_what_the_file_says_stay():
    data = packed(
        table(),
        row_group_size=2,
        compression={"id": "GZIP", "title": "ZSTD", "kind": "NONE", "note": "SNAPPY"},
    )
    document = parquet.parse(data)
    assert document.render([None] * 3) == data
    before, after = read(data), read(document.render([("Eins",), None, None]))
    assert after.schema_arrow.equals(before.schema_arrow, check_metadata=True)
    assert after.read().drop_columns("title") == before.read().drop_columns("title")
    assert after.read().column("title").to_pylist() == ["Eins", None, "Two <b>three</b>"]
    for group in range(2):
        for column in range(4):
            first, second = (file.metadata.row_group(group).column(column) for file in (before, after))
            assert (first.compression, first.num_values) == (second.compression, second.num_values)


def test_columns_are_chosen_by_name_and_number():
    assert [s.name for s in parquet.parse(packed(table()), columns=["note"]).segments] == ["note"]
    assert [s.name for s in parquet.parse(packed(table()), columns=["2"]).segments] == ["title", "title"]
    for column, message in (
        ("x", "no column 'x'; it has id, title"),
        ("9", "no column"),
        ("id", "no texts, but int32"),
    ):
        with pytest.raises(InvalidOption, match=message):
            parquet.parse(packed(table()), columns=[column])


@pytest.mark.parametrize("data", [b"", b"PAR1", b"PAR1" + bytes(100) + b"PAR1"])
def test_what_is_no_parquet_is_refused(data):
    with pytest.raises(InvalidDocument, match="no Parquet"):
        parquet.parse(data)


def test_files_that_were_cut_off_or_have_changed_are_refused():
    data = packed(table())
    with pytest.raises(InvalidDocument):
        parquet.parse(data[:-20])
    at = len(data) - 40
    with pytest.raises(InvalidDocument):
        parquet.parse(data[:at] + b"\xff" * 20 + data[at + 20 :])


def test_without_pyarrow_it_is_said_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(InvalidOption, match=r"pip install 'dragoman\[parquet\]'"):
        parquet.parse(b"")
