"""The bodies of our own API, made from the options they stand for."""

from dataclasses import fields
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, create_model

from dragoman.errors import InvalidOption
from dragoman.generation.options import GenerationOptions
from dragoman.server.faults import Fault
from dragoman.server.openapi import one_of, spellings
from dragoman.server.registry import Registry
from dragoman.server.settings import Settings
from dragoman.translation.options import TextOptions, field_docs

_LEFT_OUT = frozenset(("suppress", "early_stopping"))
"""What tells too much of a model to be asked for from outside."""
_BOUNDS: dict[str, tuple[float, float]] = {
    "max_new_tokens": (1, 1024),
    "length_penalty": (-10, 10),
    "no_repeat_ngram": (0, 64),
    "repetition_penalty": (0.01, 100),
    "temperature": (0.01, 100),
    "top_k": (0, 10**6),
    "top_p": (0.001, 1),
    "seed": (0, 2**53),
}


class Strict(BaseModel):
    """A body that may have no other fields than these, of these very types."""

    model_config = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)


def translate_request(settings: Settings, registry: Registry) -> type[Strict]:
    """The body of `/v1/translate`: texts and languages, and the fields of `GenerationOptions`."""
    code = spellings(registry.languages)
    codes: dict[str, Any] = {"anyOf": [code, {"type": "array", "minItems": 1, "items": code}]}
    source: dict[str, Any] = {"anyOf": [spellings(registry.languages, "auto"), {"type": "null"}]}
    likely: dict[str, Any] = {"anyOf": [code, {"type": "null"}]}
    models: dict[str, Any] = {"anyOf": [one_of(registry.translators), {"type": "null"}]}
    texts: dict[str, Any] = {
        "anyOf": [{"type": "string"}, {"type": "array", "minItems": 1, "items": {"type": "string"}}]
    }
    one = dict[str, Any](
        text=(
            str | list[str],
            Field(
                description="A text, or several.",
                examples=["Good morning!", ["Yes.", "No."]],
                json_schema_extra=texts,
            ),
        ),
        target=(
            str | list[str],
            Field(
                description="The language to translate to, in any spelling, or several.",
                examples=["fr"],
                json_schema_extra=codes,
            ),
        ),
        source=(
            str | None,
            Field(
                None,
                description="The language of the texts; each one's is detected if left out, or auto.",
                json_schema_extra=source,
            ),
        ),
        model=(
            str | None,
            Field(
                None,
                description="A name of `/v1/models`; left out: chosen by languages.",
                json_schema_extra=models,
            ),
        ),
        format=(
            Literal["text", "html", "xml"],
            Field(
                "text", description="What the texts are; tags of HTML and XML come back around their words."
            ),
        ),
        ignore_tags=(list[str], Field([], description="Of XML: what is in these tags is not translated.")),
        glossary=(
            str | dict[str, str] | None,
            Field(None, description="What terms are to be: the id of a glossary, or terms by themselves."),
        ),
        retry=(bool, Field(False, description=field_docs(TextOptions)["retry"])),
        stream=(bool, Field(False, description="Answer by server-sent events, as the translation grows.")),
        direct=(
            bool,
            Field(False, description="Don't go by way of English, even if the model learned no other."),
        ),
        likely_source=(
            str | None,
            Field(
                None, description="The language of texts that don't show theirs.", json_schema_extra=likely
            ),
        ),
        timeout=(
            float | None,
            Field(None, ge=0.01, le=settings.timeout, description="Seconds that it may take."),
        ),
    )
    return create_model("TranslateRequest", __base__=Strict, **one, **_generation(settings))


def _generation(settings: Settings) -> dict[str, Any]:
    docs = field_docs(GenerationOptions)
    bounds = {**_BOUNDS, "beams": (1, settings.max_beams), "n_best": (1, settings.max_alternatives)}
    found: dict[str, Any] = {}
    for option in fields(GenerationOptions):
        if option.name not in _LEFT_OUT:
            low, high = bounds.get(option.name, (None, None))
            kind = type(option.default)
            found[option.name] = (kind | None, Field(None, description=docs[option.name], ge=low, le=high))
    return found


class DetectRequest(Strict):
    """The body of `/v1/detect`."""

    text: str | Annotated[list[str], Field(min_length=1)] = Field(description="A text, or several.")


class Warned(BaseModel):
    """What should be looked at."""

    kind: str
    message: str
    sentence: int | None = None


class Detected(BaseModel):
    """The language of a text, and its probability."""

    language: str
    confidence: float
    sure: bool


class Candidate(BaseModel):
    """One translation of a sentence, and its score."""

    text: str
    score: float
    complete: bool


class SentenceFound(BaseModel):
    """A sentence with its translations, best first."""

    source: str
    candidates: list[Candidate]


class Translated(BaseModel):
    """One text in one language."""

    index: int = Field(description="Which of the texts it is, from 0 on.")
    text: str
    source: str | None = Field(description="Code of the language it was in; null if an error came before.")
    target: str
    model: str
    detected: Detected | None = None
    pivot: str | None = Field(None, description="Code of the language it went through.")
    origin: Literal["model", "memory"] = Field(
        "model", description="memory: all of the text comes from the server's translation memory."
    )
    alternatives: list[str] = Field([], description="Of a text of one sentence.")
    sentences: list[SentenceFound] = Field([], description="If n_best is above 1.")
    warnings: list[Warned] = []
    error: str | None = Field(None, description="Why the text is untranslated.")


class TranslateResponse(BaseModel):
    """Translations by texts, and then by target languages."""

    translations: list[Translated]


class DetectResponse(BaseModel):
    """The languages of texts; null for one that has no words."""

    detections: list[Detected | None]


class LanguageFound(BaseModel):
    """A language, and which models speak it."""

    code: str
    short: str
    name: str
    own_name: str
    script: str
    right_to_left: bool
    models: list[str]


class LanguagesResponse(BaseModel):
    """What can be translated."""

    languages: list[LanguageFound]


class ModelFound(BaseModel):
    """A model; the first four fields are those of OpenAI."""

    id: str
    object: Literal["model"] = "model"
    created: int
    owned_by: str
    licence: str
    non_commercial: bool
    precision: str
    loaded: bool
    languages: list[str]
    pivot: str | None
    answers_questions: bool


class ModelsResponse(BaseModel):
    """The models of this server; the first translates for requests that name none."""

    object: Literal["list"] = "list"
    data: list[ModelFound]


class Problem(BaseModel):
    """What went wrong."""

    message: str
    type: str
    param: str | None
    code: str


class ErrorResponse(BaseModel):
    """Every error of `/v1`, in OpenAI's shape."""

    error: Problem


def read(model: type[Strict], data: dict[str, Any]) -> Any:
    """A body as its model has it. Raises a Fault that says what is wrong with the first field that is."""
    try:
        return model.model_validate(data)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False, include_context=False)[0]
        param = ".".join(str(part) for part in first["loc"][:1])
        known = ", ".join(model.model_fields)
        said = (
            f"there is no such field; the fields are {known}"
            if first["type"] == "extra_forbidden"
            else first["msg"]
        )
        raise Fault(400, "invalid_request", f"{param[:80]}: {said}", param[:80]) from None
    except InvalidOption as error:
        raise Fault(400, "invalid_request", str(error)) from None
