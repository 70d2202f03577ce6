"""Every format keeps its columns, its order and its types."""

import csv
import gzip
import io
import json
from datetime import date

import pyarrow as pa
import pytest
from pyarrow import parquet

from tests.bulk.conftest import SENTENCES, outputs, rows


def test_lines_of_text_become_rows_in_their_order_and_a_bad_one_fails_alone(run, translator, tmp_path):
    lines = [
        *(text.encode() for text in SENTENCES[:3]),
        b"\xff\xfe?",
        b"",
        "Привет".encode(),
        b"12345",
        b"Good morning!",
    ]
    path = tmp_path / "in.txt"
    path.write_bytes(b"\xef\xbb\xbf" + b"\r\n".join(lines))
    result = run("bulk", path, "--to", "fr", "--output", tmp_path / "out", "--block", 3)
    assert result.code == 1
    assert "8 rows" in result.err
    assert "2 failed" in result.err
    assert sorted(outputs(tmp_path / "out")) == [f"00000-00000{n}.jsonl" for n in range(3)]
    found = rows(tmp_path / "out")
    assert list(found[0]) == ["text", "translation", "source_language", "warnings", "error"]
    assert [row["text"] for row in found] == [line.decode("utf-8", "backslashreplace") for line in lines]
    good = [0, 1, 2, 7]
    texts = [found[place]["text"] for place in good]
    assert [found[place]["translation"] for place in good] == translator.translate(texts, target="fr")
    assert [row["source_language"] for row in found[:3]] == ["eng_Latn", "deu_Latn", "eng_Latn"]
    assert found[3]["translation"] is None
    assert "not UTF-8" in found[3]["error"]
    assert found[5]["translation"] is None
    assert "Cyrillic" in found[5]["error"]
    assert [found[place]["translation"] for place in (4, 6)] == ["", "12345"]
    assert not any(found[place]["error"] for place in (*good, 4, 6))


def test_lines_stay_lines_where_text_is_asked_for_and_errors_lie_beside(run, tmp_path):
    path = tmp_path / "corpus.en"
    path.write_bytes(b"Good morning!\n\xff\n")
    to = ("--to", "fr", "--from", "en", "--output", tmp_path / "out")
    assert run("bulk", path, *to, "--format", "text").code == 2  # its name doesn't tell
    assert run("bulk", path, *to, "--format", "text", "--input-format", "text").code == 1
    found = outputs(tmp_path / "out")
    assert found["00000-000000.txt"] == b"Bonjour !\n" + b"\xff\n"
    assert json.loads(found["00000-000000.txt.errors.jsonl"]) == {"row": 2, "error": "it is not UTF-8"}


def test_json_lines_keep_what_they_hold_to_the_byte(run, tmp_path):
    lines = [
        b'{"id": 1e400, "text": "Good morning!", "tags": [1,  2], "id": 7}',
        b"  {}  ",
        b"",
        b'[1, "no object"]',
        b'{"text": null}',
        b'{"text": 5, "x": "\\u00e9"}',
        b'{"text": "broken',
        b'{"text": "\\ud800"}',
    ]
    path = tmp_path / "in.jsonl"
    path.write_bytes(b"\n".join(lines) + b"\n\n")
    assert (
        run("bulk", path, "--to", "fr", "--from", "en", "--output", tmp_path / "out", "--block", 2).code == 1
    )
    written = b"".join(outputs(tmp_path / "out").values()).splitlines()
    assert written[0].startswith(lines[0][:-1] + b', "translation": "Bonjour !"')
    assert written[4].startswith(lines[5][:-1])
    found = rows(tmp_path / "out")
    assert len(found) == 7
    assert list(found[1]) == ["translation", "source_language", "warnings", "error"]
    assert [row["error"] is None for row in found] == [True] + 6 * [False]
    assert found[2]["invalid"] == '[1, "no object"]'
    assert found[5]["invalid"] == '{"text": "broken'


