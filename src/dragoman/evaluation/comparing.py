"""Whether one system is better than another: sacrebleu's paired bootstrap (Koehn, 2004)."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from dragoman.evaluation.metrics import make

SAMPLES = 1000


@dataclass(frozen=True)
class Comparison:
    """A system beside the baseline in one metric."""

    system: str
    metric: str
    value: float
    mean: float
    """Over the resamples."""
    interval: float
    """Half of the 95 % confidence interval."""
    p_value: float | None
    """How likely a difference as large is by chance; None of the baseline itself."""
    signature: str


def compare(
    systems: Mapping[str, Sequence[str]],
    references: Sequence[str],
    target: str,
    metrics: Sequence[str] = ("chrF++", "BLEU"),
    samples: int = SAMPLES,
) -> list[Comparison]:
    """Every system's translations beside the first one's, as `sacrebleu --paired-bs` has them.

    systems: translations by name, the baseline first. target: NLLB code of the references' language.
    """
    from sacrebleu.significance import PairedTest

    named: list[tuple[str, Sequence[str]]] = [(name, list(texts)) for name, texts in systems.items()]
    results = []
    for metric in metrics:
        test = PairedTest(named, {metric: make(metric, target)}, [list(references)], "bs", samples)
        signatures, columns = test()
        (label,) = signatures
        for name, found in zip(columns["System"], columns[label], strict=True):
            assert not isinstance(found, str)
            results.append(
                Comparison(
                    str(name), metric, float(found.score), float(found.mean or 0), float(found.ci or 0),
                    None if found.p_value is None else float(found.p_value), str(signatures[label]),
                )
            )  # fmt: skip
    return results
