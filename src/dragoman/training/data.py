"""Parallel text: reading, encoding, batching."""

import gzip
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from dragoman.errors import InvalidOption

ENGLISH = "eng_Latn"


def read_pairs(path: str | Path, excluded: tuple[str, ...] = ()) -> Iterator[tuple[str, str]]:
    """(text, English) of each line of a `.tsv.gz` whose origin tag (third column) is not excluded.

    Pairs tagged `+hant` mix Traditional script into Simplified Chinese and are left out too.
    """
    with gzip.open(path, "rt", encoding="utf-8") as lines:
        for line in lines:
            text, english, origin, *_ = line.rstrip("\n").split("\t")
            if not origin.startswith(excluded) and not origin.endswith("+hant"):
                yield text, english


@dataclass(frozen=True)
class Corpus:
    """Encoded pairs of one language with English; sentence i of a side is ids[starts[i]:starts[i+1]]."""

    code: str
    ids: tuple[np.ndarray, np.ndarray]
    starts: tuple[np.ndarray, np.ndarray]

    def __len__(self) -> int:
        return len(self.starts[0]) - 1

    def sentence(self, side: int, index: int) -> np.ndarray:
        """Token ids without language code and `</s>`; side 0 is the language, side 1 English."""
        return self.ids[side][self.starts[side][index] : self.starts[side][index + 1]]

    def lengths(self) -> np.ndarray:
        """[2, pairs]"""
        return np.stack([np.diff(self.starts[side]) for side in (0, 1)])


def encode_corpus(code: str, pairs: Iterator[tuple[str, str]], tokenizer, max_tokens: int) -> Corpus:  # type: ignore[no-untyped-def]
    """Encode pairs, leaving out those with an empty side or one longer than `max_tokens`.

    InvalidOption if none is left.
    """
    texts = list(pairs)
    sides = [tokenizer.encode_pieces([pair[side] for pair in texts]) for side in (0, 1)]
    kept = [
        (a, b) for a, b in zip(*sides, strict=True) if 0 < len(a) <= max_tokens and 0 < len(b) <= max_tokens
    ]
    if not kept:
        raise InvalidOption(
            f"none of the {len(texts)} pairs of {code} has 1 to {max_tokens} tokens on both sides; "
            "check the file and the excluded origins, raise max_tokens, or leave the language out"
        )
    ids, starts = [], []
    for side in (0, 1):
        ids.append(np.concatenate([np.asarray(pair[side], np.int32) for pair in kept]))
        starts.append(np.cumsum([0] + [len(pair[side]) for pair in kept]))
    return Corpus(code, (ids[0], ids[1]), (starts[0], starts[1]))


@dataclass(frozen=True)
class Batch:
    """source: [batch, time]; target: [batch, time] starting with </s>; both padded on the right."""

    source: Tensor
    target: Tensor


class Batches:
    """Batches of both directions of every corpus, in endless epochs, the same for the same seed.

    A batch holds pairs of similar length, of all directions, up to `batch_tokens` padded
    tokens. How many batches it has seen is all that a resumed run needs to go on where it was.
    """

    POOL = 400  # batches sorted together: enough for even lengths, few enough to stay random

    def __init__(
        self,
        corpora: list[Corpus],
        language_ids: dict[str, int],
        batch_tokens: int,
        balance: float,
        seed: int,
        pad: int = 1,
        eos: int = 2,
    ) -> None:
        self.corpora = corpora
        self.language_ids = language_ids
        self.batch_tokens = batch_tokens
        self.seed = seed
        self.pad, self.eos = pad, eos
        sizes = np.array([len(corpus) for corpus in corpora], float)
        share = sizes**balance / (sizes.max() ** balance) * sizes.max()
        self._draws = np.maximum(1, share.round()).astype(int)
        self._lengths = [corpus.lengths() for corpus in corpora]

    @property
    def pairs_per_epoch(self) -> int:
        """Directed pairs in an epoch."""
        return int(2 * self._draws.sum())

    def epoch(self, number: int) -> list[np.ndarray]:
        """The batches of an epoch, each an array [pairs, 3] of (corpus, index, source side)."""
        rng = np.random.default_rng((self.seed, number))
        rows = []
        for c, (corpus, draws) in enumerate(zip(self.corpora, self._draws, strict=True)):
            whole, rest = divmod(int(draws), len(corpus))
            picks = [np.arange(len(corpus))] * whole + [rng.permutation(len(corpus))[:rest]]
            index = np.concatenate(picks)
            for side in (0, 1):
                rows.append(np.stack([np.full(len(index), c), index, np.full(len(index), side)], 1))
        examples = np.concatenate(rows)
        rng.shuffle(examples)
        widths = np.empty((2, len(examples)), int)
        for c, lengths in enumerate(self._lengths):
            mine = examples[:, 0] == c
            widths[:, mine] = lengths[:, examples[mine, 1]]
        source_side = examples[:, 2]
        source = np.take_along_axis(widths, source_side[None], 0)[0] + 2
        target = np.take_along_axis(widths, 1 - source_side[None], 0)[0] + 2
        batches = self._cut(examples, source, target, rng)
        rng.shuffle(batches)
        return batches

    def _cut(
        self, examples: np.ndarray, source: np.ndarray, target: np.ndarray, rng: np.random.Generator
    ) -> list[np.ndarray]:
        pool = int(self.POOL * self.batch_tokens / max(1.0, float((source + target).mean())))
        batches: list[np.ndarray] = []
        for start in range(0, len(examples), pool):
            part = np.arange(start, min(start + pool, len(examples)))
            # Nearly by length of both sides, with noise so that batches differ between epochs.
            noise = rng.random(len(part))
            part = part[np.lexsort((noise, source[part], target[part]))]
            begin = width_s = width_t = 0
            for end, row in enumerate(part):
                wide_s, wide_t = max(width_s, source[row]), max(width_t, target[row])
                if (end - begin + 1) * (wide_s + wide_t) > self.batch_tokens and end > begin:
                    batches.append(examples[part[begin:end]])
                    begin, wide_s, wide_t = end, source[row], target[row]
                width_s, width_t = wide_s, wide_t
            batches.append(examples[part[begin:]])
        return batches

    def assemble(self, rows: np.ndarray) -> Batch:
        """`[lang] pieces </s>` for the source; `</s> [lang] pieces </s>` for the target."""
        sources, targets = [], []
        for c, index, side in rows:
            corpus = self.corpora[c]
            codes = (corpus.code, ENGLISH)
            sources.append([self.language_ids[codes[side]], *corpus.sentence(side, index), self.eos])
            targets.append(
                [self.eos, self.language_ids[codes[1 - side]], *corpus.sentence(1 - side, index), self.eos]
            )
        return Batch(self._pad(sources), self._pad(targets))

    def _pad(self, rows: list[list[int]]) -> Tensor:
        out = np.full((len(rows), max(map(len, rows))), self.pad, np.int64)
        for i, row in enumerate(rows):
            out[i, : len(row)] = row
        return torch.from_numpy(out)
