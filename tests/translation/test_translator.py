"""From text to text with the embedded model."""

import random
import threading

import pytest

from dragoman.errors import (
    InvalidOption,
    InvalidText,
    TranslationWarning,
    UnknownLanguage,
)
from dragoman.generation.engine import Engine, Ticket
from dragoman.generation.hypotheses import Hypothesis
from dragoman.generation.options import GenerationOptions
from dragoman.languages import find
from dragoman.systems import Request
from dragoman.systems.base import length_cap
from dragoman.translation.results import Text

pytestmark = pytest.mark.usefixtures("one_thread")

EN = find("en")


class Instant:
    """An engine that finishes everything at once, with nothing."""

    def submit_all(self, jobs, timeout=None):
        tickets = [Ticket(job, number) for number, job in enumerate(jobs)]
        for ticket in tickets:
            ticket.finish([Hypothesis((2,), 0.0)])
        return tickets


@pytest.mark.parametrize(
    ("text", "source", "target", "expected"),
    [
        (
            "Where is the station?",
            "en",
            "fr",
            {"Où est la gare ?", "Où se trouve la gare ?", "Où est la station ?"},
        ),
        ("Ich habe Hunger.", "de", "en", {"I'm hungry.", "I am hungry."}),
        ("Ik ben moe.", "nl", "en", {"I'm tired.", "I am tired."}),
        ("¿Qué hora es?", "es", "en", {"What time is it?", "What time is it now?"}),
    ],
)
def test_simple_sentences_come_out_right(translator, text, source, target, expected):
    assert translator.translate(text, source, target) in expected


def test_list_gives_a_list_in_order(translator):
    texts = ["Good night.", "", "I am tired.", "Good night."]
    result = translator.translate(texts, "en", "es")
    assert result[1] == ""
    assert result[0] == result[3] == translator.translate("Good night.", "en", "es")
    assert result[2] == translator.translate("I am tired.", "en", "es")


@pytest.mark.parametrize("count", [8, pytest.param(70, marks=pytest.mark.slow)])
def test_padding_batch_size_and_order_change_nothing(translator, tatoeba, count):
    sentences = [(text, "fr", "en") for text, _ in tatoeba["fr"][:count]]
    sentences += [(english, "en", "de") for _, english in tatoeba["de"][:count]]
    sentences += [(text, "nl", "en") for text, _ in tatoeba["nl"][:count]]

    def tokens(order, batch_size):
        found = {}
        for source, target in {(s, t) for _, s, t in sentences}:
            mine = [i for i in order if sentences[i][1:] == (source, target)]
            texts = [sentences[i][0] for i in mine]
            for i, result in zip(
                mine, translator.stream(texts, source, target, batch_size=batch_size), strict=True
            ):
                found[i] = [c.tokens for s in result.sentences for c in s.candidates]
        return found

    straight = list(range(len(sentences)))
    shuffled = random.Random(5).sample(straight, len(straight))
    alone = tokens(straight, 1)
    assert tokens(straight, 7) == alone
    assert tokens(straight, 32) == alone
    assert tokens(shuffled, 32) == alone


@pytest.mark.parametrize("beams", [1, 4])
def test_sentences_that_come_and_go_are_translated_as_alone(translator, tatoeba, beams):
    """The engine itself, with arrivals and cancellations at random times."""
    system, chance = translator.system, random.Random(beams)
    pairs = [(text, "de", "en") for text, _ in tatoeba["de"][:8]]
    pairs += [(english, "en", "es") for _, english in tatoeba["es"][:8]]
    pairs += [(text, "fr", "en") for text, _ in tatoeba["fr"][:8]]
    chance.shuffle(pairs)
    requests = [Request(text, find(source), find(target)) for text, source, target in pairs]
    rows = system.encode(requests)
    jobs = [
        system.job(row, request, GenerationOptions(beams=beams, max_new_tokens=length_cap(len(row), 256)))
        for row, request in zip(rows, requests, strict=True)
    ]
    engine = Engine(system.runner, rows=6 * beams)
    tickets = {}
    while len(tickets) < len(jobs):
        for _ in range(chance.choice((0, 0, 1, 2, 9))):
            if len(tickets) < len(jobs):
                tickets[len(tickets)] = engine.submit(jobs[len(tickets)])
        if tickets and chance.random() < 0.05:
            chance.choice(list(tickets.values())).cancel()
        engine.between_steps(lambda: None)  # a step or two later
    kept = [index for index, ticket in tickets.items() if not ticket.cancelled()]
    assert len(kept) > 15
    for index in kept:
        ((_, alone),) = system.engine.run([jobs[index]])
        assert [h.tokens for h in tickets[index].result()] == [h.tokens for h in alone]


