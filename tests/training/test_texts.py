"""Texts and preferences from files: what is read, and what is said of bad rows."""

import gzip
import json
from pathlib import Path

import pytest

from dragoman.errors import InvalidOption
from dragoman.training.collecting import collect
from dragoman.training.config import TrainingConfig
from dragoman.training.filters import is_elsewhere
from dragoman.training.parts import PartOptions
from dragoman.training.reading import BadRows
from dragoman.training.stored_rows import StoredRows
from dragoman.training.texts import read_preferences, read_texts


def test_texts_are_lines_or_objects_and_bad_ones_are_told_by_their_place(tmp_path: Path) -> None:
    plain = tmp_path / "de.txt.gz"
    plain.write_bytes(gzip.compress(b"One\ttwo\n\n \nthree \xff\nfour\n"))
    bad = BadRows()
    assert list(read_texts(plain, bad)) == ["One two", "four"]
    assert str(bad).splitlines() == [
        f"1 with an empty text: {plain}, line 3",
        f"1 with other bytes than UTF-8: {plain}, line 4",
    ]
    objects = tmp_path / "de.jsonl"
    objects.write_text('{"text": "One"}\n{"txt": 1}\nno\n')
    bad = BadRows()
    assert list(read_texts(objects, bad)) == ["One"]
    assert bad.counts == {"no text": 1, "no JSON": 1}


def test_preferences_of_both_forms_are_read(tmp_path: Path) -> None:
    scored = {
        "language_pair": "en-de",
        "en": "Hello",
        "de": "Hallo",
        "gpt4_de": "Guten Tag",
        "alma_de": "Hello",
        "ref_de_kiwi_xcomet": 0.8,
        "gpt4_de_kiwi_xcomet": 0.9,
        "alma_de_kiwi_xcomet": 0.1,
        "ref_de_xcomet": 0.95,
        "gpt4_de_xcomet": 0.2,
        "alma_de_xcomet": None,
    }
    rows: list[object] = [
        {"source": "Hello", "chosen": "Hallo", "reject": "Haalo", "directions": "en-de"},
        {"source": "Hallo", "chosen": "Hello", "rejected": "Helo", "directions": "de-en"},
        {"translation": scored},
        {"source": "a", "chosen": "b", "reject": "b", "directions": "en-de"},
        {"source": "a", "chosen": "b", "directions": "en-de"},
        {"source": "a", "chosen": "b", "reject": "c"},
        {"translation": {"language_pair": "en-de", "en": "Hello", "de": "Hallo", "ref_de_kiwi_xcomet": 1.0}},
        {"translation": {"en": "Hello"}},
        {"source": " ", "chosen": "b", "reject": "c", "directions": "en-de"},
        7,
    ]
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    bad = BadRows()
    found = list(read_preferences(path, bad))
    assert found == [
        ("Hello", "Hallo", "Haalo", "en", "de"),
        ("Hallo", "Hello", "Helo", "de", "en"),
        ("Hello", "Guten Tag", "Hello", "en", "de"),
    ]
    assert sum(bad.counts.values()) == 7
    assert bad.places["the same text chosen and rejected"] == [f"{path}, line 4"]
    by_another = list(read_preferences(path, BadRows(), "xcomet"))
    assert by_another[2] == ("Hello", "Hallo", "Guten Tag", "en", "de")
    with pytest.raises(InvalidOption, match=r"preferences are in \.json"):
        list(read_preferences(tmp_path / "rows.tsv", bad))


