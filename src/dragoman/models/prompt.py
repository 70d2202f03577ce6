"""What a batch of sentences begins with, for models of every kind."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Prompt:
    """What is read and what is continued; a model's `begin` takes what it needs of it.

    Arrays are [sentences, time], tokens int64, and those called keep are boolean, False on padding.
    """

    source: np.ndarray | None = None
    """An encoder's input."""
    source_keep: np.ndarray | None = None
    tokens: np.ndarray | None = None
    """A decoder's first tokens, which the first `step` is fed."""
    keep: np.ndarray | None = None
    """Of the tokens; padding must be on the left."""
    groups: Sequence[int] | None = None
    """The language group of each sentence, 0 for none, where rows have language modules."""

    def read(self) -> tuple[np.ndarray, np.ndarray]:
        """The source and its keep; ValueError if there is none, or a decoder behind it would see padding."""
        if self.source is None or self.source_keep is None:
            raise ValueError("a model with an encoder needs a source to read")
        if self.keep is not None and not self.keep.all():
            raise ValueError("behind an encoder prompts can't be padded: those of a batch have one length")
        return self.source, self.source_keep

    def continued(self) -> np.ndarray:
        """The keep of the tokens; ValueError if there are none, or padding is on the right."""
        if self.keep is None:
            raise ValueError("a model without an encoder needs a prompt to continue")
        if not self.keep[:, -1].all():
            raise ValueError("prompts must be padded on the left, and each must have a token")
        return self.keep
