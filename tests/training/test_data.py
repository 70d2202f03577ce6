from collections import Counter
from itertools import pairwise
from random import Random

import numpy as np
import pytest
import torch

from dragoman.errors import InvalidOption
from dragoman.training.augmentation.examples import Augmentation, AugmentationOptions
from dragoman.training.data import MADE_UP, Batches, Example, assemble, cut
from dragoman.training.mixture import Draw, Mixture, part_weights
from dragoman.training.parts import ENGLISH, Part

FRENCH, GERMAN = "fra_Latn", "deu_Latn"
IDS = {ENGLISH: 90, FRENCH: 91, GERMAN: 92}
PAD, EOS = 1, 2


class Letters:
    """A tokenizer of letters: a is 10, b is 11 and so on; signs and spaces are 9."""

    def encode_pieces(self, texts: list[str]) -> list[list[int]]:
        return [
            [10 + ord(letter) - ord("a") if letter.islower() else 9 for letter in text.lower()]
            for text in texts
        ]


def part(code: str, count: int, name: str = "pairs", share: float = 1.0) -> Part:
    """Every pair is told apart by its number in letters; lengths vary from 3 to 40."""
    rng = np.random.default_rng(count)
    pairs = []
    for number in range(count):
        stem = "".join(chr(ord("a") + int(digit)) for digit in f"{number:03}")
        pairs.append((stem + "x" * rng.integers(0, 38), stem + "y" * rng.integers(0, 38)))
    return Part(code, name, share, tuple(pairs))


def batches_of(parts: list[Part], tokens: int = 400, **settings: object) -> Batches:
    settings = {"round_examples": 220, **settings}
    return Batches(parts, Letters(), IDS, tokens, 60, **settings)  # type: ignore[arg-type]


@pytest.fixture
def parts() -> list[Part]:
    return [part(FRENCH, 150), part(GERMAN, 70)]


def stems(examples: list[Example]) -> list[tuple[int, ...]]:
    """Source language, target language and the pair's number of each example."""
    return [(e.source[0], e.target[1], *e.source[1:4]) for e in examples]


def test_layout_of_source_and_target() -> None:
    parts = [Part(FRENCH, "pairs", 1, (("a", "bcd"),))]
    found = {tuple(e.source): e.target for e in batches_of(parts).examples(0)}
    assert found == {(91, 10, EOS): [EOS, 90, 11, 12, 13, EOS], (90, 11, 12, 13, EOS): [EOS, 91, 10, EOS]}
    batch = assemble([Example([91, 10, EOS], [EOS, 90, EOS]), Example([91, 10, 11, EOS], [EOS, 90, 12, EOS])])
    assert batch.source.tolist() == [[91, 10, EOS, PAD], [91, 10, 11, EOS]]
    assert batch.target.tolist() == [[EOS, 90, EOS, PAD], [EOS, 90, 12, EOS]]
    assert batch.source.dtype == batch.target.dtype == torch.int64


def test_every_pair_comes_once_before_one_comes_again(parts: list[Part]) -> None:
    batches = batches_of(parts)
    rounds = [stems(batches.examples(number)) for number in range(2)]
    for code, count in ((91, 150), (92, 70)):
        for found in rounds:
            numbers = Counter(row[2:] for row in found if code in row[:2])
            assert len(numbers) == count
            assert set(numbers.values()) == {1}
    assert rounds[0] != rounds[1]


def test_rounds_that_do_not_fit_the_pairs_leave_none_out(parts: list[Part]) -> None:
    batches = batches_of(parts, round_examples=37)
    found = Counter(
        row[2:] for number in range(12) for row in stems(batches.examples(number)) if 91 in row[:2]
    )
    assert len(found) == 150
    assert max(found.values()) <= 3


def test_round_as_large_as_its_parts_leaves_no_row_out() -> None:
    parts = [part(FRENCH, 29), part(GERMAN, 71)]
    mixture = Mixture(parts, part_weights(parts, 1.0), 1, 100)
    for number in range(3):
        assert len({(draw.part, mixture.row(draw)) for draw in mixture.round(number)}) == 100


def test_both_directions_come_alike(parts: list[Part]) -> None:
    found = [stems(batches_of(parts).examples(n)) for n in range(4)]
    towards_english = sum(row[1] == 90 for rows in found for row in rows)
    assert 0.4 < towards_english / sum(map(len, found)) < 0.6


@pytest.mark.parametrize("tokens", [120, 400, 3000])
def test_batch_stays_within_its_tokens(tokens: int, parts: list[Part]) -> None:
    sizes = []
    for batch in batches_of(parts, tokens).round(0):
        # The last target token is never fed in.
        size = batch.source.numel() + batch.target[:, 1:].numel()
        assert size <= tokens or len(batch.source) == 1
        sizes.append(size)
    assert sum(size > 0.6 * tokens for size in sizes) > 0.6 * len(sizes)


