"""OpenAI's chat completions: the last message is a text to translate, or a question if the model answers any.

Which languages it is about is said by the model's name (`mini:en-de`, `mini:de`), by the fields `source` and
`target`, or by a prompt as X-ALMA was trained on.
"""

import asyncio
import json
import re
import secrets
import time
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass
from typing import Any

from fastapi import APIRouter, Request
from starlette.responses import JSONResponse, Response, StreamingResponse

from dragoman.errors import DragomanError, UnknownLanguage
from dragoman.languages import find, of_code
from dragoman.server.bodies import read_json
from dragoman.server.faults import Fault, fault_of, invalid
from dragoman.server.openapi import TEXT, one_of, spellings
from dragoman.server.orders import Order, Result, check_length
from dragoman.server.own import ERRORS, answer, answers, live
from dragoman.server.registry import split_pair
from dragoman.server.routes import Direct
from dragoman.server.state import State
from dragoman.server.work import Calls, attended

__all__ = ["answer", "router"]

_PROMPT = "Translate this from "
"""How X-ALMA's begins: `from French to English:`, then a line `French: ` and the text, a line `English:`."""
_MOST_TOKENS = 4096


@dataclass(frozen=True)
class _Asked:
    """What a request comes to."""

    order: Order
    name: str
    """Of the model, as the request has it."""
    question: bool
    """Whether the text is a question for a chat model."""


@dataclass(frozen=True)
class _Answered:
    """A question's answer has come to its end."""

    is_complete: bool
    """Whether the model ended it, and no limit of length."""


def router(state: State) -> APIRouter:
    """The route of OpenAI; its models are among our own."""
    api = APIRouter(prefix="/v1", tags=["openai"], responses=ERRORS, route_class=Direct)

    @api.post("/chat/completions", openapi_extra={"requestBody": _body(state)})
    async def chat_completions(request: Request) -> Response:
        """Translate the last message, or answer it; with `stream` as server-sent events."""
        caller = state.caller(request)
        body = await read_json(request)
        asked = await asyncio.to_thread(_asked, state, body)  # it may look for the language
        head = {"id": f"chatcmpl-{secrets.token_hex(12)}", "created": int(time.time()), "model": asked.name}
        things = state.stream(request, caller, asked.order, _work(state, asked))
        if _flag(body, "stream"):
            counts = _flag(_object(body, "stream_options"), "include_usage")
            lines = _chunks(state, asked, things, {**head, "object": "chat.completion.chunk"}, counts)
            first = await attended(request, anext(lines))

            async def all_lines() -> AsyncIterator[bytes]:
                yield first
                async for line in lines:
                    yield line

            return StreamingResponse(all_lines(), media_type="text/event-stream")
        pieces = await attended(request, _gathered(things))
        made = next((thing for thing in pieces if not isinstance(thing, str)), None)
        whole = "".join(thing for thing in pieces if isinstance(thing, str))
        text = made.text if isinstance(made, Result) else whole
        message = {"role": "assistant", "content": text, "refusal": None}
        choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": _reason(made)}
        usage = await asyncio.to_thread(_usage, state, asked, text)
        return JSONResponse({**head, "object": "chat.completion", "choices": [choice], "usage": usage})

    return api


def _body(state: State) -> dict[str, Any]:
    """What OpenAPI is told of the body."""
    spoken = {
        name: [each.short_code for each in translator.languages]
        for name, translator in state.registry.translators.items()
    }
    models = {f"{name}:{code}" for name, codes in spoken.items() for code in codes}
    content = {"anyOf": [TEXT, {"type": "array", "items": {"type": "object"}}]}
    message = {
        "type": "object",
        "required": ["role", "content"],
        "properties": {"role": {"type": "string"}, "content": content},
    }
    languages = state.registry.languages
    schema = {
        "type": "object",
        "required": ["model", "messages"],
        "properties": {
            "model": one_of({*models, *spoken}),
            "messages": {"type": "array", "minItems": 1, "items": message},
            "source": spellings(languages, "auto"),
            "target": spellings(languages),
            "stream": {"type": "boolean"},
            "max_tokens": {"type": "integer", "minimum": 1},
        },
    }
    return {"required": True, "content": {"application/json": {"schema": schema}}}


