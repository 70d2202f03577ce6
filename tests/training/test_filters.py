"""What is left out of a corpus, and why."""

import gzip
from pathlib import Path

import pytest

from dragoman.errors import InvalidOption
from dragoman.training.filters import PairFilter, digits, text_key
from dragoman.training.parts import PartOptions, read_part
from dragoman.training.reading import BadRows, read_rows


def write(path: Path, lines: list[str]) -> Path:
    with gzip.open(path, "wt", encoding="utf-8") as file:
        file.writelines(line + "\n" for line in lines)
    return path


@pytest.mark.parametrize(
    ("one", "other"),
    [("It's ½ Übel!", "its 1⁄2 übel"), ("ﬁle  A-1", "FILE a1"), ("नमस्ते।", "नमस्ते")],
)
def test_keys_are_equal_but_for_case_signs_and_spaces(one: str, other: str) -> None:
    assert text_key(one) == text_key(other) != ""


def test_keys_tell_letters_marks_and_digits() -> None:
    assert len({text_key(text) for text in ("resume", "résumé", "resume1", "नमस्ते", "नमस्त")}) == 5
    assert text_key("... !?") == ""


def test_digits_are_compared_however_they_are_written() -> None:
    assert digits("1,234.5 in 2020") == digits("2020: 1.234,5")
    assert digits("12") != digits("13")


@pytest.mark.parametrize(
    ("pair", "reason"),
    [
        (("Hallo Welt", "Hello world"), None),
        (("Secret!", "Geheim"), "held out"),
        (("Anderes", "SECRET"), "held out"),
        (("...", "Hello"), "without words"),
        (("OK", "OK"), "identical sides"),
        (("Ein Satz", "A sentence that is far longer than its other side"), "lengths too different"),
        (("Es sind 12", "There are 13"), "other numbers"),
    ],
)
def test_reasons(pair: tuple[str, str], reason: str | None) -> None:
    chosen = PairFilter(forbidden={"secret"})
    rows = list(chosen([(*pair, "origin")]))
    assert rows == ([(*pair, "origin")] if reason is None else [])
    assert dict(chosen.dropped) == ({} if reason is None else {reason: 1})
    assert chosen.kept == len(rows)


def test_a_pair_comes_once_and_an_opening_not_too_often() -> None:
    chosen = PairFilter(same_opening=2)
    rows = [(f"Dies ist ein sehr {i}", f"This is a very {i}", "") for i in "abcd"]
    found = list(chosen([rows[0], *rows, ("Kurz", "Short", "")]))
    assert [text[-1] for text, _, _ in found] == ["a", "b", "z"] or len(found) == 3
    assert chosen.dropped == {"had before": 1, "begins like many": 2}


def test_pairs_of_mixed_scripts_are_left_out(tmp_path: Path) -> None:
    path = write(
        tmp_path / "zh-en.tsv.gz", ["你好\thello\ttatoeba", "再見\tbye\ttatoeba+hant", "一\tone\tx\tmore"]
    )
    assert list(read_rows(path, "zh", BadRows())) == [("你好", "hello", "tatoeba"), ("一", "one", "x")]


def test_a_part_has_the_origins_and_lengths_that_its_options_name(tmp_path: Path) -> None:
    lines = [
        "Eins zwei drei\tone two three\tui:a",
        "Eins\tone\tui:b",
        "Vier fünf\tfour five\tbook",
        "Sechs x\tsix x\tnews",
    ]
    write(tmp_path / "de-en.tsv.gz", lines)

    def pairs(**options: object) -> list[str]:
        found = read_part(
            PartOptions("p", 1, "{language}-en.tsv.gz", **options),
            "deu_Latn",
            "de",
            tmp_path,
            (),
            1,
            BadRows(),
        )
        assert found is not None
        return sorted(english for _, english in found[0].pairs)

    assert pairs() == ["four five", "one", "one two three", "six x"]
    assert pairs(origins=("ui", "book")) == ["four five", "one", "one two three"]
    assert pairs(excluded=("ui",)) == ["four five", "six x"]
    assert pairs(words=(2, 2)) == ["four five", "six x"]
    assert pairs(limit=2, long_words=2) != pairs(limit=3, long_words=2)
    assert "one" not in pairs(limit=3, long_words=2)


def test_a_language_without_the_file_or_the_origin_has_no_such_part(tmp_path: Path) -> None:
    write(tmp_path / "de-en.tsv.gz", ["Eins\tone\tui"])
    file = "{language}-en.tsv.gz"
    book = PartOptions("p", 1, file, origins=("book",))
    for options, short in ((PartOptions("p", 1, file), "fr"), (book, "de")):
        assert read_part(options, "deu_Latn", short, tmp_path, (), 1, BadRows()) is None


def test_a_part_of_which_nothing_is_left_is_an_error_that_says_why(tmp_path: Path) -> None:
    write(tmp_path / "de-en.tsv.gz", ["Eins\tone\tui"])
    options = PartOptions("talk", 1, "{language}-en.tsv.gz")
    with pytest.raises(InvalidOption, match=r"nothing is left of .*'talk'.*'held out': 1"):
        read_part(options, "deu_Latn", "de", tmp_path, {"one"}, 1, BadRows())
