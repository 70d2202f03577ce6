"""What is done stays done, what has changed is noticed, and what was asked for is checked first."""

import json

import fsspec
import pytest

from dragoman.translation.translator import Translator
from tests.bulk.conftest import SENTENCES, outputs, rows
from tests.cli.halting import killed_after


@pytest.fixture
def texts(tmp_path):
    path = tmp_path / "in.txt"
    path.write_text("".join(f"{text}\n" for text in SENTENCES), encoding="utf-8")
    return path


@pytest.fixture
def asked(monkeypatch, translator):
    """The texts that the model is asked for."""
    seen: list[str] = []
    encode = type(translator.system).encode

    def noting(self, requests):
        seen.extend(request.text for request in requests)
        return encode(self, requests)

    monkeypatch.setattr(type(translator.system), "encode", noting)
    return seen


def test_only_missing_blocks_are_done_and_give_the_same_bytes(run, asked, texts, tmp_path):
    out = tmp_path / "out"
    command = ("bulk", texts, "--to", "en", "--output", out, "--block", 2, "--beams", 1)
    assert run(*command).code == 0
    whole = outputs(out)
    assert len(whole) == 4
    (out / "00000-000001.jsonl").unlink()
    (out / "00000-000003.jsonl").rename(out / "00000-000003.jsonl.0123abcd.part")
    asked.clear()
    result = run(*command)
    assert "2 of 4 blocks are done already" in result.err
    assert "3 rows" in result.err
    assert set(asked) <= {*SENTENCES[2:4], *SENTENCES[6:]}
    assert outputs(out) == whole
    asked.clear()
    result = run(*command, "--json")
    assert "is finished: 7 rows in 4 blocks" in result.err
    assert json.loads(result.out)["done"] is None
    assert not asked


def test_a_process_may_be_killed_and_another_goes_on(run, process, translator, texts, tmp_path):
    texts.write_text("".join(f"{text}\n" for text in SENTENCES * 6), encoding="utf-8")
    command = ("bulk", texts, "--to", "en", "--block", 2, "--beams", 1, "--output")
    out = tmp_path / "out"
    assert process(*command, out, program=killed_after(blocks=3)).wait(300) == -9
    stranger = out / "mine.part"
    stranger.touch()
    done = {path.name: path.stat().st_mtime_ns for path in out.glob("0*.jsonl")}
    assert len(done) == 3
    assert run(*command, out).code == 0
    assert run(*command, tmp_path / "whole").code == 0
    assert stranger.exists()
    stranger.unlink()
    assert outputs(out) == outputs(tmp_path / "whole")
    assert {name: (out / name).stat().st_mtime_ns for name in done} == done


def test_rows_that_failed_before_count_still(run, tmp_path):
    path, out = tmp_path / "in.txt", tmp_path / "out"
    path.write_bytes(b"\xff\nGood morning!\n")
    for format in ("jsonl", "csv", "text"):
        command = ("bulk", path, "--to", "fr", "--from", "en", "--output", out / format, "--block", 1)
        command = (*command, "--format", format, "--json")
        assert run(*command).code == 1
        max(path for path in (out / format).glob("0*1.*")).unlink()
        for said in ("1 of all 2 rows failed", "2 blocks, 1 failed"):
            result = run(*command)
            assert result.code == 1
            assert said in result.err
            assert json.loads(result.out)["failed"] == 1


def test_a_finished_run_is_found_without_a_model(run, texts, tmp_path, monkeypatch):
    command = ("bulk", texts, "--to", "en", "--output", tmp_path / "out")
    assert run(*command).code == 0

    def refuse(cls, *args, **options):
        raise AssertionError("nobody needs a model now")

    monkeypatch.setattr(Translator, "load", classmethod(refuse))
    assert run(*command).code == 0


def test_what_has_changed_is_said_and_refused_until_it_is_forced(run, texts, tmp_path):
    out = tmp_path / "out"
    command = ("bulk", texts, "--to", "en", "--output", out, "--block", 2, "--beams", 1)
    assert run(*command).code == 0
    before = outputs(out)
    for change, said in (
        (("--no-repeat-ngram", 3), "--no-repeat-ngram: none, now 3"),
        (("--precision", "int8"), "precision: none, now int8"),
        (("--from", "de"), "source: none, now deu_Latn"),
        (("--glossary", tmp_path / "terms.tsv"), "glossary: none, now"),
    ):
        (tmp_path / "terms.tsv").write_text("station\tBahnhof\n", encoding="utf-8")
        result = run(*command, *change)
        assert result.code == 2
        assert said in result.err
    result = run(*command, "--force", "--column", "nothing")
    assert "has no column 'nothing'" in result.err
    assert outputs(out) == before
    assert (out / "manifest.json").exists()
    texts.write_text("Good morning!\n", encoding="utf-8")
    (tmp_path / "more.txt").write_text("Guten Morgen!\n", encoding="utf-8")
    result = run("bulk", texts, tmp_path / "more.txt", *command[2:])
    assert f"{texts} was changed" in result.err
    assert "more.txt is new" in result.err
    assert run(*command, "--force").code == 0
    assert [row["text"] for row in rows(out)] == ["Good morning!"]


