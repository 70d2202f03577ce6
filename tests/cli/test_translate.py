"""`dragoman translate`, in this process."""

import json

import pytest

from dragoman.errors import LanguageModuleError
from dragoman.translation.translator import Translator


def test_translates_its_arguments(run, translator):
    result = run("translate", "--from", "en", "--to", "fr", "Good night.", "I am tired.")
    assert result.code == 0
    assert result.lines == translator.translate(["Good night.", "I am tired."], "en", "fr")
    assert result.err == ""


def test_detects_the_language_and_says_so(run, translator):
    result = run("translate", "Ich weiß es nicht.")
    assert result.lines == [translator.translate("Ich weiß es nicht.", "de", "en")]
    assert "detected: German (deu_Latn)" in result.err


def test_a_source_that_is_auto_is_detected(run, translator):
    result = run("translate", "--from", "auto", "--to", "en", "Ich weiß es nicht.")
    assert result.lines == [translator.translate("Ich weiß es nicht.", "de", "en")]
    assert run("translate", "--from", "auto", "This is an English sentence.").code == 2


def test_target_defaults_to_the_locale(run, monkeypatch, translator):
    monkeypatch.setenv("LC_ALL", "es_ES.UTF-8")
    result = run("translate", "--from", "en", "Good night.")
    assert result.lines == [translator.translate("Good night.", "en", "es")]


@pytest.mark.parametrize("text", ["", "  ", "\n"])
def test_empty_text_comes_back_empty(run, text):
    result = run("translate", "-f", "en", "-t", "fr", text)
    assert result.code == 0
    assert result.out == text + "\n"


def test_byte_order_mark_is_no_text(run, translator):
    result = run("translate", "-f", "en", "-t", "fr", stdin=b"\xef\xbb\xbfGood night.\n")
    assert result.lines == [translator.translate("Good night.", "en", "fr")]


def test_json_has_scores_and_tokens(run):
    result = run("translate", "-t", "fr", "--json", "--n-best", "2", "Where do you live now?")
    record = json.loads(result.out)
    assert record["source_text"] == "Where do you live now?"
    assert record["source"] == "eng_Latn"
    assert record["detected"]["confidence"] > 0.9
    (sentence,) = record["sentences"]
    assert len(sentence["candidates"]) == 2
    best = sentence["candidates"][0]
    assert best["text"] == record["text"]
    assert best["score"] < 0
    assert best["tokens"][0] == "fra_Latn"


def test_pivot_is_said(run):
    result = run("translate", "-f", "de", "-t", "fr", "Guten Morgen.")
    assert "by way of English" in result.err


def test_a_precision_that_nobody_asked_for_is_said(run, monkeypatch, translator):
    monkeypatch.setattr(translator.system, "precision", "int8")
    words = ["--from", "en", "--to", "fr", "Thank you."]
    assert "precision: int8, as fp32 would" in run("translate", *words).err
    assert "precision" not in run("translate", "--precision", "int8", *words).err
    monkeypatch.setattr(translator.system, "precision", "fp32")
    assert "precision" not in run("translate", *words).err


def test_english_without_target_asks_for_one(run):
    result = run("translate", "This is an English sentence.")
    assert result.code == 2
    assert "--to de, es, fr, it, nl, pt" in result.err
    assert run("translate", "-f", "en", "Hola.").code == 2


def test_the_language_that_the_locale_names_is_found_behind_lines_without_letters(run, translator):
    result = run("translate", stdin=b"42\n\nIch bin heute sehr m\xc3\xbcde.\n")
    assert result.code == 0
    assert result.lines == ["42", "", translator.translate("Ich bin heute sehr müde.", "de", "en")]


def test_standard_input_gives_a_line_for_each_line_with_its_end(run, translator):
    result = run("translate", "-f", "en", "-t", "de", stdin=b"Good night.\n\nI am tired.\r\nYes.")
    one, two, three = translator.translate(["Good night.", "I am tired.", "Yes."], "en", "de")
    assert result.out == f"{one}\n\n{two}\r\n{three}"


@pytest.mark.parametrize("encoding", ["utf-16", "utf-8-sig", "utf-32"])
def test_input_with_a_byte_order_mark_is_read(run, translator, encoding):
    result = run("translate", "-f", "fr", "-t", "en", stdin="Où est la gare ?\nMerci.\n".encode(encoding))
    assert result.lines == translator.translate(["Où est la gare ?", "Merci."], "fr", "en")
    assert result.err == ""


def test_input_that_is_no_text_is_named(run):
    result = run("translate", "-f", "fr", "-t", "en", stdin=b"PK\x03\x04\x14\x00")
    assert result.code == 2
    assert (
        result.err
        == "error: standard input is no text but a zip archive, or a document such as .docx, "
        + (".odt or .epub; save it as plain text\n")
    )


