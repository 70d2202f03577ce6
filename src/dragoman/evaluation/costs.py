"""What it cost to make a model smaller: its translations before and after, scored against references."""

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from dragoman.evaluation.metrics import length_ratio, score

MOST_CHRF = 1.0
"""A fall of chrF++ above which there is a warning."""
MOST_LENGTH = 0.05
"""A change of the length ratio above which there is one: scores hide that translations get longer."""


@dataclass(frozen=True)
class Quality:
    """Of some translations."""

    chrf: float
    """chrF++, from 0 to 100."""
    length_ratio: float
    """How many words, as BLEU counts them, come for one of the references'."""


@dataclass(frozen=True)
class Cost:
    """What a direction lost."""

    source: str
    target: str
    sentences: int
    before: Quality
    after: Quality
    signature: str
    """Of chrF++, as sacrebleu writes it."""

    @classmethod
    def of(
        cls, source: str, target: str, before: Sequence[str], after: Sequence[str], references: Sequence[str]
    ) -> "Cost":
        """source, target: NLLB codes; the others are sentence by sentence. ValueError as `metrics.score`."""
        scores = [score(found, references, target)[0] for found in (before, after)]
        ratios = [length_ratio(found, references, target) for found in (before, after)]
        first, last = (
            Quality(round(chrf.value, 2), round(ratio, 3)) for chrf, ratio in zip(scores, ratios, strict=True)
        )
        return cls(source, target, len(references), first, last, scores[0].signature)

    def warnings(self) -> Iterator[str]:
        """What of it is more than a smaller model should cost."""
        direction = f"{self.source} to {self.target}"
        fall = self.before.chrf - self.after.chrf
        if fall > MOST_CHRF:
            chrf = f"from {self.before.chrf:.1f} to {self.after.chrf:.1f}"
            yield f"{direction}: chrF++ falls by {fall:.1f}, {chrf}"
        ratios = self.before.length_ratio, self.after.length_ratio
        if abs(ratios[1] - ratios[0]) > MOST_LENGTH * ratios[0]:
            yield f"{direction}: the length ratio goes from {ratios[0]:.2f} to {ratios[1]:.2f}"

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)
