"""Sentences on their way, with an engine that is told when to finish what."""

from typing import Any

import pytest

from dragoman.errors import DragomanError, InvalidText, TranslationFailed, TranslationTimeout
from dragoman.generation.engine import Ticket
from dragoman.generation.options import GenerationOptions
from dragoman.languages import find
from dragoman.translation.legs import Journey
from dragoman.translation.pipeline import KNOWN, Cancelled, Pipeline

EN, FR, DE = find("en"), find("fr"), find("de")


def pipeline_of(toy: Any, at_once: int = 8, **options: Any) -> Pipeline:
    return Pipeline(toy, GenerationOptions(), at_once, **options)


def outcome(journey: Journey) -> Any:
    """The best translation, the error, or None if it is still on its way."""
    found = journey.outcome
    return found[0].text if isinstance(found, tuple) else found


def run(pipeline: Pipeline, toy: Any, journeys: list[Journey]) -> None:
    """Until all have arrived; each step of the engine finishes all that is under way."""
    pipeline.wake()
    pipeline.wait()
    while any(journey.outcome is None for journey in journeys):
        toy.engine.steps += 1
        toy.engine.finish()
        pipeline.wait()


def test_a_sentence_goes_from_language_to_language(toy: Any) -> None:
    pipeline = pipeline_of(toy)
    journeys = [pipeline.add("a", (DE, EN, FR)), pipeline.add("b", (EN, FR))]
    run(pipeline, toy, journeys)
    assert [outcome(journey) for journey in journeys] == ["a>en>fr", "b>fr"]


def test_what_stays_needs_no_engine(toy: Any) -> None:
    pipeline = pipeline_of(toy)
    assert outcome(pipeline.add("12", (DE, EN, FR))) == "12"
    assert outcome(pipeline.add("Hallo", (DE, DE))) == "Hallo"
    assert not toy.engine.tickets


def test_equal_sentences_are_translated_once_also_when_they_come_later(toy: Any) -> None:
    pipeline = pipeline_of(toy)
    journeys = [pipeline.add("a", (EN, FR)) for _ in range(5)]
    run(pipeline, toy, journeys)
    journeys.append(pipeline.add("a", (EN, FR)))
    assert [outcome(journey) for journey in journeys] == ["a>fr"] * 6
    assert len(toy.engine.tickets) == 1
    pipeline.add("a", (EN, DE))
    pipeline.wake()
    pipeline.wait()
    assert len(toy.engine.tickets) == 2


def test_the_engine_has_no_more_than_so_many_at_once_and_never_waits_between_legs(toy: Any) -> None:
    pipeline = pipeline_of(toy, at_once=8)
    journeys = [pipeline.add(f"{chr(97 + i)}", (DE, EN, FR)) for i in range(24)]
    run(pipeline, toy, journeys)
    assert toy.engine.widest == 8
    assert toy.engine.steps == 24 * 2 // 8
    assert [outcome(journey) for journey in journeys] == [f"{chr(97 + i)}>en>fr" for i in range(24)]


def test_a_few_free_places_wait_until_they_are_a_quarter(toy: Any) -> None:
    pipeline = pipeline_of(toy, at_once=8)
    for i in range(20):
        pipeline.add(f"{chr(97 + i)}", (EN, FR))
    pipeline.wake()
    pipeline.wait()
    toy.engine.finish(lambda ticket: ticket is toy.engine.tickets[0])
    pipeline.wait()
    assert len(toy.engine.open) == 7
    toy.engine.finish(lambda ticket: ticket is toy.engine.tickets[1])
    pipeline.wait()
    assert len(toy.engine.open) == 8


def test_it_is_hungry_until_enough_sentences_are_known(toy: Any) -> None:
    pipeline = pipeline_of(toy, at_once=2)
    count = 0
    while pipeline.is_hungry:
        pipeline.add(f"a{count}", (EN, FR))
        count += 1
    assert count == KNOWN * 2