def test_line_that_is_no_utf8_is_reported_and_kept_empty(run, translator):
    result = run("translate", "-f", "fr", "-t", "en", stdin=b"Bonne nuit.\ncaf\xe9\r\nMerci.\n")
    assert result.code == 1
    good = translator.translate(["Bonne nuit.", "Merci."], "fr", "en")
    assert result.out == f"{good[0]}\n\r\n{good[1]}\n"
    assert "line 2: not UTF-8 (byte 0xe9 at column 4)" in result.err
    assert "1 of 3 lines could not be translated" in result.err


def test_a_thousand_bad_lines_give_a_few_messages(run):
    stdin = b"".join(b"caf\xe9 %d\n" % i for i in range(1000)) + b"a\0b\n" + b"Merci.\n"
    result = run("translate", "-f", "fr", "-t", "en", stdin=stdin)
    assert result.code == 1
    assert len(result.lines) == 1002
    assert result.err.count("\n") < 10
    assert "line 1: not UTF-8" in result.err
    assert "more lines with: not UTF-8 (lines 2-1000)" in result.err
    assert "line 1001: holds NUL" in result.err
    assert "1001 of 1002 lines" in result.err


def test_json_tells_good_lines_from_bad_by_number(run):
    result = run("translate", "-t", "fr", "--json", stdin=b"\xff\r\nGood night, my friend.")
    bad, good = (json.loads(line) for line in result.out.removesuffix("\n").split("\n"))
    assert (bad["line"], bad["source_text"]) == (1, None)
    assert "not UTF-8" in bad["error"]
    assert (good["line"], good["source_text"]) == (2, "Good night, my friend.")
    assert good["text"]


def test_argument_that_is_no_utf8_is_an_error_of_its_own(run, translator):
    result = run("translate", "-f", "en", "-t", "fr", "--json", "caf\udce9", "Good night.")
    assert result.code == 1
    bad, good = (json.loads(line) for line in result.lines)
    assert "error" in bad
    assert good["text"] == translator.translate("Good night.", "en", "fr")


def test_warnings_are_said_with_the_line_and_are_in_the_json(run):
    options = ["-f", "en", "-t", "fr", "--max-new-tokens", "3"]
    stdin = b"Good night.\n" + b"Where is the station, please?\n" * 9
    result = run("translate", *options, stdin=stdin)
    assert result.code == 0
    assert "line 1: sentence 1 reached the limit of 3 tokens" in result.err
    assert result.err.count("reached the limit") <= 4
    assert "9 more lines with: sentence 1 reached the limit" in result.err
    (record,) = (json.loads(line) for line in run("translate", *options, "--json", "Good night.").lines)
    (warning,) = record["warnings"]
    assert (warning["kind"], warning["sentence"]) == ("limit", 1)
    assert "reached the limit" in warning["message"]


def test_a_module_that_the_model_lacks_is_one_error(run, translator, monkeypatch):
    def room(*languages: object) -> int:
        raise LanguageModuleError("the model has no module of group 1")

    monkeypatch.setattr(translator.system, "room", room)
    result = run("translate", "-f", "en", "-t", "fr", stdin=b"Good night.\n" * 50)
    assert result.code == 2
    assert result.err.count("\n") == 1
    assert result.err == "error: the model has no module of group 1\n"


def test_options_reach_the_model(dragoman, monkeypatch, translator, tmp_path):
    words = tmp_path / "words.txt"
    words.write_text("Où est la gare ?\nMerci.\n", encoding="utf-8")
    given = []
    load = classmethod(lambda cls, *args, **options: given.append((args, options)) or translator)
    monkeypatch.setattr(Translator, "load", load)
    languages = ["--from", "en", "--to", "fr", "Thank you."]
    extra = ["--precision", "int8", "--vocabulary", "3000", "--vocabulary-text", str(words)]
    assert dragoman("translate", *languages, *extra).code == 0
    assert dragoman("translate", *languages).code == 0
    monkeypatch.setenv("DRAGOMAN_MODEL", "some-model")
    assert dragoman("translate", *languages).code == 0
    vocabulary_text = {"fr": ["Où est la gare ?", "Merci."]}
    assert given == [
        ((), {"precision": "int8", "vocabulary": 3000, "vocabulary_text": vocabulary_text}),
        ((), {}),
        ((), {"model": "some-model"}),
    ]


def test_only_what_was_chosen_is_passed_on_to_the_translation(run, monkeypatch, translator):
    given = []
    real = translator.stream
    monkeypatch.setattr(
        translator, "stream", lambda texts, **options: given.append(options) or real(texts, **options)
    )
    assert run("translate", "-f", "en", "-t", "fr", "Thank you.").code == 0
    assert (
        run(
            "translate", "-f", "en", "-t", "fr", "--sample", "--top-k", "5", "--timeout", "600", "Thank you."
        ).code
        == 0
    )
    always = {"source": "en", "target": "fr", "recall": None}
    assert given == [always, {**always, "sample": True, "beams": 1, "top_k": 5, "timeout": 600.0}]