def test_tables_keep_their_cells_as_they_are_quoted_and_columns_stay_in_line(run, tmp_path):
    table = (
        'id;text;"no;te"\r\n'
        '"1";Good morning!;"a ""b"""\r\n'
        '2;"Where is\nthe station?";x\r\n'
        "3;Good night.\r\n"
        "4;one;two;three\r\n"
    )
    path = tmp_path / "in.csv"
    path.write_bytes(table.encode())
    assert (
        run("bulk", path, "--to", "de", "--from", "en", "--output", tmp_path / "out", "--block", 3).code == 1
    )
    first, second = outputs(tmp_path / "out").values()
    assert first.startswith(
        b'id;text;"no;te";translation;source_language;warnings;error\r\n"1";Good morning!;"a ""b""";'
    )
    found = [
        row for data in (first, second) for row in csv.reader(io.StringIO(data.decode(), ""), delimiter=";")
    ]
    assert {len(row) for row in found} == {7}
    assert found[2][1] == "Where is\nthe station?"
    assert found[3][:3] == ["3", "Good night.", ""]
    assert found[5][:3] == ["4", "one", "two;three"]
    assert "4 cells" in found[5][6]


def test_parquet_keeps_types_order_and_what_is_said_of_columns(run, translator, tmp_path):
    table = pa.table(
        {
            "day": pa.array([date(2024, 2, 3)] * 5),
            "text": pa.array([*SENTENCES[:3], None, SENTENCES[0]]).dictionary_encode(),
            "vector": pa.array([[1.5, 2.5]] * 5, pa.list_(pa.float32())),
        }
    ).replace_schema_metadata({"mine": "yes", "huggingface": "{}"})
    parquet.write_table(table, tmp_path / "in.parquet", row_group_size=2)
    result = run("bulk", tmp_path / "in.parquet", "--to", "fr,es", "--output", tmp_path / "out", "--block", 3)
    assert result.code == 1
    parts = [parquet.read_table(path) for path in sorted((tmp_path / "out").glob("*.parquet"))]
    assert [part.num_rows for part in parts] == [3, 2]
    assert parts[0].schema == parts[1].schema
    whole = pa.concat_tables(parts)
    new = ["translation_fr", "translation_es", "source_language", "warnings", "error"]
    assert whole.column_names == [*table.column_names, *new]
    assert whole.select(["day", "vector"]).equals(
        table.select(["day", "vector"]).replace_schema_metadata({"mine": "yes"})
    )
    assert whole["text"].to_pylist() == table["text"].to_pylist()
    assert parts[0].schema.metadata == {b"mine": b"yes"}
    assert whole["error"].to_pylist() == [None, None, None, "there is no text", None]
    texts = [*SENTENCES[:3], SENTENCES[0]]
    for code in ("fr", "es"):
        assert whole[f"translation_{code}"].drop_null().to_pylist() == translator.translate(
            texts, target=code
        )


@pytest.mark.parametrize("kind", ["gz", "zst"])
def test_a_compressed_file_gives_the_same_as_one_that_is_not(run, tmp_path, kind):
    data = b"id\ttext\n" + b"".join(f"{n}\t{text}\n".encode() for n, text in enumerate(SENTENCES))
    plain, packed = tmp_path / "in.tsv", tmp_path / f"in.tsv.{kind}"
    plain.write_bytes(data)
    packed.write_bytes(gzip.compress(data) if kind == "gz" else pa.compress(data, "zstd", asbytes=True))
    for path in (plain, packed):
        out = tmp_path / f"of-{path.name}"
        assert run("bulk", path, "--to", "en", "--output", out, "--block", 3, "--beams", 1).code == 0
    assert outputs(tmp_path / "of-in.tsv") == outputs(tmp_path / f"of-{packed.name}")


def test_tables_and_texts_become_other_formats(run, tmp_path):
    (tmp_path / "in.csv").write_text("n,text\n1,Good morning!\n2,Good night.\n", encoding="utf-8")
    (tmp_path / "in.txt").write_text("Good morning!\nGood night.\n", encoding="utf-8")
    common = ("--to", "fr", "--from", "en", "--beams", 1)
    for name in ("in.csv", "in.txt"):
        for format in ("jsonl", "parquet", "csv"):
            out = tmp_path / f"{name}-{format}"
            assert run("bulk", tmp_path / name, *common, "--output", out, "--format", format).code == 0
        of_parquet = parquet.read_table(tmp_path / f"{name}-parquet/00000-000000.parquet").to_pylist()
        assert of_parquet == rows(tmp_path / f"{name}-jsonl")
        (table,) = outputs(tmp_path / f"{name}-csv").values()
        said = [
            {key: value or None for key, value in row.items()}
            for row in csv.DictReader(io.StringIO(table.decode()))
        ]
        assert said == of_parquet
    result = run("bulk", tmp_path / "in.csv", *common, "--output", tmp_path / "x", "--format", "text")
    assert "can become csv or jsonl or parquet" in result.err
