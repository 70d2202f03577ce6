"""Corpora too large to be had: blocks drawn from languages, their shares and what their sentences cost."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from benchmarks.scale.world import Corpus


@dataclass(frozen=True)
class Language:
    """What the sentences of a language are like."""

    name: str
    seconds: float
    """Of one worker for a sentence, on the average."""
    characters: float
    """Of a sentence, on the average."""
    share: float
    """Of the corpus; shares need not add up to 1."""
    module: int = 0
    """The number of the language module, or set of experts, that it needs."""


def zipf(languages: Sequence[Language], exponent: float) -> list[Language]:
    """The same languages with shares of 1 / rank^exponent: 0 for equal ones."""
    return [
        Language(one.name, one.seconds, one.characters, (rank + 1) ** -exponent, one.module)
        for rank, one in enumerate(languages)
    ]


def draw(
    languages: Sequence[Language],
    sentences: int,
    rows: int,
    *,
    block: float = 0.0,
    spread: float = 1.0,
    is_mixed: bool = False,
    seed: int = 0,
) -> Corpus:
    """Blocks of one-sentence rows.

    rows: of a block. block: seconds of a block besides its sentences. spread: deviation of one sentence's
    seconds over their mean; sentences are taken to be independent, so a block's is smaller by the root of its
    rows. is_mixed: all languages in every block, as in a crawl; otherwise one file after the other.
    """
    random = np.random.default_rng(np.random.SeedSequence(seed).spawn(1)[0])
    shares = np.array([one.share for one in languages], float)
    shares /= shares.sum()
    if is_mixed:
        size = np.full(-(-sentences // rows), rows)
        size[-1] = sentences - rows * (len(size) - 1)
        counts = random.multinomial(size, shares)
    else:
        counts = _files(shares, sentences, rows)
    each = counts.sum(axis=1).astype(float)
    work = counts @ np.array([one.seconds for one in languages])
    deviation = spread / np.sqrt(each)
    # Lognormal with mean 1: no block takes less than nothing.
    sigma = np.sqrt(np.log1p(deviation**2))
    work *= random.lognormal(-(sigma**2) / 2, sigma)
    bytes_ = counts @ np.array([one.characters for one in languages])
    bits = np.array([1 << one.module for one in languages])
    modules = np.bitwise_or.reduce(np.where(counts > 0, bits, 0), axis=1)
    # A line of the results has the text, its translation, and what is said of them in about 100 bytes.
    return Corpus(each, each, work + block, bytes_, 2 * bytes_ + 100 * each, modules)


def _files(shares: np.ndarray, sentences: int, rows: int) -> np.ndarray:
    """Blocks by languages: how many rows each has. A file's last block is the rest."""
    wanted = np.diff(np.round(np.concatenate([[0], np.cumsum(shares)]) * sentences).astype(int))
    parts = []
    for place, count in enumerate(wanted):
        if count:
            part = np.zeros((-(-count // rows), len(shares)), int)
            part[:, place] = rows
            part[-1, place] = count - rows * (len(part) - 1)
            parts.append(part)
    return np.concatenate(parts)
