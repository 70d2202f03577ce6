"""Our own API, `/v1`."""

import json
from types import SimpleNamespace

import pytest
import requests

from dragoman.languages import find


def events(response: requests.Response) -> list[tuple[str, dict]]:
    """The server-sent events of a response."""
    blocks = response.content.decode().strip().split("\n\n")
    lines = [block.split("\n", 1) for block in blocks]
    return [(name.removeprefix("event: "), json.loads(data.removeprefix("data: "))) for name, data in lines]


def test_a_text_is_translated_as_the_translator_does(server, translator):
    response = server.post("/v1/translate", {"text": "Where is the station?", "source": "en", "target": "fr"})
    assert response.status_code == 200
    (made,) = response.json()["translations"]
    assert made["text"] == translator.translate("Where is the station?", "en", "fr")
    assert (made["source"], made["target"], made["model"]) == ("eng_Latn", "fra_Latn", "mini")
    assert made["detected"] is None
    assert made["error"] is None


def test_many_texts_and_targets_come_by_texts_and_then_by_targets(server, translator):
    body = {"text": ["Good morning!", "I have time."], "source": "en", "target": ["de", "fr"]}
    made = server.post("/v1/translate", body).json()["translations"]
    assert [(one["index"], one["target"]) for one in made] == [
        (0, "deu_Latn"),
        (0, "fra_Latn"),
        (1, "deu_Latn"),
        (1, "fra_Latn"),
    ]
    assert made[3]["text"] == translator.translate("I have time.", "en", "fr")


def test_each_text_is_detected_by_itself(server):
    body = {"text": ["Ich habe keine Zeit.", "Il fait très froid aujourd'hui."], "target": "en"}
    made = server.post("/v1/translate", body).json()["translations"]
    assert [one["source"] for one in made] == ["deu_Latn", "fra_Latn"]
    assert all(one["detected"]["sure"] for one in made)


def test_n_best_gives_alternatives_and_their_scores(server):
    body = {"text": "Good luck!", "source": "en", "target": "fr", "n_best": 3}
    (made,) = server.post("/v1/translate", body).json()["translations"]
    (sentence,) = made["sentences"]
    scores = [one["score"] for one in sentence["candidates"]]
    assert len(scores) == 3
    assert scores == sorted(scores, reverse=True)
    assert made["alternatives"] == [one["text"] for one in sentence["candidates"][1:]]


def test_pieces_of_a_streamed_text_make_up_its_translation(server, translator):
    text = "Where is the station? I would like to buy a ticket."
    body = {"text": text, "source": "en", "target": "fr", "stream": True}
    response = server.post("/v1/translate", body)
    assert response.headers["content-type"].startswith("text/event-stream")
    found = events(response)
    names = [name for name, _ in found]
    assert names.count("piece") > 1
    assert names[-2:] == ["translation", "done"]
    whole = translator.translate(text, "en", "fr")
    assert "".join(data["text"] for name, data in found if name == "piece") == whole
    assert found[-2][1]["text"] == whole


def test_several_texts_are_streamed_one_by_one(server):
    body = {"text": ["Yes.", "No."], "source": "en", "target": ["fr", "de"], "stream": True}
    found = events(server.post("/v1/translate", body))
    assert [name for name, _ in found] == ["translation"] * 4 + ["done"]


def test_what_is_wrong_from_the_start_is_no_stream(server):
    body = {"text": "Yes.", "target": "xx", "stream": True}
    response = server.post("/v1/translate", body)
    assert response.status_code == 400
    assert response.json()["error"]["code"] == "unknown_language"


def test_tags_come_back_and_entities_stay_what_they_are(server):
    body = {"text": "I <b>see</b> &lt;script&gt; here.", "source": "en", "target": "fr", "format": "html"}
    (made,) = server.post("/v1/translate", body).json()["translations"]
    assert made["text"].count("<b>") == made["text"].count("</b>") == 1
    assert "&lt;script&gt;" in made["text"]
    assert "<script" not in made["text"]