def test_first_texts_come_before_the_last_are_done(translator):
    counts = []
    texts = ["I am tired.", "Good night."] + ["The man has a very big house in the north of the city."] * 3
    stream = translator.stream(texts, "en", "fr", batch_size=1, progress=lambda *c: counts.append(c[0]))
    first = next(stream)
    assert first.text == translator.translate("I am tired.", "en", "fr")
    assert counts[-1] < 5
    stream.close()
    assert not translator.system.engine.busy


def test_a_stream_may_be_read_while_others_are_translated(translator):
    texts = ["Good night.", "I am tired.", "Where is the station?"]
    expected = translator.translate(texts, "en", "de")
    found = []
    for result in translator.stream(texts, "en", "de", batch_size=2):
        found.append(result.text)
        assert translator.translate(texts[0], "en", "de") == expected[0]
    assert found == expected


def test_threads_translate_with_one_model(translator):
    texts = ["Good night.", "I am tired.", "Where is the station?", "He has two dogs."]
    expected = {target: translator.translate(texts, "en", target) for target in ("de", "fr", "es")}
    found = {}

    def work(target):
        found[target] = translator.translate(texts, "en", target)

    threads = [threading.Thread(target=work, args=(target,)) for target in expected]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == expected


def test_language_is_detected_per_text(translator):
    results = list(translator.stream(["Ich weiß es nicht.", "Je ne sais pas.", "12"], target="en"))
    assert [r.source for r in results[:2]] == ["deu_Latn", "fra_Latn"]
    assert results[0].detected.confidence > 0.9
    assert results[2].detected is None
    assert results[2].text == "12"


def test_text_without_a_clear_language_is_translated_with_a_warning(translator):
    with pytest.warns(TranslationWarning, match="It was taken to be") as warned:
        assert translator.translate("Ok", target="fr")
    assert warned[0].filename == __file__
    assert translator.translate("12 345", target="fr") == "12 345"


def test_unclear_text_follows_the_texts_before_it_and_says_so(translator):
    texts = ["Je ne sais pas où il habite.", "Elle est très gentille.", "Menu"]
    results = list(translator.stream(texts, target="en"))
    assert [result.source for result in results] == ["fra_Latn"] * 3
    assert [[warning.kind for warning in result.warnings] for result in results] == [[], [], ["language"]]
    with pytest.warns(TranslationWarning, match="text 3: The text was taken to be French"):
        translator.translate(texts, target="en")


def test_a_text_in_a_language_that_the_model_does_not_speak_is_not_lost(translator):
    polish = next(translator.stream(["Dzień dobry, nie mówię po angielsku."], target="fr"))
    assert polish.error is None
    assert polish.text
    assert "looks like Polish" in str(polish.warnings[0])
    greek = next(translator.stream(["Γειά σου Κόσμε"], target="fr"))
    assert greek.text == "Γειά σου Κόσμε"
    assert "Greek" in str(greek.warnings[0])


@pytest.mark.parametrize("kind", [list, iter])
@pytest.mark.parametrize("batch_size", [1, 5])
def test_what_an_unsure_text_becomes_does_not_depend_on_how_texts_arrive(translator, kind, batch_size):
    texts = ["Menu", "Je ne sais pas.", "Menu", "Ich weiß es nicht.", "Wo bist du?", "Anna", "Menu"]
    expected = [(r.source, r.text) for r in translator.stream(texts, target="es", beams=1)]
    stream = translator.stream(kind(texts), target="es", beams=1, batch_size=batch_size)
    assert [(result.source, result.text) for result in stream] == expected


def test_likely_source_helps_short_texts(translator):
    assert next(translator.stream(["12"], target="fr", likely_source="de")).source == "deu_Latn"


@pytest.mark.parametrize("text", ["", " ", "\n\n", "\t \n", "123", "…", "😀 😀", "3.14 %"])
def test_text_without_words_stays_as_it_is(translator, text):
    assert translator.translate(text, "en", "fr") == text


