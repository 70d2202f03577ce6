import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dragoman.generation.batching import length_cap, plan_batches


@pytest.mark.parametrize(
    ("source", "most", "cap"),
    [(1, 256, 32), (4, 256, 32), (5, 256, 64), (20, 256, 64), (21, 256, 96), (500, 256, 256), (3, 10, 10)],
)
def test_cap_is_twice_the_source_and_some_in_steps_of_32(source: int, most: int, cap: int) -> None:
    assert length_cap(source, most) == cap


@settings(deadline=None)
@given(st.integers(1, 1000))
def test_longer_sources_never_get_smaller_caps(source: int) -> None:
    assert length_cap(source, 4096) <= length_cap(source + 1, 4096)
    assert length_cap(source, 4096) >= 2 * source + 24


@settings(deadline=None)
@given(st.lists(st.integers(1, 60), max_size=60), st.integers(1, 8), st.integers(1, 200))
def test_every_sentence_is_in_one_batch_and_no_batch_is_too_large(
    lengths: list[int], batch_size: int, batch_tokens: int
) -> None:
    caps = [length_cap(length, 128) for length in lengths]
    batches = list(plan_batches(lengths, caps, batch_size, batch_tokens))
    assert sorted(index for batch in batches for index in batch) == list(range(len(lengths)))
    for batch in batches:
        assert 1 <= len(batch) <= batch_size
        assert len(batch) == 1 or max(lengths[i] for i in batch) * len(batch) <= batch_tokens
        assert len({caps[i] for i in batch}) == 1
    longest = [max(lengths[i] for i in batch) for batch in batches]
    assert longest == sorted(longest, reverse=True)


def test_like_lengths_share_a_batch() -> None:
    assert list(plan_batches([2, 9, 3, 8], [32] * 4, 2, 100)) == [[1, 3], [2, 0]]
    assert list(plan_batches([5, 5, 5], [32] * 3, 10, 10)) == [[0, 1], [2]]
    assert list(plan_batches([50, 1], [32] * 2, 10, 10)) == [[0], [1]]
    assert list(plan_batches([5, 5], [32, 64], 10, 100)) == [[1], [0]]
    assert list(plan_batches([], [], 10, 100)) == []
