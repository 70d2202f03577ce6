"""What Weblate asks of DeepL and of LibreTranslate, in its order and as its code writes it."""

from datetime import datetime

import pytest
import requests

from dragoman.server.keys import KeyFile


class Weblate:
    """Its requests to DeepL: the key in a header, JSON in bodies, an error's message out of its JSON."""

    def __init__(self, url: str, key: str) -> None:
        self.url, self.session = f"{url}/v2", requests.Session()
        self.session.headers["Authorization"] = f"DeepL-Auth-Key {key}"

    def __call__(self, method: str, *path: str, **options):
        response = self.session.request(method, "/".join((self.url, *path)), timeout=60, **options)
        response.raise_for_status()
        return response.json() if response.content else None


@pytest.fixture
def weblate(server):
    made = Weblate(server.url, "any")
    yield made
    made.session.close()


def test_weblate_learns_which_languages_deepl_speaks(weblate):
    for more in ({}, {"enable_beta_languages": "1"}):
        sources = weblate("get", "languages", params={**more, "type": "source"})
        targets = weblate("get", "languages", params={**more, "type": "target"})
        assert {"EN", "FR"} <= {language["language"] for language in sources}
        assert {"EN-GB", "FR"} <= {language["language"].upper() for language in targets}
        assert not any(language.get("supports_formality") for language in targets)


def test_weblate_translates_with_its_placeholders(weblate):
    texts = ['Hello <x id="6"></x>, how are you?', "You &amp; me", '<x id="0"></x>']
    body = {"text": texts, "source_lang": "EN", "target_lang": "FR", "formality": "default"}
    body |= {"tag_handling": "xml", "ignore_tags": ["x"], "context": "A greeting on a page."}
    for more in ({}, {"model_type": "prefer_quality_optimized"}):
        made = [one["text"] for one in weblate("post", "translate", json={**body, **more})["translations"]]
        assert made[0].count('<x id="6"></x>') == 1
        assert "&amp;" in made[1] or "&" not in made[1]
        assert made[2] == texts[2]
    assert weblate("post", "translate", json={**body, "source_lang": "FR", "target_lang": "EN"})


def test_weblate_makes_uses_and_clears_away_its_glossaries(weblate):
    pairs = weblate("get", "glossary-language-pairs")["supported_languages"]
    assert ("EN", "FR") in {(pair["source_lang"].upper(), pair["target_lang"].upper()) for pair in pairs}
    glossary = {"name": "weblate:1:EN:FR:a1", "source_lang": "EN", "target_lang": "FR"}
    glossary |= {"entries": "station\tDragonia\nticket\tBillettus", "entries_format": "tsv"}
    weblate("post", "glossaries", json=glossary)
    kept = {one["name"]: one["glossary_id"] for one in weblate("get", "glossaries")["glossaries"]}
    id = kept[glossary["name"]]
    body = {"text": ["Where is the station?"], "source_lang": "EN", "target_lang": "FR", "glossary_id": id}
    body |= {"formality": "default", "tag_handling": "xml", "ignore_tags": ["x"]}
    assert "Dragonia" in weblate("post", "translate", json=body)["translations"][0]["text"]
    for one in weblate("get", "glossaries")["glossaries"]:
        assert datetime.fromisoformat(one["creation_time"])  # the oldest goes first
    weblate("delete", "glossaries", id)
    with pytest.raises(requests.HTTPError) as caught:
        weblate("delete", "glossaries", id)
    assert caught.value.response.status_code in (400, 404)


def test_weblate_shows_deepls_own_words_of_an_error(serve, tmp_path):
    key = KeyFile(tmp_path / "keys.json").add("weblate", characters_per_month=10)
    served = serve(keys=tmp_path / "keys.json")
    body = {"text": ["A text that is too long."], "source_lang": "EN", "target_lang": "FR"}
    for given, status in ((key, 456), ("wrong", 403)):
        weblate = Weblate(served.url, given)
        with pytest.raises(requests.HTTPError) as caught:
            weblate("post", "translate", json=body)
        assert caught.value.response.status_code == status
        assert caught.value.response.json()["message"]
        weblate.session.close()


def test_weblate_asks_libretranslate_for_one_text_by_form_and_for_many_by_json(server, translator):
    codes = {language["code"] for language in server.get("/languages").json()}
    assert {"en", "fr"} <= codes
    form = {"api_key": "", "q": "Good morning!", "source": "en", "target": "fr"}
    response = server.post("/translate", data=form)
    made = translator.translate("Good morning!", "en", "fr")
    assert response.json() == {"translatedText": made}
    assert server.post("/translate", {**form, "q": ["Good morning!"]}).json() == {"translatedText": [made]}
