"""Texts in and translations out, with an engine that finishes what it is told to."""

import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from dragoman.errors import InvalidText
from dragoman.generation.options import GenerationOptions
from dragoman.languages import find
from dragoman.translation.options import TextOptions
from dragoman.translation.pipeline import AHEAD, Pipeline
from dragoman.translation.preparing import Preparing
from dragoman.translation.running import Run

AT_ONCE = 4


def run_of(toy: Any, **options: Any) -> Run:
    languages = [find(code) for code in toy.card.languages]
    preparing = Preparing(toy, languages, TextOptions("de", "fr"))
    return Run(preparing, Pipeline(toy, GenerationOptions(), AT_ONCE, **options))


def finishing(toy: Any, choose: Callable[[], Any]) -> None:
    """Whenever the reader is about to wait, the engine finishes the tickets that `choose` picks."""

    def wait(pipeline: Pipeline, original: Any = Pipeline.wait) -> None:
        pipeline._refill()
        toy.engine.finish(choose())
        assert toy.engine.waits > 0, "it waits for what never comes"
        toy.engine.waits -= 1
        original(pipeline)

    toy.engine.waits = 10_000
    toy.wait = wait


def letters(count: int) -> list[str]:
    return [f"{chr(97 + i % 26)}{chr(97 + i // 26)}" for i in range(count)]


@pytest.fixture
def waits(toy: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Sets what the engine finishes when the reader waits."""

    def use(choose: Callable[[], Any]) -> None:
        finishing(toy, choose)
        monkeypatch.setattr(Pipeline, "wait", toy.wait)

    return use


@pytest.mark.parametrize("count", [0, 1, 3, AHEAD * AT_ONCE, AHEAD * AT_ONCE + 1, 300])
@pytest.mark.parametrize("kind", [list, iter])
def test_all_texts_come_out_in_their_order(toy: Any, waits: Any, kind: Any, count: int) -> None:
    waits(lambda: lambda ticket: True)
    texts = letters(count)
    found = [result.text for result in run_of(toy, timeout=20).translations(kind(texts))]
    assert found == [f"{text}>en>fr" for text in texts]
    assert toy.engine.widest <= AT_ONCE


@pytest.mark.parametrize("kind", [list, iter])
def test_a_text_that_takes_long_lets_only_so_many_past_it_and_none_is_lost(
    toy: Any, waits: Any, kind: Any
) -> None:
    slow: list[Any] = []

    def choose() -> Any:
        slow[:] = slow or toy.engine.open[:1]
        others = [ticket for ticket in toy.engine.open if ticket not in slow]
        return (lambda ticket: ticket in others) if others else (lambda ticket: True)

    waits(choose)
    texts = letters(200)
    found = [result.text for result in run_of(toy, timeout=20).translations(kind(texts))]
    assert found == [f"{text}>en>fr" for text in texts]


def test_bad_texts_come_in_their_places(toy: Any, waits: Any) -> None:
    waits(lambda: lambda ticket: True)
    results = list(run_of(toy).translations([None, "a", 5, "b", None]))
    assert [isinstance(result.error, InvalidText) for result in results] == [True, False, True, False, True]


def test_a_result_comes_as_soon_as_it_is_done_though_the_next_text_is_not_there(toy: Any, waits: Any) -> None:
    waits(lambda: lambda ticket: True)
    goes_on = threading.Event()

    def slow() -> Iterator[str]:
        yield "a"
        assert goes_on.wait(60)
        yield "b"

    results = run_of(toy, timeout=20).translations(slow())
    assert next(results).text == "a>en>fr"
    goes_on.set()
    assert [result.text for result in results] == ["b>en>fr"]


def test_what_the_iterator_raises_comes_after_the_results_of_what_came_before(toy: Any, waits: Any) -> None:
    waits(lambda: lambda ticket: True)

    def broken() -> Iterator[str]:
        yield "a"
        yield "b"
        raise KeyError("gone")

    results = run_of(toy, timeout=20).translations(broken())
    assert [next(results).text, next(results).text] == ["a>en>fr", "b>en>fr"]
    with pytest.raises(KeyError, match="gone"):
        next(results)


@pytest.mark.parametrize("kind", [list, iter])
def test_closing_cancels_and_reads_no_more(toy: Any, waits: Any, kind: Any) -> None:
    waits(lambda: lambda ticket, oldest=toy.engine.open[0]: ticket is oldest)
    before = set(threading.enumerate())
    results = run_of(toy, timeout=20).translations(kind(letters(100)))
    assert next(results).text == "aa>en>fr"
    assert toy.engine.open
    results.close()
    assert not toy.engine.open
    new = set(threading.enumerate()) - before
    for thread in new:
        thread.join(20)
    assert not any(thread.is_alive() for thread in new)


def test_a_generator_that_is_never_read_starts_nothing(toy: Any) -> None:
    before = threading.active_count()
    run_of(toy).translations(iter(["a"])).close()
    assert threading.active_count() == before
    assert not toy.engine.tickets


def test_pieces_come_in_the_order_of_the_text(toy: Any, waits: Any) -> None:
    waits(lambda: lambda ticket: True)
    run = run_of(toy, listens=True)
    job: Any = run.preparing.prepare(" Eins ist da.\n\n12\nZwei ist da. ")
    assert "".join(run.pieces(job)) == " Eins ist da.>en>fr\n\n12\nZwei ist da.>en>fr "


def test_pieces_of_a_text_that_fails_end_in_its_error(toy: Any, waits: Any) -> None:
    waits(lambda: lambda ticket: True)
    toy.unreadable = {"Zwei."}
    run = run_of(toy, listens=True)
    job: Any = run.preparing.prepare("Eins.\nZwei.")
    pieces = run.pieces(job)
    assert next(pieces) == "Eins.>en>fr"
    with pytest.raises(InvalidText):
        list(pieces)
    assert not toy.engine.open
