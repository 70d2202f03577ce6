"""Reading ahead."""

import contextvars
import threading
from collections.abc import Iterator
from queue import SimpleQueue
from typing import Any

import pytest

from dragoman.errors import InvalidText
from dragoman.translation.feed import CHARACTERS, NOTHING, Feed, several
from dragoman.translation.results import Text


def feed_of(texts: Any, ahead: int = 10) -> tuple[Feed, "SimpleQueue[None]"]:
    woken: SimpleQueue[None] = SimpleQueue()
    return Feed(texts, ahead, lambda: woken.put(None)), woken


def take(feed: Feed, woken: "SimpleQueue[None]") -> Any:
    """The next text, as soon as there is one; NOTHING at the end."""
    while (text := feed.take()) is NOTHING and not feed.is_exhausted:
        woken.get(timeout=20)
    return text


def counted(most: int, given: list[int]) -> Iterator[str]:
    for number in range(most):
        given.append(number)
        yield str(number)


@pytest.mark.parametrize("kind", [list, tuple, iter, lambda texts: dict.fromkeys(texts).keys()])
def test_texts_come_in_their_order_and_then_nothing(kind: Any) -> None:
    texts = [str(number) for number in range(50)]
    feed, woken = feed_of(kind(texts))
    for text in texts:
        assert take(feed, woken) == text
        feed.release()
    assert take(feed, woken) is NOTHING
    assert feed.is_exhausted


@pytest.mark.parametrize("kind", [list, iter])
def test_no_more_texts_are_held_than_allowed(kind: Any) -> None:
    feed, woken = feed_of(kind("abcdefgh"), ahead=3)
    assert [take(feed, woken) for _ in range(3)] == ["a", "b", "c"]
    assert feed.take() is NOTHING
    assert not feed.is_exhausted
    feed.release()
    assert take(feed, woken) == "d"
    assert feed.take() is NOTHING


def test_an_iterator_is_asked_for_no_more_than_is_read_ahead() -> None:
    given: list[int] = []
    feed, woken = feed_of(counted(100, given), ahead=3)
    assert [take(feed, woken) for _ in range(3)] == ["0", "1", "2"]
    feed.release()
    assert take(feed, woken) == "3"
    assert len(given) == 4


@pytest.mark.parametrize("kind", [list, iter])
def test_large_texts_are_read_one_by_one(kind: Any) -> None:
    feed, woken = feed_of(kind(["x" * CHARACTERS, Text("y" * CHARACTERS), "z"]))
    assert len(take(feed, woken)) == CHARACTERS
    assert feed.take() is NOTHING
    feed.release()
    assert isinstance(take(feed, woken), Text)
    assert feed.take() is NOTHING
    feed.release()
    assert take(feed, woken) == "z"


def test_a_text_comes_while_the_iterator_waits_for_the_next() -> None:
    goes_on = threading.Event()

    def slow() -> Iterator[str]:
        yield "first"
        assert goes_on.wait(20)
        yield "second"

    feed, woken = feed_of(slow())
    assert take(feed, woken) == "first"
    goes_on.set()
    assert take(feed, woken) == "second"


def test_what_an_iterator_raises_is_kept_for_after_its_texts() -> None:
    def broken() -> Iterator[str]:
        yield "first"
        raise OSError("gone")

    feed, woken = feed_of(broken())
    assert take(feed, woken) == "first"
    assert take(feed, woken) is NOTHING
    assert isinstance(feed.error, OSError)


def test_a_closed_feed_lets_its_thread_go() -> None:
    given: list[int] = []
    feed, woken = feed_of(counted(100, given), ahead=2)
    assert take(feed, woken) == "0"
    feed.close()
    assert feed._thread is not None
    feed._thread.join(20)
    assert not feed._thread.is_alive()
    assert len(given) <= 3


def test_a_thread_that_waits_for_texts_keeps_no_program_from_its_end() -> None:
    goes_on = threading.Event()
    feed, _ = feed_of(iter(goes_on.wait, "never"))
    feed.take()
    assert feed._thread is not None
    assert feed._thread.daemon
    goes_on.set()
    feed.close()


def test_an_iterator_is_read_in_the_context_of_the_caller() -> None:
    user = contextvars.ContextVar("user", default="nobody")
    user.set("somebody")
    feed, woken = feed_of(user.get() for _ in range(1))
    assert take(feed, woken) == "somebody"


@pytest.mark.parametrize("texts", ["Hello", b"Hello", {"a": 1}, None, 5, Text("Hello"), bytearray(b"x")])
def test_what_is_not_several_texts_is_refused(texts: object) -> None:
    with pytest.raises(InvalidText):
        several(texts)
