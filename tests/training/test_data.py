import gzip
from collections import Counter
from itertools import chain, pairwise
from pathlib import Path

import numpy as np
import pytest
import torch

from dragoman.errors import InvalidOption
from dragoman.training.data import ENGLISH, Batches, Corpus, encode_corpus, read_pairs

FRENCH, GERMAN = "fra_Latn", "deu_Latn"
IDS = {ENGLISH: 90, FRENCH: 91, GERMAN: 92}
PAD, EOS = 1, 2


class Letters:
    """A tokenizer of letters: a is 10, b is 11 and so on."""

    def encode_pieces(self, texts: list[str]) -> list[list[int]]:
        return [[10 + ord(letter) - ord("a") for letter in text] for text in texts]


def corpus(code: str, pairs: list[tuple[str, str]]) -> Corpus:
    return encode_corpus(code, iter(pairs), Letters(), 60)


def random_corpus(code: str, count: int, seed: int) -> Corpus:
    """Every pair is told apart by its number in letters; lengths vary from 3 to 40."""
    rng = np.random.default_rng(seed)
    pairs = []
    for number in range(count):
        stem = "".join(chr(ord("a") + int(digit)) for digit in f"{number:03}")
        pairs.append((stem + "x" * rng.integers(0, 38), stem + "y" * rng.integers(0, 38)))
    return corpus(code, pairs)


def batches_of(corpora: list[Corpus], tokens: int = 400, balance: float = 1.0, seed: int = 1) -> Batches:
    return Batches(corpora, IDS, tokens, balance, seed)


@pytest.fixture
def corpora() -> list[Corpus]:
    return [random_corpus(FRENCH, 150, 0), random_corpus(GERMAN, 70, 1)]


def rows_of(batches: list[np.ndarray]) -> list[tuple[int, ...]]:
    """(corpus, index, source side) of all batches."""
    return [tuple(row) for row in np.concatenate(batches).tolist()]


def write(path: Path, lines: list[str]) -> Path:
    with gzip.open(path, "wt", encoding="utf-8") as file:
        file.writelines(line + "\n" for line in lines)
    return path


def test_excluded_origins_and_mixed_scripts_are_left_out(tmp_path: Path) -> None:
    path = write(
        tmp_path / "zh-en.tsv.gz",
        [
            "你好\thello\ttatoeba",
            "再見\tbye\ttatoeba+hant",
            "一\tone\twmt-news 2020\tmore",
            "二\ttwo\tmulti30k",
        ],
    )
    assert list(read_pairs(path)) == [("你好", "hello"), ("一", "one"), ("二", "two")]
    assert list(read_pairs(path, ("wmt-news", "multi30k"))) == [("你好", "hello")]
    assert list(read_pairs(path, ("wmt",))) == [("你好", "hello"), ("二", "two")]


def test_empty_and_overlong_pairs_are_left_out() -> None:
    pairs = [("a", "b"), ("", "b"), ("a", ""), ("a" * 6, "b"), ("a", "b" * 6), ("a" * 5, "b" * 5)]
    found = encode_corpus(FRENCH, iter(pairs), Letters(), 5)
    assert len(found) == 2
    assert [found.sentence(side, 1).tolist() for side in (0, 1)] == [[10] * 5, [11] * 5]
    assert found.lengths().tolist() == [[1, 5], [1, 5]]


def test_corpus_with_nothing_left_is_an_error_that_says_why() -> None:
    with pytest.raises(InvalidOption, match=r"none of the 1 pairs of fra_Latn has 1 to 5 tokens.*max_tokens"):
        encode_corpus(FRENCH, iter([("a" * 9, "b")]), Letters(), 5)


def test_layout_of_source_and_target_in_both_directions() -> None:
    batches = batches_of([corpus(FRENCH, [("a", "bcd")]), corpus(GERMAN, [("ef", "g")])])
    batch = batches.assemble(np.array([[0, 0, 0], [0, 0, 1], [1, 0, 1]]))
    assert batch.source.tolist() == [
        [91, 10, EOS, PAD, PAD],
        [90, 11, 12, 13, EOS],
        [90, 16, EOS, PAD, PAD],
    ]
    assert batch.target.tolist() == [
        [EOS, 90, 11, 12, 13, EOS],
        [EOS, 91, 10, EOS, PAD, PAD],
        [EOS, 92, 14, 15, EOS, PAD],
    ]
    assert batch.source.dtype == batch.target.dtype == torch.int64


def test_epoch_has_every_pair_once_per_direction(corpora: list[Corpus]) -> None:
    batches = batches_of(corpora)
    for number in (0, 1):
        found = rows_of(batches.epoch(number))
        everything = [(c, i, s) for c in (0, 1) for i in range(len(corpora[c])) for s in (0, 1)]
        assert sorted(found) == sorted(everything)
    assert batches.pairs_per_epoch == 440


@pytest.mark.parametrize("tokens", [60, 400, 3000])
def test_batch_stays_within_its_tokens(tokens: int, corpora: list[Corpus]) -> None:
    batches = batches_of(corpora, tokens)
    epoch = batches.epoch(0)
    sizes = []
    for rows in epoch:
        batch = batches.assemble(rows)
        # The last target token is never fed in.
        size = batch.source.numel() + batch.target[:, 1:].numel()
        assert size <= tokens or len(rows) == 1
        sizes.append(size)
    full = sum(size > 0.6 * tokens for size in sizes)
    assert full > 0.6 * len(sizes)


def test_little_of_a_batch_is_padding(corpora: list[Corpus]) -> None:
    batches = batches_of([random_corpus(FRENCH, 1000, 0)], 800)
    assembled = [batches.assemble(rows) for rows in batches.epoch(0)]
    padding = sum(int((b.source == PAD).sum() + (b.target == PAD).sum()) for b in assembled)
    total = sum(b.source.numel() + b.target.numel() for b in assembled)
    assert padding / total < 0.25  # at random it is nearly a half


def test_same_seed_gives_the_same_batches_and_another_others(corpora: list[Corpus]) -> None:
    one, same, other = (batches_of(corpora, seed=seed) for seed in (3, 3, 4))
    assert all(np.array_equal(a, b) for a, b in zip(one.epoch(2), same.epoch(2), strict=True))
    assert rows_of(one.epoch(2)) != rows_of(other.epoch(2))
    assert rows_of(one.epoch(2)) != rows_of(one.epoch(3))


def test_batches_mix_directions_and_come_in_random_order(corpora: list[Corpus]) -> None:
    epoch = batches_of(corpora).epoch(0)
    mixed = sum(len({(c, s) for c, _, s in rows.tolist()}) > 1 for rows in epoch)
    assert mixed > 0.8 * len(epoch)
    longest = [max(chain.from_iterable(corpora[c].lengths()[:, i] for c, i, _ in rows)) for rows in epoch]
    falls = sum(a > b for a, b in pairwise(longest))
    assert 0.25 < falls / len(longest) < 0.75


@pytest.mark.parametrize(("balance", "draws"), [(1.0, 70), (0.5, 102), (0.0, 150)])
def test_balance_draws_more_of_small_languages(balance: float, draws: int, corpora: list[Corpus]) -> None:
    batches = batches_of(corpora, balance=balance)
    count = Counter(rows_of(batches.epoch(0)))
    per_corpus = [sum(n for (c, *_), n in count.items() if c == corpus) for corpus in (0, 1)]
    assert per_corpus == [2 * 150, 2 * draws]
    assert batches.pairs_per_epoch == sum(per_corpus)
    often = [count[1, index, side] for index in range(70) for side in (0, 1)]
    assert max(often) - min(often) <= 1
