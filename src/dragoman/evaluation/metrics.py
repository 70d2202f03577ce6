"""Corpus scores of translations, always with the signature that makes them comparable."""

from collections.abc import Sequence
from dataclasses import dataclass

from dragoman.errors import InvalidOption


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
    import sacrebleu

    if not hypotheses or len(hypotheses) != len(references):
        raise ValueError(f"{len(hypotheses)} hypotheses came for {len(references)} references")
    chrf = sacrebleu.CHRF(word_order=2)
    bleu = sacrebleu.BLEU(tokenize=bleu_tokenizer(target))
    results = []
    for metric in (chrf, bleu):
        value = metric.corpus_score(list(hypotheses), [list(references)]).score
        name = "chrF++" if metric is chrf else "BLEU"
        results.append(Score(name, value, str(metric.get_signature())))
    return results[0], results[1]


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
