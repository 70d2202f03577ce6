"""LibreTranslate's API, used by its own client and by curl."""

import json
import shutil
import subprocess

import pytest
import requests
from libretranslatepy import LibreTranslateAPI


@pytest.fixture
def client(server) -> LibreTranslateAPI:
    return LibreTranslateAPI(server.url)


def test_the_official_client_translates(client, translator):
    assert client.translate("Hello World", "en", "es") == translator.translate("Hello World", "en", "es")


def test_the_official_client_detects(client):
    (found,) = client.detect("Il fait très froid aujourd'hui.")
    assert found["language"] == "fr"
    assert 50 < found["confidence"] <= 100


def test_the_official_client_lists_languages(client):
    languages = client.languages()
    english = next(language for language in languages if language["code"] == "en")
    assert english["name"] == "English"
    assert english["targets"] == ["de", "en", "es", "fr", "it", "nl", "pt"]


def test_the_official_client_is_let_in_with_its_key_only(serve, tmp_path):
    from dragoman.server.keys import KeyFile

    key = KeyFile(tmp_path / "keys.json").add("weblate")
    served = serve(keys=tmp_path / "keys.json")
    assert LibreTranslateAPI(served.url, key).translate("Hello", "en", "fr")
    for wrong, status in ((None, 400), ("dragoman-wrong", 403)):
        form = {"q": "Hello", "source": "en", "target": "fr"} | ({"api_key": wrong} if wrong else {})
        response = requests.post(f"{served.url}/translate", data=form, timeout=60)
        assert response.status_code == status
        assert "key" in response.json()["error"]


def curl(server, path: str, body: object, *options: str) -> object:
    """What curl gets, as LibreTranslate's documentation calls it."""
    if shutil.which("curl") is None:
        pytest.skip("there is no curl")
    command = ["curl", "-sS", "-X", "POST", server.url + path, "-H", "Content-Type: application/json"]
    made = subprocess.run(
        [*command, "-d", json.dumps(body), *options], capture_output=True, check=True, timeout=60
    )
    return json.loads(made.stdout)


@pytest.fixture
def hello(translator) -> str:
    return translator.translate("Hello!", "en", "es")


def test_curl_simple(server, hello):
    answer = curl(server, "/translate", {"q": "Hello!", "source": "en", "target": "es"})
    assert answer == {"translatedText": hello}


def test_curl_with_detection(server, translator):
    answer = curl(server, "/translate", {"q": "Ich habe keine Zeit.", "source": "auto", "target": "en"})
    assert answer["detectedLanguage"]["language"] == "de"
    assert 50 < answer["detectedLanguage"]["confidence"] <= 100
    assert answer["translatedText"] == translator.translate("Ich habe keine Zeit.", "de", "en")


def test_curl_with_html(server, hello):
    body = {"q": '<p class="green">Hello!</p>', "source": "en", "target": "es", "format": "html"}
    assert curl(server, "/translate", body) == {"translatedText": f'<p class="green">{hello}</p>'}


def test_curl_with_alternatives(server):
    body = {"q": "Hello", "source": "en", "target": "fr", "format": "text", "alternatives": 3}
    answer = curl(server, "/translate", body)
    assert answer["translatedText"]
    assert 1 <= len(answer["alternatives"]) <= 3
    assert answer["translatedText"] not in answer["alternatives"]


def test_curl_with_a_form(server, hello):
    form = ["-X", "POST", f"{server.url}/translate", "-d", "q=Hello!&source=en&target=es"]
    made = subprocess.run(["curl", "-sS", *form], capture_output=True, check=True, timeout=60)
    assert json.loads(made.stdout) == {"translatedText": hello}


def test_curl_with_a_file(server, translator, tmp_path):
    (tmp_path / "notes.txt").write_text("Where is the station?")
    form = ["-F", f"file=@{tmp_path / 'notes.txt'}", "-F", "source=en", "-F", "target=fr", "-F", "api_key="]
    url = json.loads(
        subprocess.check_output(["curl", "-sS", *form, f"{server.url}/translate_file"], timeout=60)
    )
    made = subprocess.check_output(["curl", "-sS", url["translatedFileUrl"]], timeout=60)
    assert made.decode() == translator.translate("Where is the station?", "en", "fr")


def test_curl_with_a_query(server, hello):
    query = ["-G", "-X", "POST", "--data-urlencode", "q=Hello!", "-d", "source=en", "-d", "target=es"]
    made = subprocess.check_output(["curl", "-sS", *query, f"{server.url}/translate"], timeout=60)
    assert json.loads(made) == {"translatedText": hello}