# ---- what is asked for -------------------------------------------------------------------------------------


def _asked(state: State, body: Mapping[str, Any]) -> _Asked:
    name = body.get("model")
    if not isinstance(name, str) or not name:
        raise invalid("model must be a name of /v1/models", "model")
    model, languages = _named(state, name)
    translator = state.registry.named(model)
    _refuse(body)
    text = _last_message(body)
    check_length(len(text), state.settings)
    source, target = body.get("source"), body.get("target")
    if languages is not None:
        source, target = source or languages[0], target or languages[1]
    prompt = _read_prompt(text) if target is None else None
    if prompt is not None:
        source, target, text = prompt
    options = _options(body)
    if target is None:
        if not answers(translator):
            said = f"by the name {model}:en-de or {model}:de, or by the fields source and target"
            raise invalid(f"{model} translates: say to which language, {said}", "target")
        found = state.registry.detect(text)
        language = of_code(found.code) if found else translator.languages[0]
        return _Asked(Order((text,), None, (language,), model, options=options), name, True)
    registry = state.registry
    order = Order((text,), registry.find_source(source), (registry.find(target),), model, options=options)
    registry.choose(model, order.source, order.targets[0])
    return _Asked(order, name, False)


def _named(state: State, name: str) -> tuple[str, tuple[str | None, str] | None]:
    """The model in a name, and the languages: a pair, or a target alone."""
    if name in state.registry.translators:
        return name, None
    model, colon, languages = name.rpartition(":")
    if not colon or model not in state.registry.translators:
        state.registry.named(name)
    pair = split_pair(languages)
    if pair is None:
        if re.fullmatch(r"\w+-[a-z]{2,3}", languages):
            raise Fault(400, "unknown_language", f"{languages[:40]!r} is no pair of languages", "model")
        return model, (None, languages)
    return model, (None if pair[0] == "*" else pair[0], pair[1])


def _refuse(body: Mapping[str, Any]) -> None:
    """Refuse what would change the answer and isn't done; what is about sampling is let go."""
    if body.get("n") not in (None, 1):
        raise invalid("n must be 1; /v1/translate gives n_best", "n")
    for name in (
        "stop",
        "tools",
        "functions",
        "response_format",
        "logprobs",
        "top_logprobs",
        "logit_bias",
        "audio",
    ):
        value = body.get(name)
        if value and not (name == "response_format" and value == {"type": "text"}):
            raise invalid(f"{name} is not supported by this server", name)


def _last_message(body: Mapping[str, Any]) -> str:
    messages = body.get("messages")
    if not isinstance(messages, list) or not messages or not all(isinstance(each, dict) for each in messages):
        raise invalid("messages must be a list with a message at least", "messages")
    last = messages[-1]
    if last.get("role") != "user":
        raise invalid("the last message must be the user's: it is what is translated or answered", "messages")
    content = last.get("content")
    if isinstance(content, list):
        parts = [part for part in content if isinstance(part, dict)]
        if len(parts) != len(content) or any(part.get("type") != "text" for part in parts):
            raise invalid("content may have parts of type text only", "messages")
        content = "".join(str(part.get("text", "")) for part in parts)
    if not isinstance(content, str) or not content:
        raise invalid("content must be a text", "messages")
    return content


def _read_prompt(text: str) -> tuple[str, str, str] | None:
    """Source, target and text of a prompt as X-ALMA's; None if it is none."""
    head, _, rest = text.partition("\n")
    source, _, target = head.removeprefix(_PROMPT).removesuffix(":").partition(" to ")
    first, last = f"{source}: ", f"\n{target}:"
    words = rest.rstrip().removeprefix(first).removesuffix(last)
    if f"{_PROMPT}{source} to {target}:\n{first}{words}{last}" != text.rstrip():
        return None
    try:
        return find(source).nllb, find(target).nllb, words
    except UnknownLanguage:
        return None


