"""`dragoman pack`, in this process."""

import json
import re
from pathlib import Path

import pytest

from dragoman.kernels.library import kernels

pytestmark = pytest.mark.skipif(kernels() is None, reason="there are no native kernels here")
PAIRS = Path(__file__).parents[1] / "data" / "tatoeba" / "fr-en.tsv"
OPTIONS = ("--languages", "en,fr", "--precision", "int8", "--keep-experts")


@pytest.fixture(scope="module")
def pairs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    lines = PAIRS.read_text(encoding="utf-8").splitlines(keepends=True)[:12]
    path = tmp_path_factory.mktemp("pairs") / "pairs.tsv"
    path.write_text("".join(lines), encoding="utf-8")
    return path


def test_packs_checks_and_states_the_cost(dragoman, pairs: Path, tmp_path: Path) -> None:
    out, text = tmp_path / "pack", f"fr:en={pairs}"
    done = dragoman("pack", "mini", *OPTIONS, 0.3, "--out", out, "--text", text, "--check", text)
    assert done.code == 0, done.err
    counts = r"experts in a layer: [2-7] of 8 in the encoder, [2-7] of 8 in the decoder"
    assert re.search(f"wrote {re.escape(str(out))}: {counts}", done.err)
    heads, *rows = [line.split("\t") for line in done.lines]
    assert heads[3:5] == ["chrF++ before", "after"]
    assert [row[:3] for row in rows] == [["fra_Latn", "eng_Latn", "12"], ["eng_Latn", "fra_Latn", "12"]]
    costs = json.loads((out / "dragoman.json").read_text())["pack"]["costs"]
    assert [[f"{cost[when]['chrf']:.1f}" for when in ("before", "after")] for cost in costs] == [
        row[3:5] for row in rows
    ]
    too_much = any(
        cost["before"]["chrf"] - cost["after"]["chrf"] > 1
        or abs(cost["after"]["length_ratio"] / cost["before"]["length_ratio"] - 1) > 0.05
        for cost in costs
    )
    assert ("warning: " in done.err) is too_much
    assert ("Keep more experts and tokens, or take the whole model" in done.err) is too_much
    found = dragoman("translate", "-m", out, "-f", "en", "-t", "de", "Good night.")
    assert found.code == 2
    assert "'de' is German, which this model doesn't speak. It speaks 'en' (English), 'fr'" in found.err


def test_all_experts_cost_nothing(dragoman, pairs: Path, tmp_path: Path) -> None:
    report, out, text = tmp_path / "statistics", tmp_path / "pack", f"fr:en={pairs}"
    report.mkdir()
    found = dragoman("experts", "report", "mini", "--text", text, "--json")
    (report / "expert-statistics.json").write_text(found.out, encoding="utf-8")
    done = dragoman(
        *("pack", "mini", *OPTIONS, 1, "--out", out, "--check", text),
        *("--statistics", report / "expert-statistics.json"),
    )
    assert done.code == 0, done.err
    assert "warning" not in done.err
    for line in done.lines[1:]:
        *_, before, after, ratio, ratio_after = line.split("\t")
        assert (before, ratio) == (after, ratio_after)


def test_a_dense_model_loses_what_its_languages_do_not_write(
    dragoman, m2m100: Path, pairs: Path, tmp_path: Path
) -> None:
    out, options = tmp_path / "pack", ("--languages", "en,fr", "--precision", "fp32")
    done = dragoman("pack", m2m100, *options, "--vocabulary", 200, "--out", out, "--text", f"fr:en={pairs}")
    assert done.code == 0, done.err
    card = json.loads((out / "dragoman.json").read_text())
    kept = card["pack"]["vocabulary"]["kept"]
    assert f"{kept} of 1,483 tokens; English, French" in done.err
    assert 200 < kept < 1300
    assert json.loads((out / "config.json").read_text())["vocab_size"] == kept + 4 + 100 + 8
    found = dragoman("translate", "-m", out, "-f", "en", "-t", "fr", "--max-new-tokens", 5, "Good night.")
    assert found.code == 0, found.err
    again = dragoman("pack", m2m100, *options, "--vocabulary", "all", "--out", tmp_path / "other")
    assert (again.code, "would stay as it is: it has no experts" in again.err) == (2, True)
    share = dragoman("pack", m2m100, *options, "--keep-experts", 1, "--out", tmp_path / "other")
    assert (share.code, "which this model isn't; of it the tokens" in share.err) == (2, True)


def test_the_whole_model_may_be_a_converted_one(dragoman, pairs: Path, tmp_path: Path) -> None:
    whole, out = tmp_path / "whole", tmp_path / "pack"
    assert dragoman("convert", "mini", whole, "--precision", "int4").code == 0
    done = dragoman(
        *("pack", "mini", *OPTIONS, 0.5, "--out", out, "--against", whole, "--text", f"fr:en={pairs}")
    )
    assert done.code == 0, done.err
    assert (out / "config.json").is_file()


def test_the_language_between_two_others_stays(dragoman, combined: Path, tmp_path: Path) -> None:
    done = dragoman(
        *("pack", combined, "--languages", "zh,de", "--precision", "int8", "--out", tmp_path / "pack")
    )
    assert done.code == 0, done.err
    assert "English stays too: the model translates by way of it" in done.err
    listed = dragoman("languages", "--model", tmp_path / "pack")
    assert len(listed.lines) == 4


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((*OPTIONS, 0.3), "which experts matter isn't known: give --text"),
        ((*OPTIONS, 1.5, "--text", "PAIRS"), "1.5 of the experts can't stay; say a share above 0, up to 1"),
        ((*OPTIONS[:-1], "--text", "PAIRS"), "such as --keep-experts 0.3"),
        ((*OPTIONS, 0.3, "--text", "PAIRS", "--statistics", "x"), "give --statistics or --text, not both"),
        ((*OPTIONS, 0.3, "--statistics", "nothing-there"), "dragoman experts report makes such a file"),
        ((*OPTIONS, 0.3, "--text", "PAIRS", "--check", "FILE"), "say which languages its columns are in"),
        ((*OPTIONS, 0.3, "--text", "PAIRS", "--check", "fr:de=FILE"), "'de' is German, which this model"),
        (("--languages", "en,zh", *OPTIONS[2:], 0.3, "--text", "PAIRS"), "which this model doesn't speak"),
        (
            (*OPTIONS, 1, "--text", "PAIRS", "--vocabulary", "0"),
            "--vocabulary is '0'; say a number of tokens",
        ),
        (("--languages", "en,fr", "--precision", "int2"), "must be one of fp32, fp16, int8, int4"),
    ],
)
def test_mistakes_end_with_two(
    arguments: tuple[object, ...], message: str, dragoman, pairs: Path, tmp_path: Path
) -> None:
    names = {"PAIRS": f"fr:en={pairs}", "FILE": str(pairs), "fr:de=FILE": f"fr:de={pairs}"}
    given = [names.get(str(each), each) for each in arguments]
    found = dragoman("pack", "mini", *given, "--out", tmp_path / "out")
    assert found.code == 2
    assert message in found.err
    assert not (tmp_path / "out").exists()


def test_of_x_alma_no_experts_can_be_kept(dragoman, combined: Path, tmp_path: Path) -> None:
    found = dragoman(*("pack", combined, *OPTIONS, 0.3, "--out", tmp_path / "out"))
    assert found.code == 2
    assert "are for a mixture of experts; of X-ALMA the modules of the languages' groups stay" in found.err
