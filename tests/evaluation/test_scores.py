"""Scores equal those of sacrebleu's command line; faults are counted; figures become tables and a page."""

import json
import os
import random
import subprocess
import sys
from pathlib import Path

import pytest

from dragoman.evaluation.comparing import compare
from dragoman.evaluation.faults import faults, names_in, numbers_in
from dragoman.evaluation.metrics import scores
from dragoman.evaluation.score_page import page
from dragoman.evaluation.scoreboard import HEADS, figures, mean, result, rows
from dragoman.evaluation.testsets import TestSet

pytest.importorskip("sacrebleu")
EN, DE = "eng_Latn", "deu_Latn"


def garbled(texts: list[str], seed: int) -> list[str]:
    """Translations that are partly right."""
    rng = random.Random(seed)
    found = []
    for text in texts:
        words = text.split()
        words = [w for w in words if rng.random() > 0.1 * seed] or words[:1]
        rng.shuffle(words[: seed % 3 + 1])
        found.append(" ".join(words) if rng.random() > 0.1 else text)
    return found


def command_line(*args: object, folder: Path) -> str:
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-m", "sacrebleu", "-q", *map(str, args)],
        capture_output=True, text=True, check=True, cwd=folder, env=os.environ | {"NO_COLOR": "1"},
    )  # fmt: skip
    return done.stdout


@pytest.fixture
def references(tatoeba: dict[str, list[tuple[str, str]]], tmp_path: Path) -> list[str]:
    """English sentences, also in ref.txt beside ten systems' system0.txt and so on."""
    texts = [english for language in sorted(tatoeba) for _, english in tatoeba[language]][:100]
    for name, lines in [("ref", texts), *((f"system{seed}", garbled(texts, seed)) for seed in range(10))]:
        (tmp_path / f"{name}.txt").write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    return texts


METRICS = ("-m", "chrf", "bleu", "--chrf-word-order", "2")


def test_scores_are_those_of_the_command_line_on_ten_files(references: list[str], tmp_path: Path) -> None:
    files = [f"system{seed}.txt" for seed in range(10)]
    theirs = json.loads(
        command_line("ref.txt", "-i", *files, *METRICS, "-w", 6, "-f", "json", folder=tmp_path)
    )
    assert [row["system"] for row in theirs] == files
    for seed, row in enumerate(theirs):
        chrf, bleu = scores(garbled(references, seed), references, EN, ("chrF++", "BLEU"))
        assert (f"{chrf.value:.6f}", f"{bleu.value:.6f}") == (row["chrF2++"], row["BLEU"])
    assert len({row["BLEU"] for row in theirs}) == 10


def test_signatures_are_those_of_the_command_line(references: list[str], tmp_path: Path) -> None:
    theirs = json.loads(command_line("ref.txt", "-i", "system3.txt", *METRICS, "-f", "json", folder=tmp_path))
    ours = scores(garbled(references, 3), references, EN, ("chrF++", "BLEU"))
    assert {score.signature for score in ours} == {row["signature"] for row in theirs}


def test_systems_are_compared_as_the_command_line_does(references: list[str], tmp_path: Path) -> None:
    text = command_line(
        "ref.txt", "-i", "system2.txt", "system3.txt", *METRICS, "-w", 4, "--paired-bs", "--paired-bs-n", 200,
        "-f", "text", folder=tmp_path,
    )  # fmt: skip
    systems = {f"system{seed}": garbled(references, seed) for seed in (2, 3)}
    for row in compare(systems, references, EN, samples=200):
        shown = f"{row.value:.4f} ({row.mean:.4f} ± {row.interval:.4f})"
        assert shown in text
        if row.p_value is not None:
            assert f"(p = {row.p_value:.4f})" in text
        assert row.signature in text
    assert len({row.signature for row in compare(systems, references, EN, samples=200)}) == 2


# ---- faults ------------------------------------------------------------------------------------------------