def _options(body: Mapping[str, Any]) -> dict[str, Any]:
    options: dict[str, Any] = {}
    for name in ("max_tokens", "max_completion_tokens"):
        most = body.get(name)
        if most is None:
            continue
        if isinstance(most, bool) or not isinstance(most, int) or most < 1:
            raise invalid(f"{name} must be a whole number from 1 on", name)
        # NLLB counts its language code, which is no word of the answer.
        options["max_new_tokens"] = min(most + 1, _MOST_TOKENS)
    return options


def _flag(body: Mapping[str, Any], name: str) -> bool:
    value = body.get(name)
    if not isinstance(value, (bool, type(None))):
        raise invalid(f"{name} must be true or false", name)
    return bool(value)


def _object(body: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    value = body.get(name)
    if not isinstance(value, (dict, type(None))):
        raise invalid(f"{name} must be an object", name)
    return value or {}


# ---- what is answered --------------------------------------------------------------------------------------


def _work(state: State, asked: _Asked) -> Callable[[Calls, Callable[[Any], None]], None]:
    def work(calls: Calls, put: Callable[[Any], None]) -> None:
        if asked.question:
            _answer_question(state, asked, calls, put)
            return
        for result in live(asked.order, state, calls, put):
            put(result)

    return work


def _answer_question(state: State, asked: _Asked, calls: Calls, put: Callable[[Any], None]) -> None:
    order = asked.order
    translator = state.registry.named(order.model or asked.name)
    options = {"beams": 1, "max_new_tokens": 512, **order.options, "timeout": calls.left}
    with translator.use(calls.check) as loaded:
        pieces = loaded.ask_live(order.texts[0], order.targets[0].nllb, **options)
        while True:
            try:
                piece = next(pieces)
            except StopIteration as end:
                put(_Answered(bool(end.value)))
                return
            calls.check()
            put(piece)


async def _gathered(things: AsyncIterator[Any]) -> list[Any]:
    return [thing async for thing in things]


async def _chunks(
    state: State, asked: _Asked, things: AsyncIterator[Any], head: dict[str, Any], counts: bool
) -> AsyncIterator[bytes]:
    """Server-sent events, as OpenAI's client reads them."""
    made: Result | _Answered | None = None
    text, begun = "", False

    def chunk(delta: dict[str, Any], reason: str | None = None) -> bytes:
        choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": reason}
        return _line({**head, "choices": [choice], **({"usage": None} if counts else {})})

    try:
        async for thing in things:
            if not begun:
                begun = True
                yield chunk({"role": "assistant", "content": ""})
            if isinstance(thing, str):
                text += thing
                yield chunk({"content": thing})
            else:
                made = thing
    except (Fault, DragomanError) as error:
        if not begun:
            raise
        fault = fault_of(error) if isinstance(error, DragomanError) else error
        problem = {"message": fault.message, "type": "server_error", "param": None, "code": fault.code}
        yield _line({"error": problem})
        return
    if not begun:
        yield chunk({"role": "assistant", "content": ""})
    yield chunk({}, _reason(made))
    if counts:
        usage = await asyncio.to_thread(_usage, state, asked, text)
        yield _line({**head, "choices": [], "usage": usage})
    yield b"data: [DONE]\n\n"


def _line(data: Mapping[str, Any]) -> bytes:
    return f"data: {json.dumps(data, ensure_ascii=False)}\n\n".encode()


def _reason(made: Result | _Answered | None) -> str:
    if isinstance(made, _Answered):
        return "stop" if made.is_complete else "length"
    cut = made is not None and any(
        sentence.candidates and not sentence.candidates[0].complete for sentence in made.sentences
    )
    return "length" if cut else "stop"


def _usage(state: State, asked: _Asked, text: str) -> dict[str, int]:
    measure = state.registry.named(asked.order.model or asked.name).measure
    prompt, completion = measure(asked.order.texts[0]), measure(text)
    return {
        "prompt_tokens": prompt,
        "completion_tokens": completion,
        "total_tokens": prompt + completion,
    }
