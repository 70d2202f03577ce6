from queue import SimpleQueue

import pytest

from dragoman.errors import TranslationTimeout
from dragoman.translation.deadline import Deadline


def test_without_a_limit_there_is_no_deadline() -> None:
    events: SimpleQueue[int] = SimpleQueue()
    events.put(1)
    assert Deadline(None).left is None
    assert Deadline(None).next_of(events) == 1


def test_past_the_deadline_even_an_event_that_is_there_comes_too_late() -> None:
    events: SimpleQueue[int] = SimpleQueue()
    events.put(1)
    assert Deadline(1000).next_of(events) == 1
    events.put(1)
    with pytest.raises(TranslationTimeout, match="longer than 1e-09 seconds") as error:
        Deadline(1e-9).next_of(events)
    assert isinstance(error.value, TimeoutError)


def test_an_event_that_never_comes_is_waited_for_until_then() -> None:
    with pytest.raises(TranslationTimeout):
        Deadline(0.01).next_of(SimpleQueue())
