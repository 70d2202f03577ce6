"""`dragoman modules`, in this process."""

import json
import shutil
from pathlib import Path

import pytest
from safetensors.torch import load_file

from dragoman.cli.modules import app

GOLDEN = Path(__file__).parents[1] / "data" / "golden"
XALMA = GOLDEN / "xalma"
BASE, ADAPTER, MERGED = (GOLDEN / "xalma_group6" / name for name in ("base", "adapter", "merged"))


@pytest.fixture
def run(capsys: pytest.CaptureFixture):
    """Run `dragoman modules ARGS`; what it printed to (standard output, standard error)."""

    def run(*args: object, status: int = 0) -> tuple[str, str]:
        with pytest.raises(SystemExit) as stop:
            app([str(arg) for arg in args])
        out, err = capsys.readouterr()
        assert stop.value.code == status, err
        return out, err

    return run


def test_list_shows_groups_with_their_languages(run) -> None:
    lines = run("list", XALMA)[0].splitlines()
    assert lines[0] == "base and language modules, combined: 3 layers, rank 8, scale 2"
    assert [line.split()[:2] for line in lines[2:]] == [["group", str(group)] for group in range(1, 9)]
    assert "zh" in lines[7].split()


def test_list_as_json_is_one_object(run) -> None:
    listing = json.loads(run("list", XALMA, "--json")[0])
    assert listing["kind"] == "combined"
    assert listing["modules"][5]["group"] == 6
    assert "zh" in listing["modules"][5]["languages"]


def test_extracts_a_module_by_language_or_group(run, tmp_path: Path) -> None:
    out, err = run("extract", XALMA, "--lang", "chinese", "--output", tmp_path / "zh")
    assert out == ""
    assert f"wrote {tmp_path / 'zh'}" in err
    run("extract", XALMA, "--group", 6, "--output", tmp_path / "6", "--base-name", "../base")
    mine = (tmp_path / "zh" / "adapter_model.safetensors").read_bytes()
    assert mine == (tmp_path / "6" / "adapter_model.safetensors").read_bytes()
    names = [json.loads((tmp_path / n / "adapter_config.json").read_text()) for n in ("zh", "6")]
    assert [name["base_model_name_or_path"] for name in names] == ["haoranxu/X-ALMA-13B-Pretrain", "../base"]


def test_takes_apart_merges_and_combines(run, tmp_path: Path) -> None:
    run("extract", XALMA, "--base", "-o", tmp_path / "base", "--max-shard-gb", "0.0002")
    assert len(list((tmp_path / "base").glob("model-*.safetensors"))) > 2
    run("extract", XALMA, "-g", 6, "-o", tmp_path / "6")
    run(
        "merge",
        tmp_path / "base",
        "--adapter",
        tmp_path / "6",
        "-o",
        tmp_path / "merged",
        "--dtype",
        "float16",
    )
    run("merge", XALMA, "--lang", "ja", "-o", tmp_path / "merged2", "--dtype", "float16")
    mine = load_file(tmp_path / "merged" / "model.safetensors")
    other = load_file(tmp_path / "merged2" / "model.safetensors")
    assert all(tensor.equal(other[key]) for key, tensor in mine.items())
    _, err = run("combine", tmp_path / "base", "--module", f"6={tmp_path / '6'}", "-o", tmp_path / "combined")
    assert "no module for group 1, 2, 3, 4, 5, 7, 8" in err
    listing = json.loads(run("list", tmp_path / "combined", "--json")[0])
    assert [module["group"] for module in listing["modules"]] == [6]


def test_force_replaces(run, tmp_path: Path) -> None:
    run("extract", XALMA, "-g", 5, "-o", tmp_path)
    before = (tmp_path / "adapter_model.safetensors").read_bytes()
    run("extract", XALMA, "-g", 6, "-o", tmp_path, "--force")
    assert (tmp_path / "adapter_model.safetensors").read_bytes() != before


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (["extract", XALMA], "--group 6, --lang zh or --base"),
        (["extract", XALMA, "--group", "6", "--lang", "zh"], "not both"),
        (["extract", XALMA, "--group", "6", "--base"], "leave out"),
        (["merge", XALMA], "which module to merge"),
        (["merge", BASE, "--group", "6", "--adapter", ADAPTER], "which module to merge"),
        (["merge", XALMA, "--group", "6", "--dtype", "int8"], "--dtype is 'int8'"),
        (["merge", XALMA, "--group", "6", "--max-shard-gb", "0"], "max_shard_bytes is 0"),
        (["combine", BASE, "--module", ADAPTER], "is not GROUP=FOLDER"),
        (["combine", BASE, "--module", f"6={ADAPTER}", "--module", f"6={ADAPTER}"], "given already"),
    ],
    ids=range(9),
)
def test_impossible_request_is_one_line_and_writes_nothing(
    run, args: list[object], words: str, tmp_path: Path
) -> None:
    out, err = run(*args, "--output", tmp_path / "out", status=2)
    assert words in err
    assert (out, err.count("\n")) == ("", 1)
    assert not (tmp_path / "out").exists()


def test_language_without_a_module_is_an_error(run, tmp_path: Path) -> None:
    _, err = run("extract", XALMA, "--lang", "sw", "--output", tmp_path / "out", status=2)
    assert "Swahili" in err


def test_error_is_the_only_line(run, tmp_path: Path) -> None:
    out, err = run("merge", tmp_path / "nothing", "--group", 6, "--output", tmp_path / "out", status=2)
    assert (out, err.count("\n")) == ("", 1)


def test_model_in_the_local_cache_is_known_by_its_names(run, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    folder = tmp_path / "models--haoranxu--X-ALMA"
    (folder / "refs").mkdir(parents=True)
    (folder / "refs" / "main").write_text("0" * 40)
    shutil.copytree(XALMA, folder / "snapshots" / ("0" * 40))
    (folder / "snapshots" / ("0" * 40) / "tokenizer.model").touch()
    for name in ("X-ALMA", "haoranxu/X-ALMA"):
        assert json.loads(run("list", name, "--json")[0])["kind"] == "combined"
    assert "hf download haoranxu/X-ALMA-13B-Group1" in run("list", "haoranxu/X-ALMA-13B-Group1", status=2)[1]
