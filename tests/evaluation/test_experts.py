"""Statistics of experts: what is counted, what follows from it, what the file holds."""

import json
from pathlib import Path

import numpy as np
import pytest

from dragoman.errors import ConfigError, InvalidOption
from dragoman.evaluation.experts import ExpertStatistics, Routing, Side, Tally, in_effect, variation


def routing(*first: float) -> Routing:
    shares = np.array([first])
    return Routing(10, shares, np.roll(shares, 1), np.full_like(shares, 0.75))


def statistics(**languages: Routing) -> ExpertStatistics:
    some = {f"{code}_Latn": each for code, each in languages.items()}
    return ExpertStatistics("toy", {"encoder": Side((3,), 3, some)})


def test_a_tally_counts_first_and_second_choices_by_layer_over_passes() -> None:
    tally = Tally([1], 4)
    chosen = np.zeros((2, 3, 2), np.int32)
    share = np.zeros((2, 3, 2), np.float32)
    chosen[1], share[1] = [[0, 2], [2, 0], [0, 3]], [[0.9, 0.1], [0.6, 0.4], [0.7, 0.3]]
    tally(chosen, share)
    chosen[1, :], share[1, :] = [2, 1], [0.5, 0.5]
    tally(chosen[:, :1], share[:, :1])
    found = tally.routing()
    assert tally.tokens == found.tokens == 4
    assert found.first.tolist() == [[0.5, 0, 0.5, 0]]
    assert found.second.tolist() == [[0.25, 0.25, 0.25, 0.25]]
    assert found.confidence == pytest.approx(np.array([[0.8, 0, 0.55, 0]]))
    assert found.rate.sum() == 2
    assert found.importance == pytest.approx(np.array([[0.5 * np.exp(0.8), 0, 0.5 * np.exp(0.55), 0]]))


def test_balance_is_that_of_textbooks() -> None:
    even, uneven = np.full((1, 4), 0.5), np.array([[2.0, 0, 0, 0]])
    assert variation(np.vstack([even, uneven])) == pytest.approx([0, np.sqrt(3)])
    assert in_effect(np.vstack([even, uneven, [[1.0, 1, 0, 0]]])) == pytest.approx([4, 1, 2])


def test_languages_are_alike_if_they_use_the_same_experts_in_the_same_measure() -> None:
    side = statistics(eng=routing(0.5, 0.5, 0), fra=routing(0.5, 0.5, 0), deu=routing(0, 0, 1)).sides[
        "encoder"
    ]
    assert side.similarity() == pytest.approx(np.array([[1, 1, 0], [1, 1, 0], [0, 0, 1]]))


def test_a_pass_uses_an_expert_the_likelier_the_more_rows_it_has() -> None:
    side = statistics(eng=routing(0.5, 0.5, 0), deu=routing(0, 0, 1)).sides["encoder"]
    # English gives expert 0 half of its tokens, German all of them.
    assert side.chance(1)[0, 0] == pytest.approx((0.5 + 1) / 2)
    assert side.chance(3)[0, 0] == pytest.approx((1 - 0.5**3 + 1) / 2)


def test_the_file_gives_back_what_was_saved(tmp_path: Path) -> None:
    saved = statistics(eng=routing(0.2, 0.3, 0.5), fra=routing(1, 0, 0))
    saved.save(path := tmp_path / "expert-statistics.json")
    read = ExpertStatistics.read(path)
    assert (read.model, read.languages) == ("toy", ("eng_Latn", "fra_Latn"))
    assert read.to_dict() == saved.to_dict()
    assert json.loads(path.read_text())["encoder"]["languages"]["eng_Latn"]["tokens"] == 10


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"version": 7}, "is of version 7"),
        ({"model": None, "encoder": {"layers": [3]}}, "holds no statistics of experts"),
        ({"encoder": {"layers": [3], "experts": 3, "languages": {}}}, "no language"),
        ({"encoder": {"layers": [3, 5], "experts": 3, "languages": None}}, "holds no statistics"),
    ],
)
def test_another_file_is_refused(change: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        ExpertStatistics.from_dict(statistics(eng=routing(1, 0, 0)).to_dict() | change)


def test_arrays_of_another_shape_are_refused() -> None:
    data = statistics(eng=routing(1, 0, 0)).to_dict()
    data["encoder"]["layers"] = [3, 5]
    with pytest.raises(ConfigError, match=r"eng_Latn has an array of shape \(1, 3\)"):
        ExpertStatistics.from_dict(data)


def test_a_file_that_is_not_there_is_told_how_to_make(tmp_path: Path) -> None:
    with pytest.raises(InvalidOption, match="dragoman experts report makes such a file"):
        ExpertStatistics.read(tmp_path / "nothing.json")


def test_a_prior_is_for_the_model_that_was_watched() -> None:
    found = statistics(eng=routing(0.5, 0.5, 0))
    assert found.prior("decoder", [3], 3, rows=4) is None
    prior = found.prior("encoder", [3], 3, rows=4)
    assert prior is not None
    assert prior.shape == (1, 3)
    with pytest.raises(ConfigError, match=r"are about another model: 3 in the encoder's layers \[3\]"):
        found.prior("encoder", [3], 8, rows=4)


def test_of_an_unknown_language_nothing_is_made_up() -> None:
    with pytest.raises(InvalidOption, match="say nothing of deu_Latn; they have eng_Latn"):
        statistics(eng=routing(1, 0, 0)).sides["encoder"].importance(["eng_Latn", "deu_Latn"])
