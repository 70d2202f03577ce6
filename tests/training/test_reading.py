"""Parallel text of every form is read; bad rows are counted, with their places, and stop nothing."""

import gzip
import json
from pathlib import Path
from typing import Any

import pytest

from dragoman.errors import InvalidOption
from dragoman.training.reading import BadRows, read_rows

GOOD = [("Hallo.", "Hello.", ""), ("Nein.", "No.", "")]


def read(path: Path, english: Path | None = None) -> tuple[list[tuple[str, str, str]], BadRows]:
    bad = BadRows()
    return list(read_rows(path, "de", bad, english)), bad


def write(path: Path, content: str | bytes) -> Path:
    data = content.encode() if isinstance(content, str) else content
    path.write_bytes(gzip.compress(data) if path.suffix == ".gz" else data)
    return path


@pytest.mark.parametrize("name", ["a.tsv", "a.tsv.gz"])
def test_tab_separated_lines(name: str, tmp_path: Path) -> None:
    content = b"Hallo.\tHello.\nno tab\n\n\tempty\nNe\xffin.\tNo.\nNein.\tNo.\tui:x\tmore\r\nJa.\t \n"
    rows, bad = read(write(tmp_path / name, content))
    assert rows == [GOOD[0], ("Nein.", "No.", "ui:x")]
    assert bad.counts == {"an empty side": 2, "no tab": 1, "other bytes than UTF-8": 1}
    assert bad.places["no tab"] == [f"{tmp_path / name}, line 2"]
    assert bad.places["an empty side"] == [f"{tmp_path / name}, line {number}" for number in (4, 7)]


def test_compressed_file_that_is_cut_off_gives_what_is_there(tmp_path: Path) -> None:
    lines = "".join(f"Satz {i * 7919}\tsentence {i * 104729}\n" for i in range(5000))
    path = write(tmp_path / "a.tsv.gz", lines)
    path.write_bytes(path.read_bytes()[:-200])
    rows, bad = read(path)
    assert 4000 < len(rows) < 5000
    ((reason, count),) = bad.counts.items()
    assert "damaged from there on" in reason
    assert count == 1
    assert "behind line" in bad.places[reason][0]


def test_moses_pairs(tmp_path: Path) -> None:
    german = write(tmp_path / "corpus.de", b"\xef\xbb\xbfHallo.\n\nNein.\nJa.\n\xff\nZuviel.\n")
    english = write(tmp_path / "corpus.en.gz", "Hello.\nEmpty\nNo.\nYes.\nNo UTF-8\n")
    rows, bad = read(german, english)
    assert rows == [*GOOD, ("Ja.", "Yes.", "")]
    assert bad.places == {
        "an empty side": [f"{german}, line 2"],
        "other bytes than UTF-8": [f"{german}, line 5"],
        "no line beside it in the other file": [f"{german}, line 6"],
    }


ROWS: list[Any] = [
    {"translation": {"de": "Hallo.", "en": "Hello."}},
    {"translation": {"de": "Nur deutsch."}},
    {"translation": {"en": "Only English.", "de": 7}},
    ["no", "dict"],
    {"translation": {"de": "Nein.", "en": "No."}},
]


@pytest.mark.parametrize("name", ["train.de-en.json", "a.jsonl", "lines.json", "a.jsonl.gz"])
def test_almas_rows_in_a_list_or_one_a_line(name: str, tmp_path: Path) -> None:
    lines = "\n".join(map(json.dumps, ROWS))
    rows, bad = read(write(tmp_path / name, json.dumps(ROWS) if name.startswith("train") else lines))
    assert rows == GOOD
    assert bad.counts == {"no text in de": 2, "no text in en": 1}
    unit = "row" if name.startswith("train") else "line"
    assert bad.places["no text in en"] == [f"{tmp_path / name}, {unit} 2"]


def test_lines_that_are_no_json_are_counted(tmp_path: Path) -> None:
    deep = "[" * 100_000
    good = '\ufeff{"de": "Hallo.", "en": "Hello."}'
    for name in ("a.jsonl", "a.json"):
        rows, bad = read(write(tmp_path / name, f'{good}\n{{"de": \n\n{deep}'))
        assert rows == GOOD[:1]
        assert bad.places == {"no JSON": [f"{tmp_path / name}, line {number}" for number in (2, 4)]}