@pytest.mark.parametrize("stops", [(EN, FR), (DE, EN, FR)])
def test_an_error_is_that_of_one_sentence(toy: Any, stops: Any) -> None:
    toy.refuses, toy.unreadable = {"refused"}, {"unreadable"}
    counts: list[tuple[int, int]] = []
    pipeline = pipeline_of(toy, progress=lambda *count: counts.append(count))
    journeys = [pipeline.add(text, stops) for text in ("good", "refused", "unreadable", "better")]
    run(pipeline, toy, journeys)
    good, refused, unreadable, better = map(outcome, journeys)
    assert good.startswith("good>")
    assert better.startswith("better>")
    assert isinstance(refused, DragomanError)
    assert isinstance(unreadable, InvalidText)
    total = 4 * (len(stops) - 1)
    assert counts[-1] == (total, total)


def test_what_the_engine_raises_is_an_error_with_its_cause(toy: Any) -> None:
    pipeline = pipeline_of(toy)
    journey = pipeline.add("a", (EN, FR))
    pipeline.wake()
    pipeline.wait()
    (ticket,) = toy.engine.tickets
    ticket.fail(RuntimeError("no more electricity"))
    pipeline.wait()
    error = outcome(journey)
    assert isinstance(error, TranslationFailed)
    assert "no more electricity" in str(error)
    assert isinstance(error.__cause__, RuntimeError)


def test_what_somebody_else_cancels_is_an_error_and_no_hanging(toy: Any) -> None:
    pipeline = pipeline_of(toy)
    journey = pipeline.add("a", (EN, FR))
    pipeline.wake()
    pipeline.wait()
    toy.engine.tickets[0].cancel()
    pipeline.wait()
    assert isinstance(outcome(journey), TranslationFailed)


def test_errors_are_not_remembered(toy: Any) -> None:
    toy.refuses = {"a"}
    pipeline = pipeline_of(toy)
    run(pipeline, toy, [pipeline.add("a", (EN, FR))])
    toy.refuses.clear()
    journey = pipeline.add("a", (EN, FR))
    run(pipeline, toy, [journey])
    assert outcome(journey) == "a>fr"


def test_closing_cancels_all_that_is_under_way(toy: Any) -> None:
    pipeline = pipeline_of(toy)
    for i in range(20):
        pipeline.add(f"{chr(97 + i)}", (EN, FR))
    pipeline.wake()
    pipeline.wait()
    assert len(toy.engine.open) == 8
    pipeline.close()
    assert all(ticket.cancelled() for ticket in toy.engine.tickets)


def test_stopping_from_outside_ends_the_wait(toy: Any) -> None:
    pipeline = pipeline_of(toy)
    pipeline.add("a", (EN, FR))
    pipeline.stop()
    with pytest.raises(Cancelled):
        pipeline.wait()
    with pytest.raises(Cancelled):
        pipeline.wait()


def test_time_runs_out(toy: Any) -> None:
    pipeline = pipeline_of(toy, timeout=0.01)
    pipeline.add("a", (EN, FR))
    with pytest.raises(TranslationTimeout):
        pipeline.wait()


def test_only_the_last_leg_tells_what_is_certain(toy: Any) -> None:
    pipeline = pipeline_of(toy, listens=True)
    journey = pipeline.add("a", (DE, EN, FR))
    pipeline.wake()
    pipeline.wait()

    def tell(ticket: Ticket) -> str:
        ticket.tell([1])
        pipeline.wait()
        return pipeline.certain(journey)

    assert tell(toy.engine.tickets[0]) == ""
    toy.engine.finish()
    pipeline.wait()
    assert tell(toy.engine.tickets[1]) == "a>en>"
    toy.engine.finish()
    pipeline.wait()
    assert pipeline.certain(journey) == "a>en>fr"


def test_bans_that_leave_nothing_give_an_unfinished_empty_sentence(toy: Any) -> None:
    pipeline = pipeline_of(toy)
    journey = pipeline.add("a", (EN, FR))
    pipeline.wake()
    pipeline.wait()
    toy.engine.tickets[0].finish([])
    pipeline.wait()
    assert outcome(journey) == ""
    assert isinstance(journey.outcome, tuple)
    assert not journey.outcome[0].complete


def test_a_translation_may_be_as_long_as_its_language_needs(toy: Any) -> None:
    toy.max_new_tokens = 1000
    pipeline = Pipeline(toy, GenerationOptions(max_new_tokens=1000), 8)
    for target in (FR, DE):
        pipeline.add("a" * 100, (EN, target))
    pipeline.wake()
    pipeline.wait()
    assert [ticket.job.options.max_new_tokens for ticket in toy.engine.tickets] == [224, 640]
