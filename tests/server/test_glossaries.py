"""Glossaries: kept, used and forgotten, by DeepL's client and over our own API."""

import deepl
import pytest

from dragoman.checkpoints.catalog import find_card
from dragoman.server.keys import KeyFile
from tests.server.test_documents import wait

TERMS = {"station": "Dragonia", "ticket": "Billettus"}
TEXT = "Where is the station?"


@pytest.fixture
def client(server) -> deepl.DeepLClient:
    return deepl.DeepLClient("any", server_url=server.url)


@pytest.fixture
def kept(client):
    glossary = client.create_glossary("terms", "EN", "FR", TERMS)
    yield glossary
    client.delete_glossary(glossary)


def test_the_official_client_keeps_lists_and_forgets_glossaries(client):
    glossary = client.create_glossary("terms", "EN", "DE", TERMS)
    assert (glossary.name, glossary.source_lang, glossary.target_lang) == ("terms", "EN", "DE")
    assert (glossary.entry_count, glossary.ready) == (2, True)
    assert client.get_glossary(glossary.glossary_id).creation_time == glossary.creation_time
    assert client.get_glossary_entries(glossary) == TERMS
    assert glossary.glossary_id in [each.glossary_id for each in client.list_glossaries()]
    client.delete_glossary(glossary)
    with pytest.raises(deepl.GlossaryNotFoundException):
        client.get_glossary(glossary.glossary_id)
    with pytest.raises(deepl.GlossaryNotFoundException):
        client.delete_glossary(glossary)


def test_the_official_client_translates_with_a_glossary(client, kept):
    plain = client.translate_text(TEXT, source_lang="EN", target_lang="FR").text
    made = client.translate_text(TEXT, source_lang="EN", target_lang="FR", glossary=kept).text
    assert "Dragonia" in made
    assert "Dragonia" not in plain
    made = client.translate_text(TEXT, source_lang="EN", target_lang="FR", glossary_ids=[kept]).text
    assert "Dragonia" in made


def test_of_several_glossaries_the_first_goes_before_the_others(client, kept):
    other = client.create_glossary("others", "EN", "FR", {"station": "Drakonia"})
    for glossaries, wanted in (([kept, other], "Dragonia"), ([other, kept], "Drakonia")):
        made = client.translate_text(TEXT, source_lang="EN", target_lang="FR", glossary_ids=glossaries)
        assert wanted in made.text
    client.delete_glossary(other)


def test_a_glossary_comes_from_a_csv(client):
    glossary = client.create_glossary_from_csv("csv", "EN", "FR", 'station,Dragonia,en,fr\n"a b","c ""d"""\n')
    assert client.get_glossary_entries(glossary) == {"station": "Dragonia", "a b": 'c "d"'}
    client.delete_glossary(glossary)


def test_all_pairs_may_have_glossaries(client):
    pairs = {(pair.source_lang, pair.target_lang) for pair in client.get_glossary_languages()}
    assert ("en", "de") in pairs
    languages = len(find_card("mini").languages)
    assert len(pairs) == languages * (languages - 1)


@pytest.mark.parametrize(
    "body",
    [
        {"name": ""},
        {"entries": ""},
        {"entries": "a\tb\tc"},
        {"entries": "only one"},
        {"entries": "a\tb\na\tc"},
        {"entries": "a\t" + "b" * 300},
        {"entries_format": "xml"},
        {"source_lang": "zz"},
        {"target_lang": "en"},
        {"entries": '"a', "entries_format": "csv"},
    ],
)
def test_glossaries_that_are_none_are_refused(server, body):
    usual = {
        "name": "n",
        "source_lang": "en",
        "target_lang": "fr",
        "entries": "a\tb",
        "entries_format": "tsv",
    }
    response = server.post("/v2/glossaries", {**usual, **body})
    assert response.status_code == 400
    assert response.json()["message"]


