import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dragoman.languages import find
from dragoman.systems import Request
from dragoman.systems.base import length_cap


@pytest.mark.parametrize(
    ("source", "most", "cap"),
    [(1, 256, 32), (4, 256, 32), (5, 256, 64), (20, 256, 64), (21, 256, 96), (500, 256, 256), (3, 10, 10)],
)
def test_cap_is_twice_the_source_and_some_in_steps_of_32(source: int, most: int, cap: int) -> None:
    assert length_cap(source, most) == cap


def test_a_language_of_more_tokens_gets_a_higher_cap_and_one_of_fewer_no_lower() -> None:
    assert length_cap(20, 4096, growth=8.0) == 352
    assert length_cap(20, 4096, growth=0.4) == length_cap(20, 4096) == 64


@settings(deadline=None)
@given(st.integers(1, 1000))
def test_longer_sources_never_get_smaller_caps(source: int) -> None:
    assert length_cap(source, 4096) <= length_cap(source + 1, 4096)
    assert length_cap(source, 4096) >= 2 * source + 24


def test_what_has_no_words_or_is_in_the_target_language_stays() -> None:
    english, french = find("en"), find("fr")
    assert Request("12, 3.", english, french).stays
    assert Request("https://example.com/a", english, french).stays
    assert Request("{count} / {total}", english, french).stays
    assert Request("Hello", english, english).stays
    assert not Request("Hello", english, french).stays
