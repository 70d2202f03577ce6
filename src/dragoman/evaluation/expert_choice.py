"""Which experts some languages can do with (arXiv 2212.09811): the most important ones of each layer."""

from collections.abc import Mapping, Sequence

from dragoman.errors import InvalidOption
from dragoman.evaluation.experts import ExpertStatistics

Shape = tuple[int, int]
"""How many layers of a side have experts, and how many each has."""

ENCODER_SHARE = 3
"""So many experts stay in a layer of the encoder for one in a layer of the decoder: the published split."""
LEAST = 2
"""A token has two choices."""


def keep_counts(share: float, sides: Mapping[str, Shape]) -> dict[str, int]:
    """How many experts stay in each layer of each side, if `share` of all of them do.

    The encoder keeps three for the decoder's one; what one side can't use is the other's. InvalidOption as
    `check_share`.
    """
    check_share(share)
    total = share * sum(layers * experts for layers, experts in sides.values())
    weights = {side: ENCODER_SHARE if side == "encoder" else 1 for side in sides}
    unit = total / sum(layers * weights[side] for side, (layers, _) in sides.items())
    counts = {side: min(unit * weights[side], float(experts)) for side, (_, experts) in sides.items()}
    for side, (layers, experts) in sides.items():
        left = total - sum(counts[name] * sides[name][0] for name in sides)
        counts[side] = min(float(experts), counts[side] + max(0.0, left) / layers)
    return {side: max(LEAST, round(count)) for side, count in counts.items()}


def check_share(share: float) -> None:
    """InvalidOption for a share that isn't above 0 and at most 1."""
    if not 0 < share <= 1:
        raise InvalidOption(f"{share} of the experts can't stay; say a share above 0, up to 1, such as 0.3")


def choose_experts(
    statistics: ExpertStatistics, languages: Sequence[str], counts: Mapping[str, int]
) -> dict[str, dict[int, tuple[int, ...]]]:
    """The numbers of the most important experts, `counts` in each layer, by side and layer.

    An expert's importance is the mean over the languages (NLLB codes), each of which is read by the
    encoder and written by the decoder. InvalidOption if the statistics lack one of them.
    """
    chosen = {}
    for side, count in counts.items():
        found = statistics.sides.get(side)
        if found is None:
            raise InvalidOption(f"the statistics say nothing of the {side}'s experts; collect them anew")
        best = (-found.importance(languages)).argsort(axis=1, kind="stable")[:, :count]
        chosen[side] = {
            layer: tuple(sorted(map(int, row))) for layer, row in zip(found.layers, best, strict=True)
        }
    return chosen
