"""What a smaller model costs is measured, and too much is said."""

import pytest

from dragoman.evaluation.costs import Cost, Quality

pytest.importorskip("sacrebleu")


def cost(before: tuple[float, float], after: tuple[float, float]) -> Cost:
    return Cost("fra_Latn", "eng_Latn", 10, Quality(*before), Quality(*after), "signature")


def test_scores_and_lengths_are_those_of_both_models() -> None:
    whole, cut = ["The cat sat on the mat."], ["The cat sat on the mat on the mat."]
    found = Cost.of("fra_Latn", "eng_Latn", whole, cut, whole)
    assert (found.before.chrf, found.before.length_ratio, found.sentences) == (100, 1, 1)
    assert found.after.chrf < 100
    assert found.after.length_ratio == round(10 / 7, 3)
    assert "nw:2" in found.signature
    assert len([*found.warnings()]) == 2
    assert found.to_dict()["after"] == {"chrf": found.after.chrf, "length_ratio": found.after.length_ratio}


@pytest.mark.parametrize(
    ("before", "after", "warnings"),
    [
        ((50, 1.0), (49.1, 1.04), []),
        ((50, 1.0), (55, 0.96), []),
        ((50, 1.0), (48.9, 1.0), ["fra_Latn to eng_Latn: chrF++ falls by 1.1, from 50.0 to 48.9"]),
        ((51.5, 0.99), (51.5, 1.12), ["fra_Latn to eng_Latn: the length ratio goes from 0.99 to 1.12"]),
        ((50, 1.0), (52, 0.9), ["fra_Latn to eng_Latn: the length ratio goes from 1.00 to 0.90"]),
    ],
)
def test_a_fall_of_one_or_a_twentieth_of_the_length_is_warned_of(
    before: tuple[float, float], after: tuple[float, float], warnings: list[str]
) -> None:
    assert [*cost(before, after).warnings()] == warnings