def test_json_that_is_no_list_or_is_cut_off_stops_nothing(tmp_path: Path) -> None:
    rows, bad = read(write(tmp_path / "data.json", '{"data": 5}'))
    assert rows == []
    assert bad.counts == {"no text in de": 1}
    path = write(tmp_path / "a.json.gz", json.dumps([{"de": str(i * 7919), "en": "x"} for i in range(5000)]))
    path.write_bytes(path.read_bytes()[:-200])
    rows, bad = read(path)
    assert rows == []
    ((reason, count),) = bad.counts.items()
    assert "damaged from there on" in reason
    assert count == 1


TMX = """<?xml version="1.0"?><!DOCTYPE tmx SYSTEM "tmx14.dtd"><tmx version="1.4"><header/><body>
<tu><tuv xml:lang="EN-US"><seg>Hello<ph>{x}</ph>.</seg></tuv>
<tuv xml:lang="de-DE"><seg>Hal<hi>lo</hi>.</seg></tuv></tu>
<tu><tuv xml:lang="fr"><seg>Bonjour</seg></tuv><tuv xml:lang="en"><seg>Hi</seg></tuv></tu>
<tu><tuv lang="de"><seg>Nein.</seg></tuv><tuv lang="en"><seg>No.</seg></tuv></tu>
</body></tmx>"""


@pytest.mark.parametrize("name", ["a.tmx", "a.tmx.gz"])
def test_translation_memories(name: str, tmp_path: Path) -> None:
    rows, bad = read(write(tmp_path / name, TMX))
    assert rows == GOOD
    assert bad.places == {"no text in de": [f"{tmp_path / name}, unit 2"]}


def test_translation_memory_that_breaks_off_gives_what_is_there(tmp_path: Path) -> None:
    rows, bad = read(write(tmp_path / "a.tmx", TMX[:-60]))
    assert rows[:1] == GOOD[:1]
    assert bad.counts.total() == 2
    assert any("damaged from there on" in reason for reason in bad.counts)


def test_parquet(tmp_path: Path) -> None:
    parquet = pytest.importorskip("pyarrow.parquet")
    from pyarrow import Table

    plain, nested = tmp_path / "plain.parquet", tmp_path / "nested.parquet"
    columns = {"de": ["Hallo.", None, "Nein."], "en": ["Hello.", "x", "No."], "score": [1, 2, 3]}
    parquet.write_table(Table.from_pydict(columns), plain)
    parquet.write_table(Table.from_pylist([ROWS[0], ROWS[1], ROWS[4]]), nested)
    for path, missing in ((plain, "no text in de"), (nested, "no text in en")):
        rows, bad = read(path)
        assert rows == GOOD
        assert bad.places == {missing: [f"{path}, row 2"]}
    broken = write(tmp_path / "broken.parquet", plain.read_bytes()[:-20])
    rows, bad = read(broken)
    assert rows == []
    assert bad.counts.total() == 1


def test_report_names_the_first_places_of_each_reason(tmp_path: Path) -> None:
    bad = BadRows()
    for number in range(1, 1201):
        bad.add(Path("a.tsv"), f"line {number}", "no tab")
    bad.add(Path("b.tsv"), "line 3", "an empty side")
    assert str(bad).splitlines() == [
        "1,200 with no tab: a.tsv, line 1; a.tsv, line 2; a.tsv, line 3; ...",
        "1 with an empty side: b.tsv, line 3",
    ]
    assert not str(BadRows())


def test_what_cannot_be_read_at_all_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(InvalidOption, match=r"is no \.tsv, .*plain text needs a second file"):
        read(write(tmp_path / "a.txt", "x"))
    with pytest.raises(InvalidOption, match="can't be read"):
        read(tmp_path / "none.tsv")
    with pytest.raises(InvalidOption, match="can't be read"):
        read(tmp_path / "none.parquet")
    with pytest.raises(InvalidOption, match="Parquet is compressed as it is"):
        read(tmp_path / "none.parquet.gz")
