"""Translation memories: what people have said goes first, and what models have said is not asked twice."""

import sqlite3

import pytest

from dragoman import Glossary, TranslationMemory
from dragoman.errors import InvalidOption
from dragoman.languages import find
from dragoman.translation.tmx import Unit, read_tmx

EN, DE, FR = find("en"), find("de"), find("fr")


def unit(source, target, source_language=EN, target_language=DE):
    return Unit(source, target, source_language.nllb, target_language.nllb)


@pytest.fixture
def memory(tmp_path):
    with TranslationMemory(tmp_path / "memory.sqlite") as memory:
        memory.add([unit("Good night.", "Schlaf gut."), unit("Page 3 of 12", "Seite 3 von 12")])
        yield memory


def test_a_text_is_found_whatever_its_white_space(memory):
    assert memory.find("Good  night.", EN, DE) == "Schlaf gut."
    assert memory.find("Good night", EN, DE) is None
    assert memory.find("Good night.", EN, FR) is None
    assert memory.find("Good night.", DE, EN) is None


def test_of_equal_texts_the_last_translation_stays(memory):
    assert memory.add([unit("Good night.", "Gute Nacht.")]) == 1
    assert memory.find("Good night.", EN, DE) == "Gute Nacht."
    assert len(memory) == 2
    assert [match.target for match in memory.similar("Good night!", EN, DE)] == ["Gute Nacht."]


def test_a_text_with_other_numbers_is_known(memory):
    assert memory.find("Page 7 of 9", EN, DE) == "Seite 7 von 9"
    assert memory.find("Page 1,234.5 of 9", EN, DE) is None  # which German writes otherwise
    assert memory.find("Page 12 of 3", EN, DE) == "Seite 12 von 3"
    assert memory.find("Page x of 9", EN, DE) is None
    memory.add([unit("2 and 2", "2 und 2"), unit("5 men", "fünf Mann")])
    assert memory.find("3 and 4", EN, DE) is None  # which is which can't be told
    assert memory.find("6 men", EN, DE) is None


def test_similar_texts_come_best_first_with_how_similar_they_are(memory):
    memory.add(
        [unit("Where is the railway station?", "Wo ist der Bahnhof?"), unit("Where is it?", "Wo ist es?")]
    )
    first, *others = memory.similar("Where is the bus station?", EN, DE, least=0.4)
    assert first.source == "Where is the railway station?"
    assert 0.7 < first.score < 1
    assert all(first.score >= other.score >= 0.4 for other in others)
    assert memory.similar("Nothing of the kind whatsoever", EN, DE) == []
    assert memory.similar('"quotes" AND (brackets) OR *', EN, DE) == []
    assert memory.similar("!?", EN, DE) == []


def test_a_translation_comes_from_the_memory_and_the_model_is_not_asked(translator, memory, monkeypatch):
    asked = []
    real = translator.system.job
    monkeypatch.setattr(
        translator.system,
        "job",
        lambda row, request, *rest: asked.append(request.text) or real(row, request, *rest),
    )
    texts = ["Good night.", "Page 4 of 9", "Good night!"]
    results = list(translator.stream(texts, "en", "de", translation_memory=memory))
    assert [one.text for one in results[:2]] == ["Schlaf gut.", "Seite 4 von 9"]
    assert [one.sentences[0].candidates[0].origin for one in results] == ["memory", "memory", "model"]
    assert asked == ["Good night!"]
    assert results[2].sentences[0].similar[0].target == "Schlaf gut."
    assert translator.translate(texts, "en", "de", translation_memory=memory) == [one.text for one in results]
    assert asked == ["Good night!"]  # which the memory was told
    translator.translate("Good night!", "en", "de", translation_memory=memory, beams=2)
    translator.translate("Good night!", "en", "de", translation_memory=memory, glossary=Glossary({"x": "y"}))
    assert asked == ["Good night!"] * 3  # other options, other results


def test_a_text_of_several_sentences_is_found_as_a_whole(translator, memory):
    memory.add([unit("Good night. Sleep well.", "Schlaft alle gut.")])
    assert (
        translator.translate("  Good night. Sleep well.\n", "en", "de", translation_memory=memory)
        == "  Schlaft alle gut.\n"
    )
    both = translator.translate("Good night. I am tired.", "en", "de", translation_memory=memory)
    assert both.startswith("Schlaf gut. ")


