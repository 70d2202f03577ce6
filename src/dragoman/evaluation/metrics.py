"""Corpus scores of translations, always with the signature that makes them comparable."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dragoman.errors import InvalidOption

SPBLEU = "flores200"
"""spBLEU's tokenizer by sacrebleu's name."""


@dataclass(frozen=True)
class Score:
    """A corpus score from 0 to 100, with sacrebleu's signature of how it was computed."""

    metric: str
    value: float
    signature: str


def need_sacrebleu() -> None:
    """InvalidOption if there is no sacrebleu."""
    try:
        import sacrebleu  # noqa: F401
    except ImportError:
        raise InvalidOption("scoring needs sacrebleu: pip install 'dragoman[training]'") from None


def score(hypotheses: Sequence[str], references: Sequence[str], target: str) -> tuple[Score, Score]:
    """chrF++ (arXiv W17-4770, word order 2) and BLEU (arXiv 1804.08771) of one hypothesis per reference.

    target: the NLLB code of the references' language, which picks BLEU's tokenizer: 13a, sacrebleu's
    own for Chinese, or characters where words aren't parted by spaces (and for Korean).
    ValueError if the two differ in number or are empty.
    """
    found = scores(hypotheses, references, target, ("chrF++", "BLEU"))
    return found[0], found[1]


def scores(
    hypotheses: Sequence[str], references: Sequence[str], target: str, names: Sequence[str] | None = None
) -> list[Score]:
    """As `score`, in these metrics, or all that there are: spBLEU needs a file (`available`)."""
    if not hypotheses or len(hypotheses) != len(references):
        raise ValueError(f"{len(hypotheses)} hypotheses came for {len(references)} references")
    results = []
    for name in available() if names is None else names:
        metric = make(name, target)
        value = metric.corpus_score(list(hypotheses), [list(references)]).score
        results.append(Score(name, value, str(metric.get_signature())))
    return results


def sentence_scores(hypotheses: Sequence[str], references: Sequence[str]) -> list[float]:
    """chrF++ of each sentence."""
    metric = make("chrF++", "")
    return [metric.sentence_score(h, [r]).score for h, r in zip(hypotheses, references, strict=True)]


def make(name: str, target: str) -> Any:
    """sacrebleu's metric of that name, for references in a language."""
    import sacrebleu

    if name == "chrF++":
        return sacrebleu.CHRF(word_order=2)
    return sacrebleu.BLEU(tokenize=SPBLEU if name == "spBLEU" else bleu_tokenizer(target))


def available() -> tuple[str, ...]:
    """The metrics that can be computed here. sacrebleu downloads spBLEU's tokenizer when it is first used
    (`sacrebleu --tokenize flores200`); this never does."""
    from sacrebleu.utils import SACREBLEU_DIR

    there = (Path(SACREBLEU_DIR) / "models" / "flores200sacrebleuspm").exists()
    return ("chrF++", "BLEU", "spBLEU") if there else ("chrF++", "BLEU")


def length_ratio(hypotheses: Sequence[str], references: Sequence[str], target: str) -> float:
    """How long hypotheses are for their references, in BLEU's words; arguments and errors as in `score`."""
    import sacrebleu

    if not hypotheses or len(hypotheses) != len(references):
        raise ValueError(f"{len(hypotheses)} hypotheses came for {len(references)} references")
    bleu = sacrebleu.BLEU(tokenize=bleu_tokenizer(target))
    found = bleu.corpus_score(list(hypotheses), [list(references)])
    return float(found.sys_len / max(1, found.ref_len))


def bleu_tokenizer(target: str) -> str:
    """The sacrebleu tokenizer for a language given by its NLLB code."""
    from dragoman.languages import of_code

    language = of_code(target)
    if language.script in ("Hans", "Hant"):
        return "zh"
    return "char" if language.nllb == "kor_Hang" or not language.writes_spaces else "13a"
