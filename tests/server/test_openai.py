"""OpenAI's API, used by its own client."""

from collections.abc import Iterator
from types import SimpleNamespace
from typing import ClassVar

import openai
import pytest

from dragoman.languages import all_languages
from dragoman.server.orders import Order
from dragoman.server.settings import Settings
from dragoman.translation.translator import Translator

TEXT = "Where is the station? I would like to buy a ticket."


def says(text: str) -> list:
    return [{"role": "user", "content": text}]


@pytest.fixture
def client(server) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{server.url}/v1", api_key="any", max_retries=0) as client:
        yield client


def test_the_models_name_says_the_languages(client, translator):
    made = client.chat.completions.create(model="mini:en-fr", messages=says(TEXT))
    (choice,) = made.choices
    assert choice.message.content == translator.translate(TEXT, "en", "fr")
    assert choice.message.role == "assistant"
    assert choice.finish_reason == "stop"
    assert made.model == "mini:en-fr"
    assert made.usage.total_tokens == made.usage.prompt_tokens + made.usage.completion_tokens > 10


def test_a_target_alone_is_enough(client, translator):
    made = client.chat.completions.create(model="mini:fr", messages=says("Ich habe keine Zeit."))
    assert made.choices[0].message.content == translator.translate("Ich habe keine Zeit.", "de", "fr")


def test_fields_say_the_languages_too(client, translator):
    made = client.chat.completions.create(
        model="mini", messages=says(TEXT), extra_body={"source": "en", "target": "nl"}
    )
    assert made.choices[0].message.content == translator.translate(TEXT, "en", "nl")


def test_a_prompt_as_x_almas_is_read(client, translator):
    prompt = f"Translate this from English to German:\nEnglish: {TEXT}\nGerman:"
    made = client.chat.completions.create(model="mini", messages=says(prompt), temperature=0)
    assert made.choices[0].message.content == translator.translate(TEXT, "en", "de")


def test_a_stream_comes_in_pieces_that_make_up_the_whole(client, translator):
    stream = client.chat.completions.create(
        model="mini:en-fr", messages=says(TEXT), stream=True, stream_options={"include_usage": True}
    )
    chunks = list(stream)
    pieces = [chunk.choices[0].delta.content for chunk in chunks if chunk.choices]
    assert "".join(filter(None, pieces)) == translator.translate(TEXT, "en", "fr")
    assert len([piece for piece in pieces if piece]) > 1
    assert [chunk.choices[0].finish_reason for chunk in chunks if chunk.choices][-1] == "stop"
    assert chunks[0].choices[0].delta.role == "assistant"
    assert chunks[-1].usage.completion_tokens > 0
    assert len({chunk.id for chunk in chunks}) == 1


def test_what_is_cut_says_so(client):
    made = client.chat.completions.create(model="mini:en-fr", messages=says(TEXT), max_tokens=2)
    assert made.choices[0].finish_reason == "length"


def test_models_are_listed_and_found(client):
    assert [model.id for model in client.models.list()] == ["mini"]
    assert client.models.retrieve("mini").owned_by == "dragoman"


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"model": "gpt-4o"}, openai.NotFoundError),
        ({"model": "mini"}, openai.BadRequestError),
        ({"model": "mini:en-zz"}, openai.BadRequestError),
        ({"model": "mini:en-fr", "n": 2}, openai.BadRequestError),
        ({"model": "mini:en-fr", "n": 16384}, openai.BadRequestError),
        ({"model": "mini:en-fr", "stop": ["."]}, openai.BadRequestError),
        ({"model": "mini:en-fr", "max_tokens": -1}, openai.BadRequestError),
        ({"model": "mini:en-fr", "messages": []}, openai.BadRequestError),
        ({"model": "mini:en-zz", "stream": True}, openai.BadRequestError),
        (
            {"model": "mini:en-fr", "messages": [{"role": "assistant", "content": "a"}]},
            openai.BadRequestError,
        ),
    ],
)
def test_what_cannot_be_is_refused(client, options, error):
    with pytest.raises(error) as caught:
        client.chat.completions.create(**{"messages": says(TEXT), **options})
    assert caught.value.body["message"]


def test_what_is_about_sampling_and_what_is_unknown_is_let_go(client):
    made = client.chat.completions.create(
        model="mini:en-fr", messages=says("Yes."), temperature=0.7, top_p=0.9, seed=1, user="me"
    )
    assert made.choices[0].message.content


def test_a_wrong_key_is_an_authentication_error(serve, tmp_path):
    (tmp_path / "keys.json").write_text("{}")
    served = serve(keys=tmp_path / "keys.json")
    client = openai.OpenAI(base_url=f"{served.url}/v1", api_key="wrong", max_retries=0)
    with client, pytest.raises(openai.AuthenticationError):
        client.models.list()


class Chatting:
    """Answers questions, as X-ALMA does."""

    card = SimpleNamespace(licence="MIT", pivot=None, name="chat")
    languages = all_languages()
    defaults: ClassVar[dict[str, int]] = {}
    system = SimpleNamespace(
        style="chat", precision="fp32", measure=len, engine=SimpleNamespace(busy=False), may_wait=False
    )

    def ask_live(self, question, language, max_new_tokens, **options):
        yield f"{language}: "
        yield question[::-1]
        return max_new_tokens > 10

    def close(self) -> None:
        pass


def test_a_chat_model_answers_plain_questions(serve):
    served = serve(models={"chat": Chatting()})
    with openai.OpenAI(base_url=f"{served.url}/v1", api_key="any", max_retries=0) as client:
        question = "Was macht ein Dolmetscher den ganzen Tag?"
        made = client.chat.completions.create(model="chat", messages=says(question))
        assert made.choices[0].message.content == f"deu_Latn: {question[::-1]}"
        stream = client.chat.completions.create(model="chat", messages=says(question), stream=True)
        pieces = [chunk.choices[0].delta.content for chunk in stream]
        assert "".join(filter(None, pieces)) == f"deu_Latn: {question[::-1]}"


@pytest.mark.parametrize(("most", "reason"), [(5, "length"), (500, "stop")])
def test_an_answer_that_is_cut_says_so(serve, most, reason):
    served = serve(models={"chat": Chatting()})
    with openai.OpenAI(base_url=f"{served.url}/v1", api_key="any", max_retries=0) as client:
        asked = {"model": "chat", "messages": says("Was nun?"), "max_tokens": most}
        assert client.chat.completions.create(**asked).choices[0].finish_reason == reason
        *_, last = client.chat.completions.create(**asked, stream=True)
        assert last.choices[0].finish_reason == reason


def test_xalmas_prompt_reaches_xalma_as_it_was_trained(combined):
    """The text of a prompt and its languages make the very same prompt again."""
    from dragoman.server.models import Resident
    from dragoman.server.openai import _asked
    from dragoman.server.registry import Registry
    from dragoman.text.prompts import translation_prompt

    with Translator.load(combined, device="cpu") as xalma:
        english, german = (next(one for one in xalma.languages if one.iso1 == code) for code in ("en", "de"))
        prompt = str(translation_prompt(TEXT, english, german, style="plain").text)
        state = SimpleNamespace(registry=Registry({"xalma": Resident(xalma)}), settings=Settings())
        asked = _asked(state, {"model": "xalma", "messages": says(prompt)})
        assert asked.order == Order((TEXT,), english, (german,), "xalma")