def test_a_memory_goes_before_the_way_over_english(translator, memory):
    memory.add([unit("Gute Nacht.", "Dors bien.", DE, FR)])
    assert translator.translate("Gute Nacht.", "de", "fr", translation_memory=memory) == "Dors bien."
    both = translator.translate("Gute Nacht. Danke.", "de", "fr", translation_memory=memory)
    assert both.startswith("Dors bien. ")
    memory.add([unit("Good night.", "Bonne nuit à tous.", EN, FR)])
    assert translator.translate("Good night.", "en", "fr", translation_memory=memory) == "Bonne nuit à tous."


def test_what_is_no_memory_is_refused(translator, tmp_path):
    with pytest.raises(InvalidOption, match="translation_memory is a dict"):
        translator.translate("Hi.", "en", "de", translation_memory={})
    (tmp_path / "x.sqlite").write_bytes(b"no database at all, but long enough to look at" * 50)
    with pytest.raises(InvalidOption, match="file is not a database"):
        TranslationMemory(tmp_path / "x.sqlite")
    with sqlite3.connect(tmp_path / "other.sqlite") as other:
        other.execute("CREATE TABLE mine (a)")
        other.execute("PRAGMA user_version = 1")
    with pytest.raises(InvalidOption, match="of another release or program"):
        TranslationMemory(tmp_path / "other.sqlite")
    assert (tmp_path / "other.sqlite").read_bytes()[18] == 1  # no write-ahead log, as it was


# ---- TMX ---------------------------------------------------------------------------------------------------

TMX = """<?xml version="1.0"?>
<!DOCTYPE tmx SYSTEM "tmx14.dtd">
<tmx version="1.4"><header srclang="en"/><body>
<tu tuid="1"><note>n</note>
<tuv xml:lang="en-US"><seg>Press <bpt i="1">&lt;b&gt;</bpt>OK<ept i="1">&lt;/b&gt;</ept>
 &amp; <hi>wait</hi>.</seg></tuv><tuv xml:lang="de"><seg>OK drücken &amp; warten.</seg></tuv>
<tuv xml:lang="xx-unknown"><seg>?</seg></tuv></tu>
<tu><tuv lang="FR"><seg>Oui</seg></tuv><tuv xml:lang="en"><seg></seg></tuv></tu>
</body></tmx>"""


def test_units_are_read_without_codes_both_ways(tmp_path):
    path = tmp_path / "a.tmx"
    path.write_text(TMX, encoding="utf-8")
    with TranslationMemory(path) as memory:
        assert len(memory) == 2
        assert memory.find("Press OK & wait.", EN, DE) == "OK drücken & warten."
        assert memory.find("OK drücken & warten.", DE, EN).split() == ["Press", "OK", "&", "wait."]


def test_of_several_variants_in_a_language_the_first_is_taken(tmp_path):
    path = tmp_path / "a.tmx"
    variants = "".join(
        f'<tuv xml:lang="{code}"><seg>{n}</seg></tuv>' for n in range(200) for code in ("en", "de")
    )
    path.write_text(f"<tmx><body><tu>{variants}</tu></body></tmx>", encoding="utf-8")
    assert len(list(read_tmx(path))) == 2


def test_a_memory_that_somebody_holds_is_an_error_of_ours(memory, monkeypatch):
    memory._connection.execute("PRAGMA busy_timeout = 1")
    with sqlite3.connect(memory.path) as other:
        other.execute("BEGIN EXCLUSIVE")
        with pytest.raises(InvalidOption, match="can't be used: database is locked"):
            memory.add([unit("a", "b")])
        memory._keep(b"key", ())  # which is no loss
        other.execute("ROLLBACK")
    assert memory.add([unit("a", "b")]) == 1


def test_what_is_exported_is_read_again(memory, tmp_path):
    memory.add([unit('a < b & "c"', "d > e\u00a0f", EN, FR)])
    path = tmp_path / "out.tmx"
    assert memory.export(path) == 3
    again = list(read_tmx(path))
    assert [one for one in again if one.source_language == EN.nllb] == list(memory.units())


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"<tmx><body>", "is no XML"),
        (b"<html/>", "it begins with <html>"),
        (b'<!DOCTYPE tmx [<!ENTITY a "b">]><tmx>&a;</tmx>', "declares entities"),
        (b"", "is no XML"),
        ('<!DOCTYPE tmx [<!ENTITY a "b">]><tmx>&a;</tmx>'.encode("utf-16"), "declares entities"),
        (b'<?xml version="1.0" encoding="foo"?><tmx/>', "is no XML"),
        (b"<tmx><body><tu><tuv xml:lang='en'><seg>" + b"<hi>" * 5000, "is no XML"),
    ],
)
def test_a_file_that_is_no_tmx_is_refused(tmp_path, content, message):
    path = tmp_path / "a.tmx"
    path.write_bytes(content)
    with pytest.raises(InvalidOption, match=message):
        TranslationMemory(path)
