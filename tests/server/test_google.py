"""Google's API, as its documentation calls it."""

import pytest

PATH = "/language/translate/v2"


def test_html_is_the_default_and_tags_are_kept(server):
    body = {"q": "I see the <b>house</b> &amp; you.", "source": "en", "target": "fr"}
    (made,) = server.post(PATH, body).json()["data"]["translations"]
    assert set(made) == {"translatedText"}
    assert made["translatedText"].count("<b>") == made["translatedText"].count("</b>") == 1


def test_texts_come_back_in_their_order_with_the_languages_found(server, translator):
    q = ["Ich habe keine Zeit.", "Il fait très froid aujourd'hui."]
    made = server.post(PATH, {"q": q, "target": "en", "format": "text"}).json()["data"]["translations"]
    assert [one["detectedSourceLanguage"] for one in made] == ["de", "fr"]
    assert [one["translatedText"] for one in made] == translator.translate(q, target="en")


def test_forms_and_query_strings_do_what_json_does(server):
    fields = [("q", "Yes."), ("q", "No."), ("source", "en"), ("target", "fr"), ("format", "text")]
    by_json = server.post(
        PATH, {"q": ["Yes.", "No."], "source": "en", "target": "fr", "format": "text"}
    ).json()
    assert server.post(PATH, data=fields).json() == by_json
    assert server.get(PATH, params=fields).json() == by_json
    assert server.post(PATH, params=fields).json() == by_json


def test_each_text_has_a_list_of_detections(server):
    found = server.post(f"{PATH}/detect", {"q": ["Ich habe keine Zeit.", "123"]}).json()["data"]["detections"]
    assert found[0][0]["language"] == "de"
    assert found[0][0]["isReliable"] is True
    assert found[1] == [{"language": "und", "isReliable": False, "confidence": 0.0}]


def test_languages_have_names_where_a_target_is_given(server):
    bare = server.get(f"{PATH}/languages").json()["data"]["languages"]
    assert {one["language"] for one in bare} == {"en", "de", "es", "fr", "it", "nl", "pt"}
    assert set(bare[0]) == {"language"}
    named = server.get(f"{PATH}/languages", params={"target": "en"}).json()["data"]["languages"]
    assert {"language": "de", "name": "German"} in named


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"q": "Hi"},
        {"q": "Hi", "target": "xx"},
        {"q": "Hi", "target": "fr", "source": "xx"},
        {"q": "Hi", "target": "fr", "format": "rtf"},
        {"q": {"a": 1}, "target": "fr"},
        {"q": "Hi", "target": "fr", "model": "other"},
        {"q": ["Hi"] * 129, "target": "fr"},
    ],
)
def test_errors_are_those_of_google(server, body):
    response = server.post(PATH, body)
    assert response.status_code == 400
    error = response.json()["error"]
    assert (error["code"], error["status"]) == (400, "INVALID_ARGUMENT")
    assert error["errors"] == [{"message": error["message"], "domain": "global", "reason": "invalid"}]


def test_a_key_may_be_in_the_query_or_in_a_header(serve, tmp_path):
    from dragoman.server.keys import KeyFile

    key = KeyFile(tmp_path / "keys.json").add("anna")
    served = serve(keys=tmp_path / "keys.json")
    body = {"q": "Yes.", "target": "fr"}
    assert served.post(PATH, body, params={"key": key}).status_code == 200
    assert served.post(PATH, body, headers={"X-Goog-Api-Key": key}).status_code == 200
    assert served.post(PATH, body, headers={"Authorization": f"Bearer {key}"}).status_code == 200
    assert served.post(PATH, body).json()["error"]["status"] == "PERMISSION_DENIED"
    assert served.post(PATH, body, params={"key": "wrong"}).status_code == 400
