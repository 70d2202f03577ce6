"""One training example from pairs: which changes it gets, and in which order."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from random import Random

from dragoman.training.augmentation.copying import other_names, other_numbers, things
from dragoman.training.augmentation.noise import noisy
from dragoman.training.augmentation.shaping import shaped

Pair = tuple[str, str]


@dataclass(frozen=True)
class AugmentationOptions:
    """With which chance an example is changed in which way; nothing is by default."""

    frequent_names: float = 0.0
    """A name that exercises are full of (Tom, Mary, Boston) becomes another one."""
    names: float = 0.0
    """Any other name that both sides share does."""
    numbers: float = 0.0
    """Numbers get other digits."""
    joined: float = 0.0
    """Pairs of the same kind follow, up to `joined_characters`."""
    joined_characters: int = 320
    things: float = 0.0
    """Addresses, code, placeholders, tags or emoji are put in."""
    shapes: float = 0.0
    """Capitals, a fragment, an item of a list, a quotation."""
    noise: float = 0.0
    """Of the source alone."""


class Augmentation:
    """Makes examples. The same random numbers make the same example."""

    def __init__(self, options: AugmentationOptions, names: Sequence[str] = ()) -> None:
        """names: real ones, that shared names are replaced by."""
        self.options = options
        self.names = names

    def example(
        self, pair: Pair, codes: Pair, source: int, rng: Random, another: Callable[[Random], Pair]
    ) -> tuple[str, str]:
        """(source, target) of a pair whose sides are in the languages `codes`.

        source: the side that is translated; another: draws one more pair of the same kind.
        """
        options = self.options
        pair = self._copied(pair, rng)
        if rng.random() < options.joined:
            pair = self._joined(pair, rng, another)
        if rng.random() < options.things:
            pair = things(pair, rng)
        if rng.random() < options.shapes:
            pair = shaped(pair, rng, codes)
        text = pair[source]
        if rng.random() < options.noise:
            text = noisy(text, rng)
        return text, pair[1 - source]

    def _copied(self, pair: Pair, rng: Random) -> Pair:
        options = self.options
        if rng.random() < options.numbers:
            pair = other_numbers(pair, rng)
        if options.frequent_names or options.names:
            pair = other_names(pair, rng, self.names, options.frequent_names, options.names)
        return pair

    def _joined(self, pair: Pair, rng: Random, another: Callable[[Random], Pair]) -> Pair:
        count = rng.choice((1, 1, 2, 3))
        space = "\n" if rng.random() < 0.05 else " "
        for _ in range(count):
            more = self._copied(another(rng), rng)
            if max(map(len, pair)) + max(map(len, more)) > self.options.joined_characters:
                break
            pair = f"{pair[0]}{space}{more[0]}", f"{pair[1]}{space}{more[1]}"
        return pair