def test_another_model_of_the_same_name_is_noticed(run, texts, tmp_path, combined):
    folder = tmp_path / "model"
    folder.mkdir()
    for path in combined.iterdir():
        (folder / path.name).write_bytes(path.read_bytes())
    command = ("bulk", texts, "--to", "de", "--output", tmp_path / "out", "--model", folder)
    run(*command)
    shards = sorted(folder.glob("*.safetensors"))
    data = bytearray(shards[0].read_bytes())
    data[-1] ^= 1
    shards[0].write_bytes(data)
    assert f"files of the model: {shards[0].name} was changed" in run(*command).err


def test_results_that_nothing_explains_are_not_taken_for_ones_own(run, texts, tmp_path):
    out = tmp_path / "out"
    out.mkdir()
    (out / "00000-000000.jsonl").write_text("{}\n", encoding="utf-8")
    command = ("bulk", texts, "--to", "en", "--output", out)
    assert "no manifest.json" in run(*command).err
    assert (out / "00000-000000.jsonl").read_text(encoding="utf-8") == "{}\n"


def test_two_processes_do_not_work_on_one_folder(run, texts, tmp_path):
    from dragoman.bulk.places import Folder

    with Folder(str(tmp_path / "out")).alone():
        result = run("bulk", texts, "--to", "en", "--output", tmp_path / "out")
    assert result.code == 2
    assert "another process works on" in result.err


def test_folders_patterns_and_urls_name_inputs_and_results_may_lie_among_them(run, tmp_path):
    for name, text in (
        ("b.txt", "Good morning!"),
        ("a.jsonl", '{"text": "Good night."}'),
        ("c.md", "no data"),
    ):
        (tmp_path / "data" / "deep").mkdir(parents=True, exist_ok=True)
        (tmp_path / "data" / "deep" / name).write_text(text + "\n", encoding="utf-8")
    (tmp_path / "data" / "_SUCCESS.txt").write_text("", encoding="utf-8")
    out = tmp_path / "data" / "out"
    for _ in range(2):
        assert run("bulk", tmp_path / "data", "--to", "fr", "--output", out).code == 0
    assert [row["text"] for row in rows(out)] == ["Good night.", "Good morning!"]
    common = ("--to", "fr", "--output", "memory://bulk-test/out")
    assert run("bulk", f"file://{tmp_path}/data/*/b.txt", *common).code == 0
    assert "finished" in run("bulk", f"file://{tmp_path}/data/*/b.txt", *common).err
    stored = fsspec.filesystem("memory").cat("/bulk-test/out/00000-000000.jsonl")
    assert stored == (out / "00001-000000.jsonl").read_bytes()
    assert "stands for no file" in run("bulk", tmp_path / "nothing*", *common).err


def test_languages_come_from_a_column_or_are_found_and_equal_texts_are_translated_once(run, asked, tmp_path):
    lines = [
        {"text": "Gift", "lang": "de"},
        {"text": "Gift", "lang": "English"},
        {"text": "Ich habe heute keine Zeit.", "lang": None},
        {"text": "Hallo", "lang": "klingonisch"},
        {"text": "Hallo", "lang": 5},
        {"text": "Gift", "lang": "de"},
        {"text": "x" * 50, "lang": "de"},
    ]
    (tmp_path / "in.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    result = run(
        *("bulk", tmp_path / "in.jsonl", "--to", "es,fr", "--from-column", "lang", "--max-characters", 40),
        *("--output", tmp_path / "out"),
    )
    assert result.code == 1
    found = rows(tmp_path / "out")
    assert [row["source_language"] for row in found[:3]] == ["deu_Latn", "eng_Latn", "deu_Latn"]
    assert [row["error"] is None for row in found] == [True, True, True, False, False, True, False]
    assert "klingonisch" in found[3]["error"]
    assert "50 characters" in found[6]["error"]
    assert found[0]["translation_fr"] == found[5]["translation_fr"]
    assert asked.count("Gift") == len({("de", "en"), ("en", "es"), ("en", "fr")})


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        (("--column", "words"), "has no column 'words'; it has text"),
        (("--to", "de,German"), "names a language twice"),
        (("--to", "de,klingon"), "klingon"),
        (("--to", ","), "what to translate to"),
        (("--from", "de", "--from-column", "text"), "not both"),
        (("--format", "text", "--to", "de,fr"), "room for one language"),
        (("--format", "word"), "it must be parquet"),
        (("--seed", 3), "--seed is for sampling"),
    ],
)
def test_what_cannot_be_is_refused_before_a_model_is_loaded(
    dragoman, texts, tmp_path, monkeypatch, changes, said
):
    monkeypatch.setattr(Translator, "load", None)
    given = {"--to": "fr", "--output": tmp_path / "out"} | dict(zip(changes[::2], changes[1::2], strict=True))
    result = dragoman("bulk", texts, *(word for pair in given.items() for word in pair))
    assert result.code == 2
    assert said in result.err


def test_a_column_that_would_be_added_must_not_be_there(run, tmp_path):
    (tmp_path / "in.csv").write_text("text,error\na,b\n", encoding="utf-8")
    (tmp_path / "in.jsonl").write_text('{"text": "error"}\n{"text": "a", "error": 1}\n', encoding="utf-8")
    for name, said in (("in.csv", "has a column 'error'"), ("in.jsonl", "row 2, has 'error'")):
        result = run("bulk", tmp_path / name, "--to", "fr", "--output", tmp_path / "out")
        assert said in result.err
