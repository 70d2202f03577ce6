"""Blocks out of files: any of them at any time, and of the file no more than that takes."""

import csv
import gzip
import io
import json
import os
import random
from pathlib import Path
from typing import ClassVar

import pyarrow as pa
import pytest
from fsspec.implementations.memory import MemoryFileSystem
from pyarrow import parquet

from dragoman.bulk import places
from dragoman.bulk.places import Folder, find_inputs
from dragoman.bulk.plan import Plan, make_plan, new_columns
from dragoman.bulk.reading import Reader
from dragoman.bulk.rows import errors_in
from dragoman.bulk.stores import Store
from dragoman.bulk.tables import ParquetReader
from dragoman.bulk.work import failures
from dragoman.errors import InvalidDocument, InvalidOption

NEW = new_columns(["de"])


def planned(path: Path, block: int) -> Plan:
    """A plan that has been to a file and back."""
    plan = make_plan(find_inputs([str(path)], None, str(path.parent / "out")), block, ["text"], NEW)
    assert Plan.from_dict(plan.to_dict()) == plan
    return plan


def written(kind: str, folder: Path) -> tuple[Path, list[str]]:
    """A file with odd texts, and these."""
    chance = random.Random(0)
    signs = 'ab é"\t,;ß漢😀' + ("\n" if kind in ("csv", "csv.gz", "parquet") else "")
    texts = ["".join(chance.choices(signs, k=chance.randrange(1, 40))) for _ in range(200)]
    path = folder / f"in.{kind}"
    if kind == "parquet":
        parquet.write_table(pa.table({"n": list(range(200)), "text": texts}), path, row_group_size=17)
    elif kind == "jsonl":
        # Blank lines are no rows.
        rows = [json.dumps({"text": text}) for text in texts]
        path.write_text("\n\n".join(rows), encoding="utf-8")
    elif kind == "txt":
        path.write_text("\n".join(texts) + "\n", encoding="utf-8")
    else:
        rows = [f'"{text.replace(chr(34), chr(34) * 2)}",x' for text in texts]
        data = ("text,other\n" + "\n".join(rows)).encode()
        path.write_bytes(gzip.compress(data) if kind.endswith("gz") else data)
    return path, texts


@pytest.mark.parametrize("kind", ["txt", "jsonl", "csv", "csv.gz", "parquet"])
@pytest.mark.parametrize("block", [1, 7, 1000])
def test_blocks_in_any_order_are_those_in_their_order(kind, block, tmp_path):
    path, texts = written(kind, tmp_path)
    plan = planned(path, block)
    assert plan.rows == len(texts)
    blocks = list(plan.blocks())
    assert [one.name for one in blocks] == sorted(one.name for one in blocks)
    reader = Reader(plan)
    found = {}
    for one in random.Random(1).sample(blocks, len(blocks)):
        found[one.number] = reader.read(one).cells("text")
    reader.close()
    assert [text for number in range(len(blocks)) for text in found[number]] == texts


class Counted(io.BytesIO):
    """A file that knows how much of it was read."""

    taken = 0

    def read(self, size: int | None = -1, /) -> bytes:
        data = super().read(size)
        self.taken += len(data)
        return data


def test_of_a_group_of_rows_no_more_is_read_than_its_first_block_takes():
    texts = [f"{number} " + 400 * chr(97 + number % 26) for number in range(50_000)]
    target = io.BytesIO()
    parquet.write_table(pa.table({"text": texts}), target, compression="none", use_dictionary=False)
    file = Counted(target.getvalue())
    reader = ParquetReader(file, "big.parquet")
    assert reader.read(0, 100).cells("text") == texts[:100]
    assert file.taken < len(target.getvalue()) / 5


def test_a_block_of_a_text_is_read_where_it_stands(monkeypatch, tmp_path):
    path = tmp_path / "in.txt"
    path.write_text("".join(f"{number:0100}\n" for number in range(100_000)), encoding="utf-8")
    plan = planned(path, 1000)
    opened: list[Counted] = []

    def counted(place: str) -> Counted:
        opened.append(Counted(Path(place).read_bytes()))
        return opened[-1]

    monkeypatch.setattr("dragoman.bulk.reading.open_file", counted)
    *_, last = plan.blocks()
    assert Reader(plan).read(last).cells("text")[-1] == f"{99_999:0100}"
    assert sum(file.taken for file in opened) < 2 << 20


@pytest.mark.parametrize(
    ("name", "data", "said"),
    [
        ("in.csv", b'text\nfine\n"never closed\n' + 400_000 * b"x" * 50, "never closes, behind 2 rows"),
        ("in.csv", b'id,text\n1,"hello\n2,foo\n3,bar\n', "never closes, behind 1 rows"),
        ("in.txt", "a\n".encode("utf-16"), "is UTF-16 or UTF-32"),
        ("in.txt.gz", gzip.compress(b"a\n" * 1000, mtime=0)[:-20], "is damaged or not whole"),
        ("in.parquet", b"PAR1 nothing", "is no Parquet, or broken"),
        ("in.csv", b"text,text\na,b\n", "two columns of one name"),
    ],
)
def test_a_broken_file_is_refused_before_anything_begins(name, data, said, tmp_path):
    (tmp_path / name).write_bytes(data)
    with pytest.raises(InvalidDocument, match=said):
        planned(tmp_path / name, 10)