def test_paragraphs_and_white_space_are_kept(translator):
    text = "  Good morning.\n\n\tI am here. You are there.\r\nGood night.\n"
    result = translator.translate(text, "en", "fr")
    assert result.startswith("  ")
    assert result.count("\n") == 4
    assert "\n\n\t" in result
    assert "\r\n" in result
    assert result.endswith("\n")


def test_long_text_is_translated_to_its_end(translator):
    sentences = ["I have a dog.", "The house is red.", "She lives in Paris."]
    text = " ".join(sentences * 20)
    result = next(translator.stream([text], "en", "fr", beams=1))
    assert len(result.sentences) == 60
    assert result.text == " ".join(translator.translate(sentences, "en", "fr", beams=1) * 20)


def test_sentence_over_the_limit_is_cut_at_clauses_and_not_off(translator):
    text = ", ".join(f"the man number {word} has a house" for word in ("one", "two", "three", "four") * 8)
    result = next(translator.stream([text], "en", "fr", beams=1))
    limit = translator.card.max_source_tokens
    assert len(result.sentences) > 1
    assert all(translator.system.measure(s.source) <= limit for s in result.sentences)
    assert "".join("".join(s.source for s in result.sentences).split()) == "".join(text.split())


def test_a_long_text_without_a_space_is_split_and_comes_back_whole(translator, monkeypatch):
    """Only the model is replaced, by one that returns its source; all else is the real path."""
    system = translator.system
    monkeypatch.setattr(system, "decode", lambda hypothesis, request: request.text)
    monkeypatch.setattr(system, "engine", Instant())
    text = "abcdefghij" * 20_000
    result = next(translator.stream([text], "en", "fr"))
    assert result.text == text
    longest = max(len(row) for row in system.encode([Request(s.source, EN, EN) for s in result.sentences]))
    assert longest <= system.room(EN, EN) + 2


def test_special_tokens_in_text_stay_text(translator):
    ids = translator.system.tokenizer.encode("</s> fra_Latn <pad> hello", "en")
    assert ids.count(translator.system.tokenizer.eos_id) == 1
    assert not set(ids[1:]) & set(translator.system.tokenizer.lang_code_to_id.values())


def test_pair_without_english_goes_through_english_and_says_so(translator):
    result = next(translator.stream(["Guten Morgen."], "de", "fr"))
    assert result.pivot == "eng_Latn"
    assert result.text == translator.translate(translator.translate("Guten Morgen.", "de", "en"), "en", "fr")
    assert next(translator.stream(["Guten Morgen."], "de", "en")).pivot is None


def test_source_equal_to_target_changes_nothing(translator):
    assert translator.translate("Stay as you are.", "en", "en") == "Stay as you are."


def test_n_best_are_ranked_and_different(translator):
    result = next(translator.stream(["I can't believe it."], "en", "de", n_best=4))
    candidates = result.sentences[0].candidates
    assert len({c.tokens for c in candidates}) == 4
    assert [c.score for c in candidates] == sorted((c.score for c in candidates), reverse=True)
    assert len(result.alternatives) == 3
    assert candidates[0].tokens[0] == "deu_Latn"
    assert candidates[0].tokens[-1] == "</s>"


def test_sampling_repeats_with_its_seed_whatever_the_batch(translator):
    def samples(texts, seed):
        options = {"sample": True, "beams": 1, "temperature": 1.5, "seed": seed}
        return [result.text for result in translator.stream(texts, "en", "fr", **options)]

    (alone,) = samples(["It is raining today."], 7)
    assert samples(["Good night.", "It is raining today.", "Yes."], 7)[1] == alone
    assert len({samples(["It is raining today."], seed)[0] for seed in range(4)}) > 1


def test_one_bad_text_does_not_harm_its_neighbours(translator):
    texts = ["Good night.", "bad \ud800", None, "I am tired."]
    results = list(translator.stream(texts, "en", "fr"))  # type: ignore[arg-type]
    assert [type(r.error) for r in results] == [type(None), InvalidText, InvalidText, type(None)]
    assert [r.text for r in results[1:3]] == ["bad \ud800", ""]
    assert results[3].text == translator.translate("I am tired.", "en", "fr")
    with pytest.raises(InvalidText, match="D800"):
        translator.translate(texts, "en", "fr")