def test_little_of_a_batch_is_padding() -> None:
    batches = batches_of([part(FRENCH, 1000)], 800, round_examples=2000).round(0)
    padding = sum(int((b.source == PAD).sum() + (b.target == PAD).sum()) for b in batches)
    total = sum(b.source.numel() + b.target.numel() for b in batches)
    assert padding / total < 0.25  # at random it is nearly a half


def test_examples_that_are_too_long_or_empty_are_left_out() -> None:
    pairs = (("a", "b"), ("", "b"), ("a", ""), ("a" * 61, "b"), ("a", "b" * 61), ("a" * 60, "b" * 60))
    found = batches_of([Part(FRENCH, "pairs", 1, pairs)], round_examples=6).examples(0)
    assert sorted(len(e.source) for e in found) == [3, 62]


def test_same_seed_gives_the_same_batches_and_another_others(parts: list[Part]) -> None:
    options = AugmentationOptions(numbers=0.5, things=0.5, shapes=0.5, noise=0.5, joined=0.3)
    one, same, other = (
        batches_of(parts, seed=seed, augmentation=Augmentation(options)) for seed in (3, 3, 4)
    )
    for a, b in zip(one.round(2), same.round(2), strict=True):
        assert torch.equal(a.source, b.source)
        assert torch.equal(a.target, b.target)
    assert [e.source for e in one.examples(2)] != [e.source for e in other.examples(2)]


def test_an_example_does_not_depend_on_what_was_drawn_before(parts: list[Part]) -> None:
    fresh, used = batches_of(parts), batches_of(parts)
    used.round(0)
    assert fresh.examples(1) == used.examples(1)


def test_fingerprint_tells_other_examples(parts: list[Part]) -> None:
    same = batches_of(parts).fingerprint()
    assert same == batches_of(list(parts)).fingerprint()
    changes = [{"seed": 2}, {"balance": 0.5}, {"augmentation": Augmentation(AugmentationOptions(noise=0.1))}]
    others = [batches_of(parts, **change).fingerprint() for change in changes]
    others.append(batches_of([*parts, part(GERMAN, 30, "more")]).fingerprint())
    assert same not in others
    assert len(set(others)) == 4


def test_batches_mix_directions_and_come_in_random_order(parts: list[Part]) -> None:
    batches = batches_of(parts).round(0)
    mixed = sum(len({int(row[0]) for row in batch.source}) > 1 for batch in batches)
    assert mixed > 0.8 * len(batches)
    widths = [batch.source.shape[1] for batch in batches]
    falls = sum(a > b for a, b in pairwise(widths))
    assert 0.25 < falls / len(widths) < 0.75


def test_cut_keeps_every_example() -> None:
    examples = [Example([1] * (2 + i % 7), [1] * (3 + i % 5)) for i in range(50)]
    found = cut(examples, 60, np.random.default_rng(0))
    assert sorted(map(id, examples)) == sorted(id(e) for batch in found for e in batch)
    assert cut([], 60, np.random.default_rng(0)) == []


@pytest.mark.parametrize(("balance", "shares"), [(1.0, (0.8, 0.2)), (0.5, (2 / 3, 1 / 3)), (0.0, (0.5, 0.5))])
def test_balance_draws_more_of_small_languages(balance: float, shares: tuple[float, float]) -> None:
    assert part_weights([part(FRENCH, 80), part(GERMAN, 20)], balance) == pytest.approx(shares)


def test_parts_share_their_language_as_they_say_whatever_their_sizes() -> None:
    parts = [part(FRENCH, 90, "large", 1), part(FRENCH, 10, "small", 3), Part(GERMAN, "phrases", 5, ())]
    parts.append(part(GERMAN, 100, "pairs", 5))
    assert part_weights(parts, 1.0, made_up=MADE_UP) == pytest.approx([0.125, 0.375, 0.25, 0.25])


def test_part_without_pairs_that_nobody_makes_up_is_refused() -> None:
    with pytest.raises(InvalidOption, match=r"'poems' has no pairs.*phrases, copies"):
        part_weights([Part(FRENCH, "poems", 1, ())], 1.0, made_up=MADE_UP)


def test_made_up_parts_make_examples_of_their_language() -> None:
    parts = [Part(GERMAN, "phrases", 1, ()), Part(GERMAN, "copies", 1, ())]
    batches = batches_of(parts, round_examples=20)
    rows = [batches.texts(Draw(at, i, Random(i))) for at in range(len(parts)) for i in range(10)]
    assert all({row[2], row[3]} == {ENGLISH, GERMAN} for row in rows)
    assert all(source == target for source, target, *_ in rows[10:])