def test_a_file_that_was_changed_meanwhile_is_noticed(tmp_path):
    path = tmp_path / "in.txt"
    path.write_text("a\nb\nc\n", encoding="utf-8")
    plan = planned(path, 2)
    first, _ = plan.blocks()
    reader = Reader(plan)
    assert len(reader.read(first)) == 2
    before = path.stat()
    path.write_text("d\ne\nf\n", encoding="utf-8")
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns + 10**9))
    for refused in (reader.check, Reader(plan).read):
        with pytest.raises(InvalidDocument, match=r"changed meanwhile .*time of change was"):
            refused(first)
    path.write_text("a\nb\n", encoding="utf-8")
    with pytest.raises(InvalidDocument, match="it had 6 bytes, now 4"):
        reader.check(first)


@pytest.mark.parametrize("separator", [",", ";", "|", "\t"])
def test_errors_of_tables_are_found_again_and_each_row_is_one(separator, tmp_path):
    path = tmp_path / "in.csv"
    rows = ["text,a", 'so "it" is,1', '"a;b|c,d\t",2', "x,3\r\r", "y"]
    path.write_bytes("\n".join(row.replace(",", separator) for row in rows).encode() + b"\n")
    plan = planned(path, 10)
    (block,) = plan.blocks()
    errors = [None, 'no, "no"; |', None, "no"]
    data = Reader(plan).read(block).render("csv", {"error": errors})
    folder = Folder(str(tmp_path / "out"))
    folder.write(block.name, data)
    assert failures(folder, block, plan) == 2
    found = list(csv.DictReader(io.StringIO(data.decode(), ""), delimiter=separator))
    assert [row["error"] for row in found] == [error or "" for error in errors]


def test_errors_of_json_lines_are_found_whatever_stands_in_a_line():
    assert errors_in(b'{"text":\r1, "error": null}\n{"text": "\xe2\x80\xa8", "error": "x"}\n', "jsonl") == 1


def test_a_value_that_is_none_spoils_no_other(tmp_path):
    texts = pa.array([b"fine", b"\xff!", None], pa.binary()).view(pa.string())
    times = pa.array([0, 2**61, None], pa.int64()).view(pa.timestamp("us"))
    bad = pa.array([b"a", b"b\xfe", b"c"], pa.binary()).view(pa.string())
    path = tmp_path / "in.parquet"
    parquet.write_table(pa.table({"text": texts, "time": times, "other": bad}), path)
    plan = planned(path, 10)
    read = Reader(plan).read(next(plan.blocks()))
    first, second, third = read.cells("text")
    assert (first, str(second), third) == ("fine", "it is not UTF-8", None)
    found = [json.loads(line) for line in read.render("jsonl", {"error": [None, "x", None]}).splitlines()]
    assert [row["text"] for row in found] == ["fine", "\\xff!", None]
    assert [row["other"] for row in found] == ["a", "b\\xfe", "c"]
    assert found[0]["time"] == "1970-01-01 00:00:00"
    assert isinstance(found[1]["time"], str)
    assert errors_in(read.render("parquet", {"error": [None, "x", None]}), "parquet") == 1


class Server(MemoryFileSystem):
    """A place that shows files while they are being written, and moves none onto another."""

    protocol = "server"
    store: ClassVar[dict[str, object]] = {}
    pseudo_dirs: ClassVar[list[str]] = [""]
    put: ClassVar[list[str]] = []

    def pipe_file(self, path, value, mode="overwrite", **options):
        self.put.append(path)
        super().pipe_file(path, value, mode, **options)

    def mv(self, path1, path2, **options):
        if self.exists(path2):
            raise RuntimeError("it is there")
        super().mv(path1, path2, **options)


def test_where_files_appear_bit_by_bit_they_are_written_under_another_name(monkeypatch):
    monkeypatch.setattr(places, "find_store", lambda url: (Store(Server()), "/out"))
    folder = Folder("server://out")
    for data in (b"one", b"two"):
        folder.write("manifest.json", data)
        assert folder.read("manifest.json") == data
    assert folder.names() == {"manifest.json"}
    assert len(Server.put) == 2
    assert all(places._PARTS.fullmatch(path.rpartition("/")[2]) for path in Server.put)


def test_stores_that_fsspec_lacks_are_reached_by_pyarrow(monkeypatch, tmp_path):
    def lacking(url: str) -> object:
        raise ImportError("Install s3fs to access S3")

    monkeypatch.setattr("fsspec.core.url_to_fs", lacking)
    (tmp_path / "in.txt").write_text("a\n", encoding="utf-8")
    assert places.open_file(f"file://{tmp_path}/in.txt").read() == b"a\n"
    with pytest.raises(InvalidOption, match="Install s3fs"):
        places.open_file("nowhere://bucket/in.txt")
