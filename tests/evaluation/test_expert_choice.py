"""Which experts stay: as many as were asked for, split as published, the most important ones."""

import numpy as np
import pytest

from dragoman.errors import InvalidOption
from dragoman.evaluation.expert_choice import choose_experts, keep_counts
from dragoman.evaluation.experts import ExpertStatistics, Routing, Side

BIG = {"encoder": (6, 128), "decoder": (6, 128)}
MINI = {"encoder": (2, 8), "decoder": (1, 8)}


@pytest.mark.parametrize(
    ("share", "sides", "counts"),
    [
        (0.1875, BIG, (36, 12)),  # the published 216 and 72 of 1,536
        (0.3, BIG, (58, 19)),
        (1, BIG, (128, 128)),
        (0.9, BIG, (128, 102)),  # the encoder has no more, so the decoder keeps the rest
        (0.001, BIG, (2, 2)),
        (0.5, MINI, (5, 2)),
        (0.9, MINI, (8, 6)),
    ],
)
def test_the_encoder_keeps_three_for_the_decoders_one(
    share: float, sides: dict[str, tuple[int, int]], counts: tuple[int, int]
) -> None:
    assert keep_counts(share, sides) == dict(zip(("encoder", "decoder"), counts, strict=True))


def test_one_side_alone_keeps_its_share() -> None:
    assert keep_counts(0.25, {"decoder": (3, 16)}) == {"decoder": 4}


@pytest.mark.parametrize("share", [0, -0.1, 1.1, float("nan")])
def test_an_impossible_share_is_refused(share: float) -> None:
    with pytest.raises(InvalidOption, match="say a share above 0, up to 1"):
        keep_counts(share, BIG)


def statistics(**first: list[float]) -> ExpertStatistics:
    routings = {
        f"{code}_Latn": Routing(10, shares := np.array([row]), shares, np.full((1, len(row)), 0.5))
        for code, row in first.items()
    }
    return ExpertStatistics("toy", {"decoder": Side((2,), 4, routings)})


def test_experts_stay_by_their_mean_importance_over_the_packs_languages() -> None:
    found = statistics(eng=[0.6, 0.3, 0.1, 0], fra=[0, 0.3, 0.1, 0.6], deu=[0, 0, 1, 0])
    assert choose_experts(found, ["eng_Latn"], {"decoder": 2}) == {"decoder": {2: (0, 1)}}
    assert choose_experts(found, ["eng_Latn", "fra_Latn"], {"decoder": 3}) == {"decoder": {2: (0, 1, 3)}}
    assert choose_experts(found, ["deu_Latn", "fra_Latn"], {"decoder": 2}) == {"decoder": {2: (2, 3)}}


def test_confidence_counts_beside_frequency() -> None:
    routing = Routing(10, np.array([[0.5, 0.5, 0]]), np.zeros((1, 3)), np.array([[0.5, 0.9, 0]]))
    found = ExpertStatistics("toy", {"encoder": Side((0,), 3, {"eng_Latn": routing})})
    assert choose_experts(found, ["eng_Latn"], {"encoder": 1}) == {"encoder": {0: (1,)}}


def test_what_is_not_known_is_not_guessed() -> None:
    with pytest.raises(InvalidOption, match="say nothing of deu_Latn"):
        choose_experts(statistics(eng=[1, 0, 0, 0]), ["deu_Latn"], {"decoder": 2})
    with pytest.raises(InvalidOption, match="say nothing of the encoder's experts"):
        choose_experts(statistics(eng=[1, 0, 0, 0]), ["eng_Latn"], {"encoder": 2})
