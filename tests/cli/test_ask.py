"""`dragoman ask`, with a model that answers at once."""

import json
import sys
from types import SimpleNamespace

import pytest

from dragoman.languages import all_languages
from dragoman.translation.translator import Translator


class Answering:
    system = SimpleNamespace(precision="fp32")
    languages = all_languages()

    def __init__(self) -> None:
        self.given: list[dict[str, object]] = []
        self.pieces = 0

    def ask(self, question, language, **options):
        self.given.append(options)
        return f"{language}: {question}!"

    def ask_live(self, question, language, **options):
        for number, word in enumerate(self.ask(question, language, **options).split(" ")):
            self.pieces += 1
            yield f" {word}" if number else word


@pytest.fixture
def model(monkeypatch) -> Answering:
    answering = Answering()
    monkeypatch.setattr(Translator, "load", classmethod(lambda cls, *args, **options: answering))
    return answering


ASK = ("ask", "--model", "X-ALMA", "--lang", "de")


@pytest.mark.parametrize("terminal", [True, False])
def test_answer_is_printed_as_it_comes_only_on_a_terminal(dragoman, model, monkeypatch, terminal):
    monkeypatch.setattr(sys.stdout, "isatty", lambda: terminal)
    assert dragoman(*ASK, "Wie geht es dir?").out == "de: Wie geht es dir?!\n"
    assert bool(model.pieces) == terminal
    assert model.given == [{"beams": 5, "max_new_tokens": 512}]


@pytest.mark.parametrize("args", [(), ("-",)])
def test_the_question_may_come_from_standard_input(dragoman, model, args):
    assert dragoman(*ASK, *args, stdin=b"Wie geht\nes dir?\n").out == "de: Wie geht\nes dir?!\n"


def test_a_question_that_is_no_text_is_an_error(dragoman, model):
    result = dragoman(*ASK, stdin=b"Wie geht\nes d\xefr?\n")
    assert (result.code, result.out) == (2, "")
    assert "standard input, line 2: not UTF-8" in result.err


def test_the_answer_as_json(dragoman, model):
    record = json.loads(dragoman(*ASK, "--json", "Wer?").out)
    assert record == {"question": "Wer?", "answer": "de: Wer?!", "language": "deu_Latn"}


def test_sampling_keeps_one_hypothesis(dragoman, model):
    assert dragoman(*ASK, "--sample", "--top-p", "0.9", "--seed", "3", "--timeout", "9", "Wer?").code == 0
    wanted = {"beams": 1, "max_new_tokens": 512, "sample": True, "top_p": 0.9, "seed": 3, "timeout": 9.0}
    assert model.given == [wanted]
    assert dragoman(*ASK, "--sample", "--beams", "3", "Wer?").code == 2


def test_a_model_that_only_translates_is_one_clear_line(run):
    result = run("ask", "--model", "mini", "--lang", "de", "Wer?")
    assert result.code == 2
    assert "only translates" in result.err