def test_what_is_in_ignored_tags_stays_as_it_is(server):
    body = {"text": "Hello <x>good friend</x>, how are you?", "source": "en", "target": "fr"}
    body |= {"format": "xml", "ignore_tags": ["x"]}
    (made,) = server.post("/v1/translate", body).json()["translations"]
    assert "<x>good friend</x>" in made["text"]
    assert "how are you" not in made["text"]


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({}, "text"),
        ({"text": "Yes."}, "target"),
        ({"text": "Yes.", "target": "fr", "beems": 4}, "beems"),
        ({"text": {"a": 1}, "target": "fr"}, "text"),
        ({"text": [], "target": "fr"}, "text"),
        ({"text": "Yes.", "target": []}, "target"),
        ({"text": "Yes.", "target": "fr", "beams": "4"}, "beams"),
        ({"text": "Yes.", "target": "fr", "beams": -1}, "beams"),
        ({"text": "Yes.", "target": "fr", "beams": 10**6}, "beams"),
        ({"text": "Yes.", "target": "fr", "n_best": 10**9}, "n_best"),
        ({"text": "Yes.", "target": "fr", "timeout": 1e308}, "timeout"),
        ({"text": "Yes.", "target": "fr", "format": "rtf"}, "format"),
        ({"text": "Yes.", "target": "fr", "model": "gpt"}, "model"),
        ({"text": "Yes.", "target": "fr", "source": 5}, "source"),
        ({"text": "Yes.", "target": "fr", "likely_source": "zz"}, "likely_source"),
        ({"text": "Yes.", "target": "fr", "ignore_tags": ["x"]}, "ignore_tags"),
    ],
)
def test_what_cannot_be_is_refused_by_name(server, body, param):
    response = server.post("/v1/translate", body)
    assert response.status_code in (400, 404)
    error = response.json()["error"]
    assert error["param"] == param
    assert error["message"]


def test_options_that_exclude_each_other_are_refused(server):
    body = {"text": "Yes.", "target": "fr", "beams": 4, "sample": True}
    response = server.post("/v1/translate", body)
    assert response.status_code == 400
    assert "beams" in response.json()["error"]["message"]


def test_languages_and_models_say_what_there_is(server, translator):
    languages = server.get("/v1/languages").json()["languages"]
    assert {one["short"] for one in languages} == {"en", "de", "es", "fr", "it", "nl", "pt"}
    assert all(one["models"] == ["mini"] for one in languages)
    (model,) = server.get("/v1/models").json()["data"]
    assert (model["id"], model["object"], model["licence"]) == ("mini", "model", translator.card.licence)
    assert server.get("/v1/models/mini").json() == model
    assert server.get("/v1/models/x/y").status_code == 404


def test_detection_says_how_sure_it_is(server):
    body = {"text": ["Il fait très froid aujourd'hui.", "123 🙂"]}
    french, nothing = server.post("/v1/detect", body).json()["detections"]
    assert french["language"] == "fra_Latn"
    assert french["sure"]
    assert nothing is None


def test_every_path_of_ours_is_in_the_openapi_document(server):
    paths = server.get("/openapi.json").json()["paths"]
    assert {"/v1/translate", "/v1/detect", "/v1/languages", "/v1/models"} <= paths.keys()
    body = paths["/v1/translate"]["post"]["requestBody"]["content"]["application/json"]["schema"]
    assert body["properties"]["beams"]["anyOf"][0]["maximum"] == 8
    assert body["additionalProperties"] is False


def test_a_text_in_a_language_that_no_model_translates_fails_alone(serve, translator):
    other = SimpleNamespace(**{name: getattr(translator, name) for name in ("card", "system", "defaults")})
    other.languages, other.fingerprint = (find("he"), find("en")), "0"
    served = serve(models={"mini": translator, "hebrew": other})
    body = {"text": ["Good morning, everybody!", "בוקר טוב לכולם"], "target": "fr"}
    for more in ({}, {"stream": True}):
        response = served.post("/v1/translate", {**body, **more})
        assert response.status_code == 200
        if more:
            found = [data for name, data in events(response) if name == "translation"]
            made = sorted(found, key=lambda one: one["index"])
        else:
            made = response.json()["translations"]
        assert made[0]["text"] == translator.translate(body["text"][0], "en", "fr")
        assert (made[1]["text"], made[1]["source"]) == (body["text"][1], "heb_Hebr")
        assert "Hebrew to French" in made[1]["error"]
    alone = served.post("/v1/translate", {**body, "text": body["text"][1]})
    assert alone.status_code == 400
