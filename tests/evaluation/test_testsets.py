"""Test sets are found by name, folder or file, in the direction asked for."""

import gzip
from pathlib import Path

import pytest

from dragoman.errors import InvalidOption
from dragoman.evaluation.testsets import find_testset

EN, DE, FR = "eng_Latn", "deu_Latn", "fra_Latn"


@pytest.fixture
def data(tmp_path: Path) -> Path:
    for folder, names in (("ntrex", ("en", "de", "fr")), ("flores200-devtest", (EN, DE))):
        (tmp_path / folder).mkdir()
        for name in names:
            with gzip.open(tmp_path / folder / f"{name}.txt.gz", "wt", encoding="utf-8") as file:
                file.write(f"{name} eins\n{name} zwei\n")
    (tmp_path / "held-out").mkdir()
    rows = ["Hallo.\tHello.\tx\ttest\tnear", "Ja.\tYes.\tx\tdev\tfar", "Nein.\tNo.\tx\ttest\tfar"]
    (tmp_path / "held-out" / "de-en.tsv").write_text("\n".join(rows) + "\n", encoding="utf-8")
    return tmp_path


def test_aligned_sets_have_all_directions(data: Path) -> None:
    found = find_testset("ntrex", data, DE, FR)
    assert found is not None
    assert (found.sources, found.references) == (("de eins", "de zwei"), ("fr eins", "fr zwei"))
    assert (found.name, found.pair, len(found)) == ("ntrex", "de-fr", 2)
    flores = find_testset("flores", data, EN, DE)
    assert flores is not None
    assert flores.references[1] == "deu_Latn zwei"


def test_the_test_lines_of_pairs_with_english_are_read_both_ways(data: Path) -> None:
    found = find_testset("tatoeba", data, EN, DE)
    assert found is not None
    assert (found.sources, found.references) == (("Hello.", "No."), ("Hallo.", "Nein."))
    assert found.near == (True, False)
    assert found.far().sources == ("No.",)
    assert found.far().name == "tatoeba far"
    assert found.first(1).near == (True,)
    back = find_testset("tatoeba", data, DE, EN)
    assert back is not None
    assert back.sources == found.references


def test_folder_and_file_of_ones_own(data: Path) -> None:
    own = data / "mine"
    own.mkdir()
    (own / "fr-en.tsv").write_text("Oui\tYes\nNon\tNo\n", encoding="utf-8")
    found = find_testset(str(own), None, EN, FR)
    assert found is not None
    assert (found.name, found.sources, found.near) == ("mine", ("Yes", "No"), None)
    file = find_testset(str(own / "fr-en.tsv"), None, FR, EN)
    assert file is not None
    assert (file.name, file.sources) == ("fr-en", ("Oui", "Non"))


@pytest.mark.parametrize(
    ("name", "pair"), [("flores", (DE, FR)), ("tatoeba", (DE, FR)), ("tatoeba", (EN, FR))]
)
def test_a_set_without_the_languages_is_none(name: str, pair: tuple[str, str], data: Path) -> None:
    assert find_testset(name, data, *pair) is None


def test_what_is_missing_or_broken_is_said(data: Path) -> None:
    with pytest.raises(InvalidOption, match="--data DIR"):
        find_testset("ntrex", None, EN, DE)
    with pytest.raises(InvalidOption, match="no folder; check --data"):
        find_testset("ntrex", data / "x", EN, DE)
    with pytest.raises(InvalidOption, match="no test set 'wmt': it is none of ntrex, flores, tatoeba"):
        find_testset("wmt", data, EN, DE)
    (data / "ntrex" / "de.txt.gz").unlink()
    (data / "ntrex" / "de.txt").write_text("one line\n")
    with pytest.raises(InvalidOption, match=r"has 2 lines, .* has 1"):
        find_testset("ntrex", data, EN, DE)
    (data / "bad.tsv").write_text("a\tb\nno tab\n")
    with pytest.raises(InvalidOption, match="line 2: no tab"):
        find_testset(str(data / "bad.tsv"), None, EN, DE)
