"""What a run takes up again, and what of changed settings holds."""

from dataclasses import replace
from pathlib import Path

import pytest

from dragoman.errors import InvalidOption
from dragoman.files import lock
from dragoman.training.parts import Part, PartOptions
from dragoman.training.running import Recipe, train
from dragoman.training.saving import _base_name
from dragoman.training.starting import Subject, begin
from tests.training.test_loop import config_of, log_of, trainer_in


def test_log_of_a_run_without_a_checkpoint_is_begun_anew(tmp_path: Path) -> None:
    (tmp_path / "log.jsonl").write_text('{"update": 25, "loss": 9.0}\n')  # killed before it had saved
    trainer_in(tmp_path, config_of(updates=25)).run()
    assert [row["update"] for row in log_of(tmp_path)] == [25, 25]  # figures and an evaluation


@pytest.mark.parametrize("optimizer", ["adamw", "muon"])
def test_settings_that_were_changed_hold_from_then_on_and_are_told(
    optimizer: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = config_of(updates=4, optimizer=optimizer)
    trainer_in(tmp_path, before).run()
    after = replace(before, updates=8, decay=0.5, rate=1e-3, warmup=0, beta2=0.9, weight_decay=0.5)
    again = trainer_in(tmp_path, after)
    capsys.readouterr()
    again.resume()
    told = capsys.readouterr().out
    assert told.startswith("other settings than before: beta2 0.98 -> 0.9; ")
    assert "updates 4 -> 8" in told
    assert (again.update, again.finished, again.optimizers.rate) == (4, False, 1e-3)
    groups = [group for one in again.optimizers.all for group in one.param_groups]
    assert groups[0]["weight_decay"] == 0.5
    assert groups[-1]["betas"] == (0.9, 0.9)
    again.run()
    assert (again.update, again.optimizers.rate) == (8, 0)
    other = trainer_in(tmp_path, replace(before, optimizer={"adamw": "muon", "muon": "adamw"}[optimizer]))
    with pytest.raises(InvalidOption, match=f"is of a run by {optimizer}"):
        other.resume()


def test_only_one_run_has_a_folder(tmp_path: Path) -> None:
    recipe = Recipe(config_of(), "small", tmp_path, tmp_path / "run")
    (tmp_path / "run").mkdir()
    with (tmp_path / "run" / ".lock").open("wb") as file:
        assert lock(file)
        with pytest.raises(InvalidOption, match="another run is under way in"):
            train(recipe)
    with pytest.raises(InvalidOption, match="there is no text"):
        train(recipe)


def test_tokenizer_is_made_anew_until_a_model_has_learned_with_it(tmp_path: Path) -> None:
    text = "the quick brown fox jumps over a lazy dog, and so on"
    parts = [Part("fra_Latn", "talk", 1, tuple((f"{text} {i}", f"{i} {text}") for i in range(40)))]
    config = config_of(languages={"fr": "fra_Latn"}, parts=(PartOptions("talk"),), vocabulary=90)
    small, same = (begin(config, parts, tmp_path).tokenizer.vocabulary for _ in range(2))
    larger = replace(config, vocabulary=95)
    assert begin(larger, parts, tmp_path).tokenizer.vocabulary == small + 5 == same + 5
    (tmp_path / "checkpoint.pt").touch()
    more = [*parts, Part("fra_Latn", "more", 1, parts[0].pairs)]
    assert begin(larger, more, tmp_path).tokenizer.vocabulary == small + 5
    with pytest.raises(InvalidOption, match=r"vocabulary is 90, but the model in .* of 95"):
        begin(config, parts, tmp_path)


def test_adapter_calls_its_base_by_the_hubs_name_or_a_whole_path(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("base").mkdir()
    for start, base, adapter, name in (
        ("me/model", Path("snapshots/abc"), None, "me/model"),
        ("base", Path("base"), None, str(tmp_path.resolve() / "base")),
        ("adapter", Path("base"), Path("adapter"), str(tmp_path.resolve() / "base")),
    ):
        subject = Subject(None, None, "plain", base, adapter or base)  # type: ignore[arg-type]
        assert _base_name(subject, config_of(start=start)) == name
