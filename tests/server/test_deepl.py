"""DeepL's API, used by its own client."""

import io
import socket

import deepl
import pytest

from dragoman.server.keys import KeyFile
from tests.server.waiting import wait_until


@pytest.fixture
def client(server) -> deepl.DeepLClient:
    return deepl.DeepLClient("any", server_url=server.url)


@pytest.fixture
def impatient(monkeypatch) -> None:
    """The client doesn't try again after half a minute of errors."""
    monkeypatch.setattr(deepl.http_client, "max_network_retries", 0)


def test_the_official_client_translates_a_text(client, translator):
    result = client.translate_text("Where is the station?", target_lang="FR")
    assert result.text == translator.translate("Where is the station?", "en", "fr")
    assert result.detected_source_lang == "EN"
    assert result.billed_characters == 21


def test_the_official_client_translates_several(client, translator):
    texts = ["Ich habe keine Zeit.", "Il fait très froid aujourd'hui."]
    results = client.translate_text(texts, target_lang="EN-US")
    assert [result.detected_source_lang for result in results] == ["DE", "FR"]
    assert [result.text for result in results] == translator.translate(texts, target="en")


def test_the_official_client_handles_html(client):
    text = "<p>I see the <b>house</b>.</p><p>Good morning!</p>"
    made = client.translate_text(text, source_lang="EN", target_lang="DE", tag_handling="html").text
    assert made.count("<p>") == made.count("</p>") == 2
    assert made.count("<b>") == made.count("</b>") == 1


def test_the_official_client_handles_xml_with_its_tags(client):
    text = "<par>Please open <x>Good morning</x> now.</par>\n<note>Thank you.</note>"
    made = client.translate_text(
        text, source_lang="EN", target_lang="FR", tag_handling="xml", ignore_tags=["x", "note"]
    ).text
    assert "<x>Good morning</x>" in made
    assert made.endswith("</par>\n<note>Thank you.</note>")
    assert "Please" not in made


def test_a_tag_that_splits_ends_a_sentence_and_one_that_does_not_is_within_it(client, translator):
    text = "I see the house<br/>Good morning!"
    options = {"source_lang": "EN", "target_lang": "FR", "tag_handling": "xml"}
    made = client.translate_text(text, splitting_tags=["br"], **options).text
    parts = [translator.translate(each, "en", "fr") for each in ("I see the house", "Good morning!")]
    assert made == "<br/>".join(parts)
    text = "<a>I see</a> <a>the house.</a>"
    apart = client.translate_text(text, **options).text
    assert apart.count("</a> <a>") == 1
    together = client.translate_text(text, non_splitting_tags=["a"], **options).text
    assert together != apart
    assert together.count("<a>") == together.count("</a>") == 2


def test_tags_that_are_not_closed_are_an_error(client):
    with pytest.raises(deepl.DeepLException, match="Bad request"):
        client.translate_text("<a>Hello", target_lang="FR", tag_handling="xml")


@pytest.mark.parametrize(
    ("split", "sentences"), [("1", ["Good", "morning!", "Thank you."]), ("nonewlines", None), ("0", None)]
)
def test_sentences_are_split_as_asked(client, translator, split, sentences):
    text = "Good\nmorning! Thank you."
    made = client.translate_text(text, source_lang="EN", target_lang="FR", split_sentences=split).text
    options = {"one_sentence": True} if split == "0" else {}
    whole = "Good morning! Thank you."
    if sentences:
        whole = text
    assert made == translator.translate(whole, "en", "fr", **options)
    assert ("\n" in made) == bool(sentences)


def test_the_official_client_lists_languages(client):
    sources = {language.code: language.name for language in client.get_source_languages()}
    targets = {language.code: language for language in client.get_target_languages()}
    assert set(sources) == {"DE", "EN", "ES", "FR", "IT", "NL", "PT"}
    assert set(targets) == {"DE", "EN-GB", "EN-US", "ES", "FR", "IT", "NL", "PT-BR", "PT-PT"}
    assert targets["EN-GB"].name == "English (British)"
    assert not any(language.supports_formality for language in targets.values())


def test_the_official_client_learns_what_is_used(serve, tmp_path, impatient):
    keys = KeyFile(tmp_path / "keys.json")
    key = keys.add("anna", characters_per_month=40)
    served = serve(keys=keys.path)
    client = deepl.DeepLClient(key, server_url=served.url)
    client.translate_text("Good morning!", target_lang="FR")
    usage = client.get_usage()
    assert (usage.character.count, usage.character.limit) == (13, 40)
    with pytest.raises(deepl.QuotaExceededException):
        client.translate_text("Good morning! How are you today?", target_lang="FR")
    assert client.get_usage().character.count == 13
    with pytest.raises(deepl.AuthorizationException):
        deepl.DeepLClient("wrong", server_url=served.url).get_usage()


