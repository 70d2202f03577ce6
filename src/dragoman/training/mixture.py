"""What is drawn when: parts of a mixture, in endless rounds, the same for the same seed."""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from random import Random
from typing import Protocol

import numpy as np

from dragoman.errors import InvalidOption


class Share(Protocol):
    """A part of a mixture: of one language and one kind of text."""

    @property
    def code(self) -> str:
        """NLLB code of its language."""

    @property
    def name(self) -> str:
        """What kind of text it is."""

    @property
    def share(self) -> float:
        """How often it comes, relative to the shares of the other parts of its language."""

    def __len__(self) -> int: ...


@dataclass(frozen=True)
class Draw:
    """One example to be made."""

    part: int
    """Which part it is of."""
    index: int
    """How many of the part were drawn before, in all rounds."""
    rng: Random
    """For whatever chance changes in it: depends on the seed and the place of the draw alone."""


class Mixture:
    """Draws examples of parts: a round is a number of them, each part's share.

    All rows of a part come before one comes again, in another order each time.
    """

    def __init__(
        self, parts: Sequence[Share], weights: Sequence[float], seed: int, round_examples: int
    ) -> None:
        """weights: the share of each part in all, as `part_weights` gives them."""
        self.parts, self.weights = list(parts), list(weights)
        self.seed, self.round_examples = seed, round_examples
        self._order = lru_cache(maxsize=4 * len(self.parts))(self._permutation)

    def round(self, number: int) -> Iterator[Draw]:
        """The draws of a round, in order of their parts."""
        for at, weight in enumerate(self.weights):
            per_round = self.round_examples * weight
            for index in range(_whole(number * per_round), _whole((number + 1) * per_round)):
                yield Draw(at, index, Random((self.seed << 96) | (at << 64) | index))

    def row(self, draw: Draw) -> int:
        """Which row of its part a draw is."""
        round_, place = divmod(draw.index, len(self.parts[draw.part]))
        return int(self._order(draw.part, round_)[place])

    def facts(self) -> list[tuple[str, str, int, float]]:
        """What the draws depend on, beside the seed and the size of a round."""
        pairs = zip(self.parts, self.weights, strict=True)
        return [(part.code, part.name, len(part), weight) for part, weight in pairs]

    def _permutation(self, at: int, round_: int) -> np.ndarray:
        return np.random.default_rng((self.seed, at, round_)).permutation(len(self.parts[at]))


def _whole(product: float) -> int:
    """Rounded down, but for what floating point has lost: 100 * 0.29 is 29."""
    return int(product + 1e-6)


def part_weights(
    parts: Sequence[Share],
    balance: float,
    ratios: Mapping[str, float] | None = None,
    made_up: Iterable[str] = (),
) -> list[float]:
    """The share of each part; of all parts together 1.

    A language's share is proportional to its number of rows to the power of `balance`, or to its entry in
    `ratios` (NLLB code -> number; all languages if any); within it parts share as they say. InvalidOption
    for a part without rows whose name is not among those that can be made up.
    """
    known = tuple(made_up)
    for part in parts:
        if not len(part) and part.name not in known:
            raise InvalidOption(
                f"the part {part.name!r} has no pairs; give it files, or name it one of {', '.join(known)}"
            )
    sizes, shares = Counter[str](), Counter[str]()
    for part in parts:
        sizes[part.code] += len(part)
        shares[part.code] += part.share  # type: ignore[assignment]
    powers = {code: max(1, size) ** balance for code, size in sizes.items()}
    if ratios:
        absent = [code for code in powers if code not in ratios]
        if absent:
            raise InvalidOption(f"ratios say nothing of {', '.join(absent)}; give one for each language")
        powers = {code: ratios[code] for code in powers}
    total = sum(powers.values())
    return [powers[part.code] / total * part.share / shares[part.code] for part in parts]
