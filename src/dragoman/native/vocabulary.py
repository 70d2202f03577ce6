"""Choosing from the tokens that a target language uses, instead of from all."""

from collections import OrderedDict
from collections.abc import Sequence
from typing import Protocol

import numpy as np

from dragoman.kernels.head import Head
from dragoman.native.scores import Choice

KEPT = 16
"""Languages whose cut output layers stay; in NLLB-3.3B one takes 66 MB."""


class Vocabulary(Protocol):
    """Says which tokens a sentence may need."""

    def tokens(self, language: int) -> Sequence[int] | None:
        """Those of a target language, sorted; None for all there are."""

    def source(self, tokens: Sequence[int]) -> Sequence[int]:
        """Those that a source sentence brings along."""


class Heads:
    """The output layer, whole and cut to languages; cut ones are made when first asked for."""

    def __init__(self, head: Head) -> None:
        self.whole = head
        self.vocabulary: Vocabulary | None = None
        self._cut: OrderedDict[int, Head] = OrderedDict()

    def restrict(self, vocabulary: Vocabulary | None) -> None:
        """From now on choose from `vocabulary`; None: from all tokens."""
        self.vocabulary = vocabulary
        self._cut.clear()

    def extra(self, language: int, source: Sequence[int]) -> tuple[int, ...]:
        """What a sentence may use besides its language's tokens, sorted."""
        head = self.of(language)
        if self.vocabulary is None or head.kept is None:
            return ()
        return tuple(sorted(set(self.vocabulary.source(source)) - head.kept_set))

    def of(self, language: int) -> Head:
        """The output layer for a language."""
        if self.vocabulary is None:
            return self.whole
        found = self._cut.get(language)
        if found is None:
            tokens = self.vocabulary.tokens(language)
            found = self.whole if tokens is None else self.whole.cut(np.array(sorted(tokens), np.int32))
            self._cut[language] = found
            while len(self._cut) > KEPT:
                self._cut.popitem(last=False)
        self._cut.move_to_end(language)
        return found

    def choices(self, languages: Sequence[int], extra: Sequence[Sequence[int]]) -> list[Choice]:
        """How rows of these languages choose, each with its own extra tokens."""
        if self.vocabulary is None:
            return [Choice(self.whole, None)]
        rows: dict[int, list[int]] = {}
        for row, language in enumerate(languages):
            rows.setdefault(language, []).append(row)
        return [self._choice(language, its, len(languages), extra) for language, its in rows.items()]

    def _choice(self, language: int, rows: list[int], count: int, extra: Sequence[Sequence[int]]) -> Choice:
        head = self.of(language)
        places = None if len(rows) == count else np.array(rows, np.int64)
        more = tuple(extra[row] for row in rows)
        return Choice(head, places, more if head.kept is not None and any(more) else None)