@pytest.mark.parametrize("text", [None, 5, b"Good night.", {"Good night.": 1}])
def test_what_is_no_text_is_an_error(translator, text):
    with pytest.raises(InvalidText, match="must be a str"):
        translator.translate(text, "en", "fr")


def test_bans_that_leave_nothing_to_say_give_an_empty_unfinished_sentence(translator):
    everything = tuple(range(translator.system.config.vocab_size))
    result = next(translator.stream(["Good night."], "en", "fr", suppress=everything))
    assert result.text == ""
    assert not result.sentences[0].candidates[0].complete


def test_unfinished_sentence_is_reported(translator):
    result = next(translator.stream(["I would like to have a very big house."], "en", "fr", max_new_tokens=3))
    assert not result.sentences[0].candidates[0].complete
    (warning,) = result.warnings
    assert (warning.kind, warning.sentence) == ("limit", 1)
    assert "reached the limit of 3 tokens" in str(warning)
    with pytest.warns(TranslationWarning, match="reached the limit of 3 tokens"):
        translator.translate("I would like to have a very big house.", "en", "fr", max_new_tokens=3)


@pytest.mark.parametrize(("source", "target"), [("xx", "fr"), ("en", "klingon"), ("fi", "en"), ("en", "fi")])
def test_unknown_or_unspoken_language_is_an_error(translator, source, target):
    with pytest.raises(UnknownLanguage):
        translator.translate("Hello.", source, target)


@pytest.mark.parametrize("texts", ["Hello", b"Hello", {"Hello": 1}, None])
def test_a_stream_of_what_is_not_several_texts_is_refused_at_the_call(translator, texts):
    with pytest.raises(InvalidText):
        translator.stream(texts, "en", "fr")


@pytest.mark.parametrize("options", [{"target": "klingon"}, {"source": "xx"}, {"likely_source": "xx"}])
def test_a_stream_with_a_bad_language_is_refused_at_the_call(translator, options):
    with pytest.raises(UnknownLanguage):
        translator.stream(["Hello."], **options)


def test_a_stream_with_a_bad_option_is_refused_at_the_call(translator):
    with pytest.raises(InvalidOption, match="do you mean 'beams'"):
        translator.stream(["Hello."], "en", "fr", beam=2)


def test_each_text_of_a_stream_may_have_its_own_languages(translator):
    texts = [
        Text("Guten Morgen.", "de", "en"),
        "Good night.",
        Text("Good night.", target="es"),
        Text("Hello.", "xx"),
    ]
    results = list(translator.stream(texts, "en", "fr"))
    assert [(r.source, r.target) for r in results[:3]] == [
        ("deu_Latn", "eng_Latn"),
        ("eng_Latn", "fra_Latn"),
        ("eng_Latn", "spa_Latn"),
    ]
    assert [r.text for r in results[:3]] == [
        translator.translate("Guten Morgen.", "de", "en"),
        translator.translate("Good night.", "en", "fr"),
        translator.translate("Good night.", "en", "es"),
    ]
    assert isinstance(results[3].error, UnknownLanguage)
    assert results[3].text == "Hello."


def test_results_come_while_the_iterator_waits_for_its_next_text(translator):
    goes_on = threading.Event()

    def slow():
        yield "Good night."
        assert goes_on.wait(60)
        yield "I am tired."
        raise OSError("the line is cut")

    stream = translator.stream(slow(), "en", "fr")
    assert next(stream).text == translator.translate("Good night.", "en", "fr")
    goes_on.set()
    assert next(stream).text == translator.translate("I am tired.", "en", "fr")
    with pytest.raises(OSError, match="the line is cut"):
        next(stream)


def test_texts_that_cannot_be_read_back_harm_no_neighbours(translator, monkeypatch):
    def decode(hypothesis, request):
        if "tired" in request.text:
            raise InvalidText("token 7 has no text")
        return original(hypothesis, request)

    original = translator.system.decode
    monkeypatch.setattr(translator.system, "decode", decode)
    good, bad, better = translator.stream(["Good night.", "I am tired.", "Where is he?"], "en", "fr")
    assert isinstance(bad.error, InvalidText)
    assert (bad.text, bad.source_text) == ("I am tired.", "I am tired.")
    assert good.error is better.error is None
