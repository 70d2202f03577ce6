"""A translation memory behind all dialects."""

import pytest

from dragoman.errors import InvalidOption
from dragoman.server.memory import SharedMemory
from dragoman.translation.memory import TranslationMemory
from dragoman.translation.tmx import Unit
from tests.server.test_documents import hand_in, wait
from tests.server.test_own import events

TEXT, KNOWN = "Where is the station?", "Où se trouve la gare, je vous prie ?"


@pytest.fixture
def served(serve, tmp_path):
    with TranslationMemory(tmp_path / "memory.sqlite") as memory:
        memory.add(
            [Unit(TEXT, KNOWN, "eng_Latn", "fra_Latn"), Unit("Page 4", "Page n° 4", "eng_Latn", "fra_Latn")]
        )
    return serve(tm=tmp_path / "memory.sqlite")


def test_what_a_memory_has_is_the_answer_and_is_said_to_be(served, translator):
    texts = [TEXT, f"{TEXT} Good morning!", "Page 17", "Good morning!"]
    made = served.post("/v1/translate", {"text": texts, "source": "en", "target": "fr"}).json()[
        "translations"
    ]
    morning = translator.translate("Good morning!", "en", "fr")
    assert [one["text"] for one in made] == [KNOWN, f"{KNOWN} {morning}", "Page n° 17", morning]
    assert [one["origin"] for one in made] == ["memory", "model", "memory", "model"]
    body = {"text": TEXT, "target": "fr", "stream": True, "beams": 1}
    name, last = events(served.post("/v1/translate", body))[-2]
    assert (name, last["text"], last["origin"]) == ("translation", KNOWN, "memory")


def test_all_dialects_files_and_markup_know_it(served):
    libre = {"q": TEXT, "source": "en", "target": "fr"}
    assert served.post("/translate", libre).json()["translatedText"] == KNOWN
    google = {"q": f"<p>{TEXT}</p>", "target": "fr", "source": "en"}
    (made,) = served.post("/language/translate/v2", google).json()["data"]["translations"]
    assert made["translatedText"] == f"<p>{KNOWN}</p>"
    deepl = {"text": [TEXT], "source_lang": "EN", "target_lang": "FR"}
    assert served.post("/v2/translate", deepl).json()["translations"][0]["text"] == KNOWN
    chat = {"model": "mini:en-fr", "messages": [{"role": "user", "content": TEXT}]}
    assert served.post("/v1/chat/completions", chat).json()["choices"][0]["message"]["content"] == KNOWN
    id = hand_in(served, "a.txt", TEXT, source="en").json()["id"]
    assert wait(served, id)["status"] == "done"
    assert served.get(f"/v1/documents/{id}/result").text == KNOWN


def test_nothing_of_what_clients_send_is_kept_in_it(served, tmp_path):
    served.post("/v1/translate", {"text": "My secret recipe.", "source": "en", "target": "fr"})
    served.stop()
    for path in tmp_path.glob("memory.sqlite*"):
        assert b"recipe" not in path.read_bytes()
    with TranslationMemory(tmp_path / "memory.sqlite") as memory:
        assert memory._connection.execute("SELECT count(*) FROM results").fetchone() == (0,)


def test_a_memory_that_fails_leaves_the_model_to_translate(served, translator):
    served.state.memory._memory.close()
    made = served.post("/translate", {"q": TEXT, "source": "en", "target": "fr"}).json()
    assert made["translatedText"] == translator.translate(TEXT, "en", "fr")


@pytest.mark.parametrize("name", ["memory.txt", "lost.sqlite", "folder.tmx"])
def test_what_is_no_memory_keeps_a_server_from_beginning(serve, tmp_path, name):
    (tmp_path / "folder.tmx").mkdir()
    (tmp_path / "memory.txt").write_text("a\tb")
    with pytest.raises(InvalidOption, match=name):
        serve(tm=tmp_path / name)
    with pytest.raises(InvalidOption, match=name):
        SharedMemory(tmp_path / name)
    assert not (tmp_path / "lost.sqlite").exists()