def test_compared_translations_are_preferences_in_both_directions_unless_one_is_required(
    tmp_path: Path,
) -> None:
    row = {"language_pair": "de-en", "de": "Hallo", "en": "Hello", "required_directions": "", "Delta": 0.0}
    for code, (gpt4, alma) in {"de": ("Tag", "Hi"), "en": ("Good day", "Hallo")}.items():
        row |= {f"gpt4_{code}": gpt4, f"alma_{code}": alma}
        row |= {f"{name}_{code}_kiwi_xcomet": score for name, score in (("ref", 0.5), ("gpt4", 0.9))}
        row[f"alma_{code}_kiwi_xcomet"] = 0.1
    changed = [
        row,
        row | {"required_directions": "en-de"},
        row | {"required_directions": "en-de", "Delta": -2.0},
        row | {"gpt4_de_kiwi_xcomet": float("nan")},
        row | {"gpt4_de_kiwi_xcomet": float("nan"), "ref_de_kiwi_xcomet": None},
    ]
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(json.dumps({"translation": one}) + "\n" for one in changed))
    bad = BadRows()
    english, german = ("Hallo", "Good day", "Hallo", "de", "en"), ("Hello", "Tag", "Hi", "en", "de")
    assert list(read_preferences(path, bad)) == [
        english,
        german,
        german,
        ("Hello", "Hi", "Tag", "en", "de"),  # people found ALMA's better
        english,
        ("Hello", "Hallo", "Hi", "en", "de"),
        english,
    ]
    assert bad.places == {"fewer than two translations with a score by kiwi_xcomet": [f"{path}, line 5"]}


def test_stored_rows_are_those_that_were_written(tmp_path: Path) -> None:
    rows = [("a\tb\n", "ü"), ("", "\ud800"), ("中", "文")]
    stored = StoredRows.write(iter(rows), tmp_path / "deep" / "x.rows")
    assert len(stored) == 3
    assert list(stored) == rows
    assert stored[-1] == rows[2]
    assert stored[:2] == rows[:2]
    with pytest.raises(IndexError):
        stored[3]
    assert len(StoredRows.write([], tmp_path / "none")) == 0
    StoredRows.write([("others",)] * 9, stored.path)
    assert list(stored) == rows  # whoever reads them goes on with what was there


def test_text_in_another_language_is_told_if_it_surely_is() -> None:
    german = "Der Hund läuft über die Straße und bellt den Briefträger an."
    assert not is_elsewhere(german, "deu_Latn", ["eng_Latn"])
    assert is_elsewhere(german, "nld_Latn", ["eng_Latn"])
    assert is_elsewhere("The dog runs across the street and barks at him.", "deu_Latn", ["eng_Latn"])
    assert not is_elsewhere("OK", "deu_Latn", ["eng_Latn"])


def config_of(**settings: object) -> TrainingConfig:
    parts = (PartOptions("talk", files="{language}.tsv", same_language=True),)
    defaults: dict[str, object] = {"languages": {"de": "deu_Latn"}, "parts": parts}
    return TrainingConfig(**defaults | settings)  # type: ignore[arg-type]


ROWS = (
    "Das ist ein sehr schöner Tag, nicht wahr?\tThis is a very nice day, isn't it?\n"
    "Das ist ein sehr schöner Tag, nicht wahr!\tThis is a very nice day, isn't it?\n"
    "ohne Tabulator\n"
    "Was sie heute Nachmittag gelesen hat, steht hier.\tCe qu'elle a lu cet après-midi est écrit ici.\n"
    "Ein Satz der Prüfung.\tA sentence of the test.\n"
    "Sie hat 3 Katzen.\tShe has 4 cats.\n"
    "Der Zug ist gestern Abend nicht mehr gekommen.\tThe train did not come any more last night.\n"
)


@pytest.mark.parametrize("on_disk", [False, True])
def test_all_that_is_left_out_is_counted(on_disk: bool, tmp_path: Path) -> None:
    (tmp_path / "de.tsv").write_text(ROWS, encoding="utf-8")
    (tmp_path / "test.txt").write_text("A sentence of the test!\n")
    config = config_of(held_out=("test.txt",))
    found = collect(config, tmp_path, tmp_path / "rows" if on_disk else None)
    (part,) = found.parts
    assert len(part) == 2
    assert str(found).splitlines() == [
        "1 sentences are held out",
        "deu_Latn talk: 2 rows; left out: 1 had before, 1 another language, 1 held out, 1 other numbers",
        "bad rows:",
        f"1 with no tab: {tmp_path / 'de.tsv'}, line 3",
    ]