def test_several_texts_come_back_in_their_order_each_with_its_own_language(server, translator):
    q = ["Ich habe keine Zeit.", "Il fait très froid aujourd'hui."]
    answer = server.post("/translate", {"q": q, "source": "auto", "target": "en"}).json()
    assert [one["language"] for one in answer["detectedLanguage"]] == ["de", "fr"]
    assert answer["translatedText"] == translator.translate(q, target="en")


def test_a_list_of_one_is_answered_by_a_list_of_one(server, hello):
    answer = server.post("/translate", {"q": ["Hello!"], "source": "en", "target": "es", "alternatives": 1})
    assert answer.json()["translatedText"] == [hello]
    assert len(answer.json()["alternatives"]) == 1


def test_escaped_markup_is_never_made_alive(server):
    q = "<p>Look at &lt;script&gt;alert(1)&lt;/script&gt; here.</p>"
    body = {"q": q, "source": "en", "target": "fr", "format": "html"}
    assert "<script" not in server.post("/translate", body).json()["translatedText"]


def test_a_text_of_emoji_stays_as_it_is(server):
    answer = server.post("/translate", {"q": "🙂🙂", "source": "auto", "target": "fr"}).json()
    assert answer["translatedText"] == "🙂🙂"
    assert answer["detectedLanguage"]["confidence"] == 0


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ({"q": "Hello", "source": "en", "target": "zz"}, "zz is not supported"),
        ({"q": "Hello", "source": "zz", "target": "en"}, "zz is not supported"),
        ({"source": "en", "target": "es"}, "Invalid request: missing q parameter"),
        ({"q": "Hello", "target": "es"}, "Invalid request: missing source parameter"),
        ({"q": "Hello", "source": "en"}, "Invalid request: missing target parameter"),
        ({"q": "Hello", "source": "en", "target": "es", "format": "rtf"}, "rtf format is not supported"),
        (
            {"q": "Hello", "source": "en", "target": "es", "alternatives": 10_000},
            "Invalid request: alternatives parameter must be <= 3",
        ),
        (
            {"q": "Hello", "source": "en", "target": "es", "alternatives": "many"},
            "Invalid request: alternatives parameter is not a number",
        ),
    ],
)
def test_errors_are_those_of_libretranslate(server, body, message):
    for response in (server.post("/translate", body), server.post("/translate", data=body)):
        assert response.status_code == 400
        assert response.json() == {"error": message}


def test_detection_needs_a_text_and_no_get(server):
    assert server.post("/detect").json() == {"error": "Invalid request: missing q parameter"}
    response = server.get("/detect")
    assert response.status_code == 405
    assert "error" in response.json()


def test_a_file_is_translated_and_fetched_by_its_address(server, translator):
    text = "Where is the station?\n\nGood morning!\n"
    file = {"file": ("../../etc/notes.txt", text)}
    answer = server.post("/translate_file", data={"source": "en", "target": "fr"}, files=file)
    url = answer.json()["translatedFileUrl"]
    assert url.startswith(server.url)
    fetched = requests.get(url, timeout=60)
    assert fetched.content.decode() == translator.translate(text, "en", "fr")
    assert 'filename="notes.fr.txt"' in fetched.headers["content-disposition"]
    assert requests.get(url[:-1] + "x", timeout=60).status_code == 404


@pytest.mark.parametrize("name", ["..%2f..%2fetc%2fpasswd", "../../etc/passwd", "%00", "a" * 4000])
def test_a_download_has_no_way_out_of_its_folder(server, name):
    response = requests.get(f"{server.url}/download_file/{name}", timeout=60)
    assert response.status_code == 404


def test_a_file_of_another_format_is_refused(server):
    file = {"file": ("notes.exe", b"MZ")}
    answer = server.post("/translate_file", data={"source": "en", "target": "fr"}, files=file)
    assert answer.status_code == 400
    assert answer.json() == {"error": "Invalid request: file format not supported"}


def test_a_broken_document_is_a_400(server):
    file = {"file": ("notes.docx", b"PK\x03\x04 not really")}
    answer = server.post("/translate_file", data={"source": "en", "target": "fr"}, files=file)
    assert answer.status_code == 400
    assert answer.json()["error"]


def test_a_user_interface_learns_what_it_should_know(server):
    settings = server.get("/frontend/settings").json()
    assert settings["keyRequired"] is False
    assert ".docx" in settings["supportedFilesFormat"]
    assert settings["language"]["source"]["code"] == "auto"


def test_suggestions_are_not_taken_and_health_is_told(server):
    body = {"q": "Hello", "s": "Salut", "source": "en", "target": "fr"}
    assert server.post("/suggest", body).status_code == 403
    assert server.get("/health").json() == {"status": "ok"}