def test_the_official_client_sees_too_many_requests(serve, tmp_path, impatient):
    keys = KeyFile(tmp_path / "keys.json")
    key = keys.add("anna", requests_per_minute=1)
    client = deepl.DeepLClient(key, server_url=serve(keys=keys.path).url)
    client.translate_text("Yes.", target_lang="FR")
    with pytest.raises(deepl.TooManyRequestsException):
        client.translate_text("No.", target_lang="FR")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"target_lang": "XX"}, "Value for 'target_lang' not supported"),
        ({"target_lang": "FR", "source_lang": "XX"}, "Value for 'source_lang' not supported"),
        ({"target_lang": "FR", "formality": "more"}, "'formality' is not supported"),
        ({"target_lang": "FR", "custom_instructions": ["Be brief."]}, "custom_instructions"),
        ({"target_lang": "FR", "tag_handling": "tex"}, "tag_handling"),
        ({"target_lang": "FR", "tag_handling": "html", "ignore_tags": ["x"]}, "tag_handling=xml"),
    ],
)
def test_what_is_not_done_here_is_refused_by_name(client, options, message):
    with pytest.raises(deepl.DeepLException, match=message) as caught:
        client.translate_text("Hello", **options)
    assert caught.value.http_status_code == 400


def ended(client, handle):
    """The status of a document that is done or has failed."""

    def over():
        status = client.translate_document_get_status(handle)
        return status if status.done or not status.ok else None

    return wait_until(over)


def test_the_official_client_translates_a_document(client, translator):
    text = "Where is the station?\n"
    handle = client.translate_document_upload(text.encode(), filename="a.txt", target_lang="FR")
    status = ended(client, handle)
    assert status.ok, status.error_message
    assert status.billed_characters == len(text.strip())
    output = io.BytesIO()
    client.translate_document_download(handle, output, chunk_size=4096)
    assert output.getvalue().decode() == translator.translate(text, "en", "fr")


def test_a_document_is_downloaded_once(client, impatient):
    handle = client.translate_document_upload(b"Yes.", filename="a.txt", target_lang="FR")
    assert ended(client, handle).ok
    client.translate_document_download(handle, io.BytesIO(), chunk_size=4096)
    with pytest.raises(deepl.DeepLException):
        client.translate_document_download(handle, io.BytesIO())


def test_a_document_is_asked_for_with_its_key_only(client):
    handle = client.translate_document_upload(b"Yes.", filename="a.txt", target_lang="FR")
    wrong = deepl.DocumentHandle(handle.document_id, handle.document_key[::-1])
    with pytest.raises(deepl.DeepLException, match="Not found"):
        client.translate_document_get_status(wrong)


def test_a_broken_document_says_why(client):
    handle = client.translate_document_upload(b"PK\x03\x04", filename="a.docx", target_lang="FR")
    status = ended(client, handle)
    assert not status.ok
    assert status.error_message


def test_a_form_does_what_json_does(server):
    form = [("text", "Yes."), ("text", "No."), ("target_lang", "fr"), ("source_lang", "en")]
    made = server.post("/v2/translate", data=form).json()["translations"]
    body = {"text": ["Yes.", "No."], "target_lang": "fr", "source_lang": "en"}
    assert made == server.post("/v2/translate", body).json()["translations"]


def test_a_kind_of_languages_that_is_none_is_an_error_in_deepls_shape(server):
    response = server.get("/v2/languages", params={"type": "foo"})
    assert response.status_code == 400
    assert response.json()["message"] == "Value for 'type' not supported."
    assert server.get("/v2/languages").json() == server.get("/v2/languages", params={"type": "source"}).json()


def test_a_wrong_key_is_refused_before_a_document_is_read(serve, tmp_path):
    served = serve(keys=KeyFile(tmp_path / "keys.json").path, body_seconds=60)
    head = "POST /v2/document HTTP/1.1\r\nHost: localhost\r\nAuthorization: DeepL-Auth-Key wrong\r\n"
    head += "Content-Type: multipart/form-data; boundary=x\r\nContent-Length: 1000000\r\n\r\n"
    with socket.create_connection(("127.0.0.1", served.port), timeout=20) as connection:
        connection.sendall(head.encode())
        assert b" 403 " in connection.recv(4096).splitlines()[0]


@pytest.mark.parametrize("body", [{}, {"text": []}, {"text": "Hi"}, {"text": [1], "target_lang": "FR"}])
def test_errors_have_a_message(server, body):
    response = server.post("/v2/translate", body)
    assert response.status_code == 400
    assert response.json()["message"]
    assert response.headers["X-Trace-ID"] == response.headers["X-Request-ID"]
