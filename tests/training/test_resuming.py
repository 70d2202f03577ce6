"""What a run takes up again, and what of changed settings holds."""

from dataclasses import replace
from pathlib import Path

import pytest

from dragoman.errors import InvalidOption
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