def test_a_glossary_needs_its_languages(client, kept):
    for options in (
        {"target_lang": "FR", "extra_body_parameters": {"glossary_id": kept.glossary_id}},
        {"source_lang": "EN", "target_lang": "DE", "glossary": kept.glossary_id},
        {"source_lang": "EN", "target_lang": "FR", "glossary": "unknown"},
    ):
        with pytest.raises(deepl.DeepLException):
            client.translate_text(TEXT, **options)


def test_our_own_api_keeps_them_too_and_they_are_the_same(server, client):
    body = {"name": "own", "source": "English", "target": "fra_Latn", "entries": TERMS}
    response = server.post("/v1/glossaries", body)
    assert response.status_code == 201
    id = response.json()["id"]
    assert response.headers["Location"] == f"/v1/glossaries/{id}"
    assert server.get(f"/v1/glossaries/{id}").json()["entries"] == TERMS
    assert id in [each["id"] for each in server.get("/v1/glossaries").json()["glossaries"]]
    assert client.get_glossary(id).name == "own"
    change = server.put(f"/v1/glossaries/{id}", {"name": "other", "entries": {**TERMS, "train": "Zugus"}})
    assert (change.json()["name"], change.json()["entry_count"], change.json()["id"]) == ("other", 3, id)
    assert client.get_glossary(id).name == "other"
    for wrong in ({"name": "", "entries": TERMS}, {"name": "n", "entries": {}}, {"name": "n"}):
        assert server.put(f"/v1/glossaries/{id}", wrong).status_code == 400
    request = {"text": TEXT, "source": "en", "target": "fr", "glossary": id}
    assert "Dragonia" in server.post("/v1/translate", request).json()["translations"][0]["text"]
    request = {**request, "format": "html", "text": f"<p>{TEXT}</p>"}
    assert "Dragonia" in server.post("/v1/translate", request).json()["translations"][0]["text"]
    form = {"source": "en", "target": "fr", "glossary": id}
    document = server.post("/v1/documents", data=form, files={"file": ("a.txt", TEXT)}).json()["id"]
    assert wait(server, document)["status"] == "done"
    assert "Dragonia" in server.get(f"/v1/documents/{document}/result").text
    assert server.delete(f"/v1/glossaries/{id}").status_code == 204
    assert server.get(f"/v1/glossaries/{id}").status_code == 404
    assert server.post("/v1/translate", request).status_code == 404


def test_a_request_may_bring_its_terms_itself(server):
    request = {"text": TEXT, "source": "en", "target": "fr", "glossary": TERMS}
    assert "Dragonia" in server.post("/v1/translate", request).json()["translations"][0]["text"]
    for wrong in ({}, {"": "a"}, {"a": ""}, {"a": "b" * 300}):
        assert server.post("/v1/translate", {**request, "glossary": wrong}).status_code == 400


def test_glossaries_are_their_owners_alone_and_outlive_the_server(serve, tmp_path):
    keys = KeyFile(tmp_path / "keys.json")
    anna, otto = ({"Authorization": f"Bearer {keys.add(name)}"} for name in ("anna", "otto"))
    first = serve(keys=keys.path, data=tmp_path / "state")
    body = {"name": "own", "source": "en", "target": "fr", "entries": TERMS}
    id = first.post("/v1/glossaries", body, headers=anna).json()["id"]
    first.stop()
    second = serve(keys=keys.path, data=tmp_path / "state")
    assert second.get(f"/v1/glossaries/{id}", headers=anna).json()["entries"] == TERMS
    assert second.get(f"/v1/glossaries/{id}", headers=otto).status_code == 404
    assert second.delete(f"/v1/glossaries/{id}", headers=otto).status_code == 404
    change = {"name": "mine", "entries": {"a": "b"}}
    assert second.put(f"/v1/glossaries/{id}", change, headers=otto).status_code == 404
    assert second.get("/v1/glossaries", headers=otto).json() == {"glossaries": []}
