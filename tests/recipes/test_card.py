"""The embedded model's card and NOTICE say what is on disk, and name every origin."""

import importlib.util
import json
import re
import tomllib
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from dragoman.checkpoints.catalog import embedded_folder
from dragoman.errors import InvalidOption
from dragoman.training.config import TrainingConfig

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "recipes" / "mini"


@pytest.fixture(scope="module")
def card() -> ModuleType:
    spec = importlib.util.spec_from_file_location("card", FOLDER / "card.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def origins() -> dict[str, dict[str, str]]:
    return tomllib.loads((FOLDER / "origins.toml").read_text(encoding="utf-8"))


def result(testset: str, pair: str, chrf: float) -> dict[str, Any]:
    faults = dict.fromkeys(("repetition", "wrong_language", "lost_numbers", "lost_names", "copied"), 0.025)
    signatures = {"chrF++": "nrefs:1|nw:2", "BLEU": "tok:13a"}
    return {
        "testset": testset,
        "pair": pair,
        "sentences": 1012,
        "scores": {"chrF++": chrf, "BLEU": 17.25},
        "signatures": signatures,
        "length_ratio": 1.01,
        "faults": faults,
    }


@pytest.fixture
def given(tmp_path: Path) -> dict[str, Path]:
    """A model's folder, and what is known of its run."""
    model = tmp_path / "model"
    model.mkdir()
    for name in ("config.json", "dragoman.json", "sentencepiece.bpe.model"):
        (model / name).write_bytes((embedded_folder() / name).read_bytes())
    (model / "model.safetensors").write_bytes(bytes(2_600_000))
    said = json.loads((model / "dragoman.json").read_text())
    (model / "dragoman.json").write_text(json.dumps({**said, "licence": "CC-BY-SA-4.0"}))
    files = {
        "scores": {
            "run": {"model": "mini", "precision": "int8", "beams": 4},
            "results": [result("flores", "en-de", 41.04), result("flores", "de-en", 43.06)],
            "survival": {"languages": 1, "rates": {"url": 0.975}},
        },
        "counts": {
            "held_out": 7,
            "pairs": {"deu_Latn": {"everyday": 1200, "dictionary": 34}},
            "origins": {"de": {"everyday": ["tatoeba:challenge", "tatoeba:pivot"], "dictionary": ["ding"]}},
        },
    }
    for name, content in files.items():
        (tmp_path / f"{name}.json").write_text(json.dumps(content))
    log = [{"update": 10, "seconds": 5.0, "loss": 5.1}, {"update": 1500, "seconds": 540.2, "loss": 2.5}]
    (tmp_path / "log.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in log))
    return {"model": model, "settings": FOLDER / "cpu.toml", "log": tmp_path / "log.jsonl"} | {
        name: tmp_path / f"{name}.json" for name in files
    }


def write(card: ModuleType, given: dict[str, Path], *more: str) -> str:
    options = [f"--{name}={path}" for name, path in given.items() if name != "model"]
    card.main([str(given["model"]), *options, "--machine=one accelerator", *more])
    return (given["model"] / "README.md").read_text(encoding="utf-8")


def test_figures_are_those_of_the_files(card: ModuleType, given: dict[str, Path]) -> None:
    text = write(card, given)
    assert (
        "the share of things that come back as they have to (within tags words may be translated): url 97.5%."
        in " ".join(text.split())
    )
    assert "| en → de | 41.0 / 17.2 |" in text
    assert "| mean | **42.0** / 17.2 |" in text or "| mean | **42.1** / 17.2 |" in text
    assert "1,500 updates in 9 minutes on one accelerator" in text
    assert "| German | 1,200 | 34 | 1,234 |" in text
    assert "3 MB in" in text
    assert "[CC BY-SA 4.0]" in text
    assert not re.search(r"\{|None", text)


def test_origins_are_named_with_their_licences_and_no_others(
    card: ModuleType, given: dict[str, Path]
) -> None:
    notice = given["model"] / "NOTICE"
    text = write(card, given, f"--notice={notice}")
    for where in (text, notice.read_text(encoding="utf-8")):
        assert "Tatoeba" in where
        assert "CC-BY-SA-4.0" in where or "CC BY-SA 4.0" in where
        assert "CC BY 2.0 FR" in where
        assert "GPL-2.0-or-later" in where
        assert "LibreOffice" not in where


def test_an_origin_of_which_nothing_is_known_stops_it(card: ModuleType, given: dict[str, Path]) -> None:
    found = json.loads(given["counts"].read_text())
    found["origins"]["de"]["everyday"].append("found-somewhere")
    given["counts"].write_text(json.dumps(found))
    with pytest.raises(InvalidOption, match=r"origins\.toml says nothing of found-somewhere"):
        write(card, given)


def test_one_section_of_the_readme_is_written_anew(card: ModuleType, given: dict[str, Path]) -> None:
    readme = given["model"] / "project.md"
    before = (ROOT / "README.md").read_text(encoding="utf-8")
    readme.write_text(before, encoding="utf-8")
    write(card, given, f"--readme={readme}")
    after = readme.read_text(encoding="utf-8")
    start, end = card.SECTION, "## Limits"
    assert after.partition(start)[0] == before.partition(start)[0]
    assert after.partition(end)[2] == before.partition(end)[2]
    assert "| FLORES-200 devtest | 42." in after.partition(start)[2].partition(end)[0]


@pytest.mark.parametrize("path", sorted(FOLDER.glob("*.toml")), ids=lambda path: path.stem)
def test_every_origin_that_settings_name_is_known(path: Path) -> None:
    if path.stem == "origins":
        assert all({"name", "what", "licence", "url"} == each.keys() for each in origins().values())
        return
    parts = TrainingConfig.from_toml(path).parts
    named = {origin for part in parts for origin in part.origins}
    assert named <= origins().keys()
