"""What a caller may ask of generation."""

from dataclasses import dataclass
from typing import Literal

from dragoman.errors import InvalidOption


@dataclass(frozen=True)
class GenerationOptions:
    """Beam search by default; greedy with `beams=1`; sampling with `beams=1, sample=True`.

    Names and meanings follow transformers' `generate`, and so do the results.
    """

    beams: int = 4
    """Hypotheses kept per sentence; 1 is greedy search."""
    max_new_tokens: int = 256
    """Most tokens generated, the forced language token and </s> included."""
    length_penalty: float = 1.0
    """A finished hypothesis scores log-probability / length**length_penalty; >1 favours long ones."""
    early_stopping: bool | Literal["never"] = False
    """True: stop once `beams` hypotheses are finished; "never": only when no better one is possible."""
    n_best: int = 1
    """Hypotheses returned per sentence, best first."""
    no_repeat_ngram: int = 0
    """Sequences of this many tokens never occur twice; 0 allows all."""
    repetition_penalty: float = 1.0
    """Scores of tokens already used are divided by it (if positive) or multiplied (if negative)."""
    sample: bool = False
    """Draw tokens at random instead of taking the likeliest."""
    temperature: float = 1.0
    """For sampling: below 1 the likely tokens are drawn more often, above 1 less."""
    top_k: int = 0
    """Sample from the k likeliest tokens only; 0 means all."""
    top_p: float = 1.0
    """Sample from the smallest set of tokens whose probabilities sum to p."""
    seed: int = 0
    """With the same seed a sentence gets the same sample, whatever else is in its batch."""
    suppress: tuple[int, ...] = ()
    """Tokens that are never generated."""

    def __post_init__(self) -> None:
        for name, low, high in _RANGES:
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, (int, float)) or not low <= value <= high:
                raise InvalidOption(f"{name} is {value!r}; it must be a number from {low} to {high}")
        for name in ("beams", "max_new_tokens", "n_best", "no_repeat_ngram", "top_k", "seed"):
            if not isinstance(getattr(self, name), int):
                raise InvalidOption(f"{name} is {getattr(self, name)!r}; it must be a whole number")
        if not isinstance(self.early_stopping, bool) and self.early_stopping != "never":
            raise InvalidOption(
                f"early_stopping is {self.early_stopping!r}; it must be True, False or 'never'"
            )
        if any(isinstance(t, bool) or not isinstance(t, int) or t < 0 for t in self.suppress):
            raise InvalidOption(f"suppress is {self.suppress!r}; it must hold token ids, from 0 on")
        if not self.sample and (self.temperature != 1.0 or self.top_k or self.top_p != 1.0):
            raise InvalidOption("temperature, top_k and top_p are for sampling; set sample=True (--sample)")
        if self.sample and self.beams > 1:
            raise InvalidOption(f"sampling keeps one hypothesis; set beams=1 (it is {self.beams})")
        if not self.sample and self.n_best > self.beams:
            raise InvalidOption(f"n_best is {self.n_best}, but only {self.beams} beams are kept; raise beams")


_RANGES = (
    ("beams", 1, 64),
    ("max_new_tokens", 1, 4096),
    ("length_penalty", -10, 10),
    ("n_best", 1, 64),
    ("no_repeat_ngram", 0, 64),
    ("repetition_penalty", 0.01, 100),
    ("temperature", 0.01, 100),
    ("top_k", 0, 10**6),
    ("top_p", 0.001, 1),
    ("seed", 0, 2**63 - 1),
)
