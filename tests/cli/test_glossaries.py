"""`dragoman translate` with glossaries, second attempts, another model, and a report of documents."""

import json

import pytest

TEXT = "# Where is the **station**?\n\nThe train has 4711 seats & `{name}` `<tags>`.\n"


@pytest.fixture
def terms(tmp_path):
    path = tmp_path / "terms.tsv"
    path.write_text("station\tHaltestelle\n", encoding="utf-8")
    return path


def test_terms_of_several_files_are_in_lines_and_counted(run, terms, tmp_path):
    words = tmp_path / "names.txt"
    words.write_text("Boston\n", encoding="utf-8")
    more = ("--glossary", terms, "--glossary", words)
    result = run("translate", "-f", "en", "-t", "de", *more, "Where is the station?", "I live in Boston.")
    assert result.code == 0
    assert "Haltestelle" in result.lines[0]
    assert "Boston" in result.lines[1]
    assert result.err == "glossary: 2 of 2 terms are as it has them\n"


def test_json_tells_of_each_term(run, terms):
    result = run("translate", "-f", "en", "-t", "de", "--glossary", terms, "--json", "Where is the station?")
    assert json.loads(result.out)["terms"] == [{"source": "station", "target": "Haltestelle", "kept": True}]


def test_documents_have_their_terms_and_a_report(run, terms, tmp_path):
    file, page = tmp_path / "a.md", tmp_path / "report.html"
    file.write_text(TEXT, encoding="utf-8")
    result = run("translate", "-f", "en", "-t", "de", "--glossary", terms, "--report", page, file)
    assert "glossary: 1 of 1 terms are as it has them" in result.err
    assert "Haltestelle" in (tmp_path / "a.de.md").read_text(encoding="utf-8")
    told = page.read_text(encoding="utf-8")
    assert "1 of 1 terms as the glossary has them" in told
    assert "Where is the station?" in told
    assert "&lt;tags&gt;" in told
    assert "<tags>" not in told
    run("translate", "-f", "en", "-t", "de", "--overwrite", "--report", tmp_path / "report.json", file)
    (record,) = json.loads((tmp_path / "report.json").read_text(encoding="utf-8"))
    assert record["all"][0]["source_text"] == "Where is the station?"


def test_another_model_is_loaded_as_the_first_is(dragoman, translator, monkeypatch):
    from dragoman.translation.translator import Translator

    loaded = []
    monkeypatch.setattr(
        Translator, "load", classmethod(lambda cls, **options: loaded.append(options) or translator)
    )
    result = dragoman(
        "translate", "-f", "en", "-t", "de", "--precision", "int8", "--retry", "--fallback", "other", "Hello."
    )
    assert result.code == 0
    first, second = loaded
    assert first.pop("model") == "other"
    assert not first.pop("parallel")
    assert first == second == {"precision": "int8"}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--glossary", "gone.tsv", "Hi."], "--glossary gone.tsv can't be read: No such file"),
        (["--glossary", "a.xlsx", "Hi."], "no glossary by its name"),
        (["--report", "x.html", "Hi."], "--report is for documents"),
        (["--report", "x.pdf", "a.md"], "it may be an .html or a .json file"),
    ],
)
def test_mistakes_are_said_before_a_model_is_loaded(run, tmp_path, monkeypatch, arguments, message):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a.md").write_text("Hi.\n", encoding="utf-8")
    (tmp_path / "a.xlsx").write_bytes(b"x")
    result = run("translate", "-f", "en", "-t", "de", *arguments)
    assert result.code == 2
    assert message in result.err


# ---- translation memories ----------------------------------------------------------------------------------

TMX = (
    '<tmx version="1.4"><header/><body><tu><tuv xml:lang="en"><seg>Good night.</seg></tuv>'
    '<tuv xml:lang="de"><seg>Schlaf gut.</seg></tuv></tu></body></tmx>'
)


@pytest.fixture
def tmx(tmp_path):
    path = tmp_path / "old.tmx"
    path.write_text(TMX, encoding="utf-8")
    return path


def test_a_memory_of_tmx_is_used_as_it_is(run, tmx):
    result = run("translate", "-f", "en", "-t", "de", "--tm", tmx, "Good night.", "Thank you.")
    assert result.lines[0] == "Schlaf gut."
    assert tmx.read_text(encoding="utf-8") == TMX


def test_a_memory_is_made_filled_searched_and_written(run, tmx, tmp_path):
    memory = tmp_path / "memory.sqlite"
    result = run("memory", "import", memory, tmx)
    assert result.err == f"{tmx}: 2 units\n{memory} holds 2 units now\n"
    assert run("memory", "search", memory, "Good night!", "-f", "en", "-t", "de").out == (
        "91%\tGood night.\tSchlaf gut.\n"
    )
    record = json.loads(run("translate", "-f", "en", "-t", "de", "--tm", memory, "--json", "Good night.").out)
    assert record["sentences"][0]["candidates"][0]["origin"] == "memory"
    assert run("memory", "export", memory, tmp_path / "new.tmx").err == f"{tmp_path / 'new.tmx'}: 2 units\n"
    assert "Schlaf gut." in (tmp_path / "new.tmx").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["translate", "-t", "de", "--tm", "x.txt", "Hi."], "no translation memory by its name"),
        (["translate", "-t", "de", "--tm", "gone.tmx", "Hi."], "gone.tmx can't be read: No such file"),
        (["memory", "import", "a.tmx", "b.tmx"], "a.tmx is only read"),
        (["memory", "import", "a.sqlite", "gone.tmx"], "gone.tmx can't be read"),
    ],
)
def test_mistakes_with_memories_are_said(run, tmp_path, monkeypatch, arguments, message):
    monkeypatch.chdir(tmp_path)
    result = run(*arguments)
    assert result.code == 2
    assert message in result.err