def test_numbers_and_names_are_lost_that_source_and_reference_share() -> None:
    sources = ["In 1987 kamen 1.250 Leute nach Genf.", "Frau Otto hat 3 Hunde."]
    references = ["In 1987, 1,250 people came to Geneva.", "Mrs Otto has 3 dogs."]
    good = faults(sources, references, references, (DE, EN))
    assert (good.lost_numbers, good.lost_names) == (0, 0)
    bad = faults(sources, ["In 1987, people came.", "Mrs O. has 4 dogs."], references, (DE, EN))
    assert bad.lost_numbers == pytest.approx(2 / 3)
    assert bad.lost_names == 1


def test_what_counts_as_a_number_and_a_name() -> None:
    assert numbers_in("1.234,5 und 2020-10") == ["12345", "2020", "10"]
    assert names_in("Das sah Otto. Dann kam O'Neil-Wu an. „Gut“, sagte Eva") == ("Otto", "O'Neil-Wu", "Eva")


def test_loops_other_languages_and_copies_are_counted() -> None:
    source = "The weather will be very nice in the whole country tomorrow."
    reference = "Das Wetter wird morgen im ganzen Land sehr schön."
    loop = "das ist gut " * 12
    found = faults([source] * 4, [reference, source, loop, ""], [reference] * 4, (EN, DE))
    assert (found.repetition, found.wrong_language, found.copied) == (0.25, 0.5, 0.25)
    assert faults([], [], [], (EN, DE)).repetition == 0


# ---- figures, table and page -------------------------------------------------------------------------------


@pytest.fixture
def testset() -> TestSet:
    sources = ("Das ist <b>gut</b>.", "Wie geht es dir heute?", "Nein.")
    return TestSet(
        "own", DE, EN, sources, ("That's good.", "How are you today?", "No."), (True, False, False)
    )


def test_a_result_has_all_figures_and_one_of_the_far_sentences(testset: TestSet) -> None:
    whole, far = result("mine", testset, ["That's bad.", "How are you today?", "No."], 2.0)
    assert (whole.testset, far.testset, whole.sentences, far.sentences) == ("own", "own far", 3, 2)
    assert far.scores["chrF++"] == pytest.approx(100)
    assert whole.scores["chrF++"] < 100
    assert whole.speed is not None
    assert whole.speed.sentences_per_second == 1.5
    assert far.speed is None
    assert whole.worst[0].translation == "That's bad."
    assert set(whole.signatures) == set(whole.scores)


def test_table_and_means(testset: TestSet) -> None:
    results = result("mine", testset, list(testset.references))
    results += result("mine", TestSet("own", EN, DE, testset.references, testset.sources), ["a", "b", "c"])
    lines = rows(results)
    assert all(len(line) == len(HEADS) for line in lines)
    (average,) = [line for line in lines if line[2] == "mean"]
    assert average[:2] == ("mine", "own")
    expected = mean([r for r in results if r.testset == "own"], "chrF++")
    assert expected is not None
    assert average[4] == f"{expected:.1f}"
    assert mean(results, "spBLEU") is None


def test_figures_are_json_and_the_page_escapes_what_it_shows(testset: TestSet) -> None:
    results = result("<mine>", testset, ["x", "y", "z"])
    systems = {"a": ["x", "y", "z"], "b": list(testset.references)}
    comparisons = {"own de-en": compare(systems, testset.references, EN, samples=20)}
    content = json.loads(json.dumps(figures(results, comparisons)))
    assert content["results"][0]["scores"]["chrF++"] == round(results[0].scores["chrF++"], 4)
    assert content["comparisons"]["own de-en"][0]["p_value"] is None
    text = page(results, comparisons)
    assert "&lt;mine&gt;" in text
    assert "<mine>" not in text
    assert "Das ist &lt;b&gt;gut&lt;/b&gt;." in text
    assert text.count("<th>German</th>") >= 2
    assert "baseline" in text
