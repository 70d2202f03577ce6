"""Names that a corpus has, to put them in other places."""

from collections import Counter
from collections.abc import Iterable

from dragoman.training.augmentation.copying import FREQUENT, shared_names


def names_in(pairs: Iterable[tuple[str, str]], least: int = 2, longest: int = 14) -> list[str]:
    """Capitalised words that are the same in both languages in `least` pairs or more, sorted.

    Those that exercises are full of are left out.
    """
    counts = Counter(name for pair in pairs for name in set(shared_names(pair)))
    return sorted(
        name
        for name, count in counts.items()
        if count >= least and 3 <= len(name) <= longest and name.isalpha() and name not in FREQUENT
    )