def test_what_is_missing_is_said(tmp_path: Path) -> None:
    with pytest.raises(InvalidOption, match=r"the part 'talk' has no text: there is no .*\{language\}\.tsv"):
        collect(config_of(), tmp_path, None)
    (tmp_path / "de.tsv").write_text(ROWS, encoding="utf-8")
    with pytest.raises(InvalidOption, match="no text in fr"):
        collect(config_of(languages={"de": "deu_Latn", "fr": "fra_Latn"}), tmp_path, None)
    with pytest.raises(InvalidOption, match=r"held_out: there is no .*gone\.txt"):
        collect(config_of(held_out=("gone.txt",)), tmp_path, None)
    with pytest.raises(InvalidOption, match=r"dev: there is no .*gone\.tsv"):
        collect(config_of(dev="gone.tsv"), tmp_path, None)


def test_development_rows_are_never_learned(tmp_path: Path) -> None:
    (tmp_path / "de.tsv").write_text(ROWS, encoding="utf-8")
    dev = "Etwas\tSomething\nSonst etwas\tThe train did not come any more last night\nohne Tabulator\n"
    (tmp_path / "dev.tsv").write_text(dev)
    found = collect(config_of(dev="dev.tsv", evaluate_pairs=1), tmp_path, None)
    assert len(found.bad.places["no tab"]) == 2
    assert [len(part) for part in found.dev] == [1]
    assert len(found.parts[0]) == 2  # the test sentence is learned here, the train is not


def test_pairs_need_no_english(tmp_path: Path) -> None:
    languages = {"de": "deu_Latn", "fr": "fra_Latn"}
    parts = (PartOptions("talk", files="pairs.jsonl", other="fr"),)
    row = {"translation": {"de": "Guten Tag!", "fr": "Bonjour !"}}
    (tmp_path / "pairs.jsonl").write_text(json.dumps(row))
    (part,) = collect(config_of(languages=languages, parts=parts), tmp_path, None).parts
    assert (part.code, part.other) == ("deu_Latn", "fra_Latn")  # type: ignore[union-attr]
    assert list(part.pairs) == [("Guten Tag!", "Bonjour !")]  # type: ignore[union-attr]


def test_one_file_of_all_languages_is_held_out_in_each_of_them(tmp_path: Path) -> None:
    for language in ("de", "fr"):
        (tmp_path / f"{language}.tsv").write_text(f"Satz von {language}\tsentence of {language}\nJa\tYes\n")
    rows = [{"translation": {language: f"Satz von {language}!", "en": "Other."}} for language in ("de", "fr")]
    (tmp_path / "test.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    config = config_of(languages={"de": "deu_Latn", "fr": "fra_Latn"}, held_out=("test.jsonl",))
    assert [list(part.pairs) for part in collect(config, tmp_path, None).parts] == [[("Ja", "Yes")]] * 2  # type: ignore[union-attr]
    (tmp_path / "test.jsonl").write_text('{"german": "Satz"}')
    with pytest.raises(InvalidOption, match=r"held_out: .*test\.jsonl has no row in en or de or fr"):
        collect(config, tmp_path, None)


def test_pairs_that_a_part_does_not_want_are_counted(tmp_path: Path) -> None:
    rows = ["Eins\tone\ta", "Zwei\ttwo\tb", "Drei Dinge hier\tthree things here\ta", "Vier\tfour\ta"]
    (tmp_path / "de.tsv").write_text("\n".join(rows))
    parts = (PartOptions("talk", files="{language}.tsv", origins=("a",), words=(1, 2), limit=1),)
    (kept,) = collect(config_of(parts=parts), tmp_path, None).kept
    assert kept.dropped == {"of other origins": 1, "too few or too many words": 1, "beyond the limit": 1}
