"""Who begins, and what is remembered."""

from dragoman.languages import find
from dragoman.systems import Request
from dragoman.translation.legs import Leg, Ready, Remembered
from dragoman.translation.results import Candidate

EN, FR = find("en"), find("fr")


def leg(text: str, hops: int = 1) -> Leg:
    return Leg(Request(text, EN, FR), hops)


def texts(ready: Ready) -> list[str]:
    return [ready.pop().request.text for _ in range(len(ready))]


def test_legs_begin_in_their_order_and_those_half_way_first() -> None:
    ready = Ready()
    for text, half_way in (("a", False), ("bbb", False), ("c", True), ("dd", False), ("ee", True)):
        ready.push(leg(text), half_way)
    assert texts(ready) == ["c", "ee", "a", "bbb", "dd"]


def test_once_all_are_known_the_longest_way_comes_first() -> None:
    ready = Ready()
    ready.push(leg("aa"), False)
    ready.push(leg("bbb"), True)
    ready.push(leg("cc", hops=2), False)
    ready.take_longest_first()
    ready.take_longest_first()
    ready.push(leg("d"), True)
    ready.push(leg("eeeee"), False)
    assert texts(ready) == ["eeeee", "cc", "bbb", "aa", "d"]


def candidates(tokens: int) -> tuple[Candidate, ...]:
    return (Candidate("x", 0.0, ("t",) * tokens, True),)


def test_what_was_used_last_is_forgotten_last() -> None:
    remembered = Remembered()
    for number in range(Remembered.LEGS):
        remembered.add(Request(str(number), EN, FR), candidates(1))
    assert remembered.get(Request("0", EN, FR)) is not None
    remembered.add(Request("new", EN, FR), candidates(1))
    assert remembered.get(Request("0", EN, FR)) is not None
    assert remembered.get(Request("1", EN, FR)) is None
    assert remembered.get(Request("0", FR, EN)) is None


def test_long_translations_are_remembered_only_as_far_as_memory_is_given() -> None:
    remembered = Remembered()
    for number in range(10):
        remembered.add(Request(str(number), EN, FR), candidates(Remembered.TOKENS // 4))
    known = [remembered.get(Request(str(number), EN, FR)) is not None for number in range(10)]
    assert known == [False] * 6 + [True] * 4
    remembered.add(Request("huge", EN, FR), candidates(2 * Remembered.TOKENS))
    assert remembered.get(Request("huge", EN, FR)) is None
    assert not remembered._known
    assert remembered._tokens == 0
