"""A folder of M2M-100's files from the command line."""

import json
import shutil
from pathlib import Path


def test_text_is_translated_into_a_language_that_only_this_family_has(dragoman, m2m100: Path) -> None:
    for target in ("fr", "br"):
        done = dragoman(
            "translate", "--model", m2m100, "--from", "en", "--to", target, "--json", "The train leaves."
        )
        assert done.code == 0, done.err
        record = json.loads(done.out)
        assert record["target"] == {"fr": "fra_Latn", "br": "bre_Latn"}[target]
        assert record["sentences"][0]["candidates"][0]["tokens"][0] == f"__{target}__"


def test_languages_and_models_are_listed(dragoman, m2m100: Path) -> None:
    rows = [line.split("\t") for line in dragoman("languages", "--model", m2m100).lines]
    assert len(rows) in (100, 101)
    assert ["bre_Latn", "br", "Breton", "brezhoneg", "Latin", ""] in rows
    names = dragoman("models").out
    assert all(name in names for name in ("m2m100_418M", "m2m100_1.2B", "small100"))


def test_undecided_folder_is_refused_before_it_is_loaded(dragoman, m2m100: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(m2m100, tmp_path / "mine")
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"decoder_layers": 1}))
    done = dragoman("translate", "--model", folder, "--from", "en", "--to", "fr", "Hello")
    assert done.code != 0
    assert '{"family": "SMaLL-100"}' in done.err


def test_other_models_say_that_they_lack_such_a_language(dragoman) -> None:
    done = dragoman("translate", "--from", "en", "--to", "br", "Hello")
    assert done.code != 0
    assert "'br' is Breton, which this model doesn't speak" in done.err


def test_source_is_detected_among_its_languages(dragoman, m2m100: Path) -> None:
    text = "Le médecin arrivera demain matin à neuf heures et demie."
    record = json.loads(dragoman("translate", "--model", m2m100, "--to", "en", "--json", text).out)
    assert record["detected"]["language"] == "fra_Latn"
