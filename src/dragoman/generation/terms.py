"""Terms that a translation is to have: beam search that keeps hypotheses which are on their way to them.

After Post and Vilar (arXiv 1804.06609): beside the likeliest tokens of a hypothesis those are looked at which
would begin a term or go on with one, and the beam is shared out among hypotheses with equally many terms.
Theirs counts tokens of terms; here those that have as many whole terms share a bank, and those within another
one do, so that a few beams are enough for long terms.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from dragoman.generation.hypotheses import Array

Term = tuple[tuple[int, ...], ...]
"""The spellings of a term, tokens each; one of them is enough."""


@dataclass(frozen=True)
class Terms:
    """What a result is to have."""

    terms: tuple[Term, ...]
    within_words: frozenset[int] = frozenset()
    """Tokens that go on with the word before them: a term that is followed by one isn't there."""


@dataclass(frozen=True)
class Progress:
    """How far a hypothesis is with its terms."""

    met: frozenset[int] = frozenset()
    """The numbers of terms that it has."""
    begun: tuple[tuple[int, int, int], ...] = ()
    """(term, spelling, tokens) of those that it ends within."""

    last: frozenset[int] = frozenset()
    """Those of `met` that it ends with."""

    def after(self, token: int, wanted: Terms) -> "Progress":
        """With one more token."""
        terms = wanted.terms
        met = self.met - self.last if token in wanted.within_words else self.met
        fresh = [(t, s, 0) for t, term in enumerate(terms) if t not in met for s in range(len(term))]
        further = [(t, s, n + 1) for t, s, n in (*self.begun, *fresh) if terms[t][s][n] == token]
        last = frozenset(t for t, s, n in further if n == len(terms[t][s])) - met
        met |= last
        return Progress(met, tuple(sorted({one for one in further if one[0] not in met})), last)

    def next_tokens(self, terms: Sequence[Term]) -> set[int]:
        """The tokens that would go on with a term, or begin one."""
        on = {terms[t][s][n] for t, s, n in self.begun}
        return on.union(tokens[0] for t, term in enumerate(terms) if t not in self.met for tokens in term)

    @property
    def within(self) -> int:
        """How many tokens of a term it ends with."""
        return max((n for _, _, n in self.begun), default=0)


@dataclass
class Wanted:
    """The terms of one sentence, and how far each of its beams is."""

    wanted: Terms
    progress: list[Progress] = field(default_factory=lambda: [Progress()])

    @property
    def tokens(self) -> list[set[int]]:
        """What is to be looked at in each beam's next scores."""
        return [one.next_tokens(self.wanted.terms) for one in self.progress]

    def candidates(
        self,
        likely: tuple[Array, Array],
        log_p: Array,
        scores: Array,
        eos: int,
        most: int,
        banned: tuple[int, ...] = (),
        is_last: bool = False,
        has_one: bool = False,
    ) -> list[tuple[float, int, int]]:
        """(total, token, beam) of the candidates to look at, those to keep first, `most` at the most.

        likely: log-probabilities [beams, count] of each beam's best tokens, and these; log_p: of all tokens
        [beams, vocabulary]; scores: the beams' own [beams]; is_last: whether all end now; has_one: whether
        one has ended that has all terms. One that lacks some ends only if it must, and there is no other.
        """
        found: dict[tuple[int, int], tuple[float, Progress]] = {}
        for beam, (progress, wanted) in enumerate(zip(self.progress, self.tokens, strict=True)):
            pairs = dict(zip(likely[1][beam].tolist(), likely[0][beam].tolist(), strict=True))
            pairs |= {token: float(log_p[beam, token]) for token in wanted.difference(banned)}
            for token, value in pairs.items():
                total = value + float(scores[beam])
                is_cut = token == eos and len(progress.met) < len(self.wanted.terms) and not is_last
                if total > -np.inf and not is_cut:
                    found[beam, token] = total, progress.after(token, self.wanted)
        if is_last:
            whole = {at: one for at, one in found.items() if len(one[1].met) == len(self.wanted.terms)}
            found = whole if whole or has_one else found
        banks: dict[tuple[int, bool], list[tuple[float, int, int]]] = {}
        for (beam, token), (total, after) in found.items():
            bank = banks.setdefault((-len(after.met), bool(after.begun)), [])
            bank.append((total, token, beam))
        for (_, is_within), bank in banks.items():
            bank.sort(reverse=True)
            if is_within and len(bank) > 1:
                # The furthest comes second: else one that has just begun might displace it for ever.
                furthest = max(bank[1:], key=lambda one: (found[one[2], one[1]][1].within, one[0]))
                bank.remove(furthest)
                bank.insert(1, furthest)
        ordered = [banks[key] for key in sorted(banks)]
        width = max(map(len, ordered), default=0)
        shared = [bank[place] for place in range(width) for bank in ordered if place < len(bank)]
        return shared[:most]

    def keep(self, beams: Sequence[int], tokens: Sequence[int]) -> None:
        """The beams go on as these did, each with a token."""
        before = self.progress
        self.progress = [
            before[beam].after(token, self.wanted) for beam, token in zip(beams, tokens, strict=True)
        ]
