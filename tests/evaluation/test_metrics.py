"""Scores are sacrebleu's, with their signatures."""

import sys

import pytest

from dragoman.errors import InvalidOption
from dragoman.evaluation.metrics import (
    available,
    bleu_tokenizer,
    length_ratio,
    need_sacrebleu,
    score,
    scores,
    sentence_scores,
)

pytest.importorskip("sacrebleu")


@pytest.mark.parametrize(
    ("hypothesis", "reference", "chrf", "bleu"),
    [
        ("The cat sat on the mat today.", "The cat sat on the mat today.", 100.0, 100.0),
        ("xyz", "The cat sat on the mat.", 0.0, 0.0),
    ],
)
def test_scores_of_equal_and_unlike_texts(hypothesis, reference, chrf, bleu):
    found = score([hypothesis], [reference], "eng_Latn")
    assert [round(s.value, 6) for s in found] == [chrf, bleu]


def test_signatures_tell_how():
    chrf, bleu = score(["a b"], ["a b"], "fra_Latn")
    assert "nw:2" in chrf.signature
    assert "tok:13a" in bleu.signature


def test_the_length_ratio_counts_words_of_all_sentences():
    assert length_ratio(["a b c d", "e"], ["a b", "e f"], "eng_Latn") == 5 / 4
    assert length_ratio(["三只猫"], ["猫"], "zho_Hans") == 3
    with pytest.raises(ValueError, match="1 hypotheses came for 2 references"):
        length_ratio(["a"], ["a", "b"], "eng_Latn")


def test_without_sacrebleu_there_is_a_word_on_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "sacrebleu", None)
    with pytest.raises(InvalidOption, match=r"pip install 'dragoman\[training\]'"):
        need_sacrebleu()


@pytest.mark.parametrize(
    ("code", "tokenizer"),
    [
        ("fra_Latn", "13a"),
        ("zho_Hans", "zh"),
        ("jpn_Jpan", "char"),
        ("kor_Hang", "char"),
        ("tha_Thai", "char"),
    ],
)
def test_bleu_tokenizer_fits_the_script(code, tokenizer):
    assert bleu_tokenizer(code) == tokenizer


@pytest.mark.parametrize(("hypotheses", "references"), [([], []), (["a"], ["a", "b"])])
def test_unequal_or_empty_lists_are_errors(hypotheses, references):
    with pytest.raises(ValueError, match="hypotheses came for"):
        score(hypotheses, references, "eng_Latn")


def test_spbleu_is_there_once_its_tokenizer_is_and_nothing_is_downloaded(tmp_path, monkeypatch):
    monkeypatch.setattr("sacrebleu.utils.SACREBLEU_DIR", str(tmp_path))
    assert available() == ("chrF++", "BLEU")
    assert [found.metric for found in scores(["a"], ["a"], "fra_Latn")] == ["chrF++", "BLEU"]
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / "flores200sacrebleuspm").write_bytes(b"")
    assert available() == ("chrF++", "BLEU", "spBLEU")


def test_sentences_are_scored_one_by_one():
    assert sentence_scores(["a cat", "x"], ["a cat", "dog"]) == pytest.approx([100.0, 0.0])
