"""What requests ask for, whatever their dialect, and how it is done."""

from collections import defaultdict
from collections.abc import AsyncGenerator, Iterable, Iterator, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from dragoman.documents.document import Document
from dragoman.errors import DragomanError, InvalidDocument, TranslationWarning, UnknownLanguage
from dragoman.languages import Language, of_code
from dragoman.server.faults import Fault, fault_of, invalid
from dragoman.server.fragments import Joint, XmlRules, joined_lines, read, written
from dragoman.server.registry import Registry
from dragoman.server.settings import Settings
from dragoman.server.work import Calls, Hops
from dragoman.text.detect import Detection, detect

if TYPE_CHECKING:
    from dragoman.server.models import Model
    from dragoman.translation.documents import SegmentTranslation
    from dragoman.translation.results import Sentence, Text, Translation

Format = Literal["text", "html", "xml"]

_CANDIDATES = 4
"""Hypotheses of a sentence among which one is looked for that keeps all tags."""


@dataclass(frozen=True)
class Order:
    """Texts to translate."""

    texts: tuple[str, ...]
    source: Language | None
    """None: each text's own is detected."""
    targets: tuple[Language, ...]
    model: str | None = None
    """None: whichever model translates the pair."""
    format: Format = "text"
    rules: XmlRules = field(default_factory=XmlRules)
    """For XML."""
    line_breaks: bool = True
    """Whether a line break ends a sentence; else it becomes a space."""
    options: Mapping[str, Any] = field(default_factory=dict)
    """Options of `Translator.stream`."""

    @property
    def characters(self) -> int:
        """What is counted and limited."""
        return sum(map(len, self.texts)) * len(self.targets)

    def check(self, settings: Settings) -> None:
        """Raise a Fault if it is more than the server takes at once."""
        count = len(self.texts) * len(self.targets)
        if count > settings.max_texts:
            raise invalid(
                f"there are {count} translations to make; at most {settings.max_texts} are made at once"
            )
        check_length(self.characters, settings)
        for name, most in (("beams", settings.max_beams), ("n_best", settings.max_alternatives)):
            if self.options.get(name, 1) > most:
                raise invalid(f"{name} is {self.options[name]}; at most {most} are given here", name)


def check_length(characters: int, settings: Settings) -> None:
    """Raise a Fault if these are more characters than the server takes at once."""
    most = settings.max_characters
    if characters > most:
        said = f"the request has {characters:,} characters; at most {most:,} are taken"
        raise Fault(413, "too_long", said)


@dataclass(frozen=True)
class Result:
    """What became of one text in one target language."""

    index: int
    """Of the text in its order."""
    text: str
    source: Language | None
    target: Language
    model: str
    detected: Detection | None = None
    """If the source was not given and the text shows it."""
    pivot: str | None = None
    alternatives: tuple[str, ...] = ()
    sentences: "tuple[Sentence, ...]" = ()
    warnings: tuple[TranslationWarning, ...] = ()
    error: DragomanError | None = None
    """Why the text is still that of the source."""

    @property
    def is_remembered(self) -> bool:
        """Whether all of it comes from a translation memory; of markup that isn't told."""
        origins = {sentence.candidates[0].origin for sentence in self.sentences if sentence.candidates}
        return origins == {"memory"}


def fulfil(order: Order, registry: Registry, calls: Calls) -> list[Result]:
    """All results, in their order. Raises the error of the first that has one."""
    results = []
    for result in stream(order, registry, calls):
        if result.error is not None:
            raise result.error
        results.append(result)
    return in_order(order, results)


def in_order(order: Order, results: Iterable[Result]) -> list[Result]:
    """Results by texts and then by target languages."""
    places = {target: place for place, target in enumerate(order.targets)}
    return sorted(results, key=lambda result: (result.index, places[result.target]))


def stream(order: Order, registry: Registry, calls: Calls) -> Iterator[Result]:
    """Results as they are done."""
    by_model, lost = _by_model(order, registry)
    yield from lost
    for (name, source), places in by_model.items():
        translator = registry.translators[name]
        if order.format == "text":
            yield from _texts(order, translator, name, places, calls)
        else:
            yield from _marked(order, translator, name, source, places, calls)


async def made(order: Order, registry: Registry, calls: Calls, hops: Hops) -> AsyncGenerator[Result, None]:
    """As `stream`, of plain texts, on an event loop."""
    by_model, lost = _by_model(order, registry)
    for result in lost:
        yield result
    for (name, _), places in by_model.items():
        translator = registry.translators[name]
        items, options = _asked(order, translator, places)
        at = iter(places)
        async with aclosing(calls.made(translator, items, hops, **options)) as coming:
            async for translation in coming:
                yield result_of(translation, *next(at), name)


Place = tuple[int, Language]
"""A text's number, and a language that it is to be translated to."""


def _by_model(
    order: Order, registry: Registry
) -> tuple[dict[tuple[str, Language | None], list[Place]], list[Result]]:
    """What each model is to do, and what none can: texts in a language that they turned out to be in."""
    found: defaultdict[tuple[str, Language | None], list[Place]] = defaultdict(list)
    lost = []
    for index, text in enumerate(order.texts):
        source = order.source or registry.source_of(text, order.model)
        for target in order.targets:
            try:
                name = registry.choose(order.model, source, target)
            except Fault as fault:
                if order.source is not None or source is None:
                    raise
                error = UnknownLanguage(fault.message)
                lost.append(Result(index, text, source, target, order.model or registry.default, error=error))
            else:
                found[name, order.source].append((index, target))
    return dict(found), lost


def _texts(
    order: Order, translator: "Model", name: str, places: list[Place], calls: Calls
) -> Iterator[Result]:
    items, options = _asked(order, translator, places)
    for (index, target), made in zip(places, calls.stream(translator, items, **options), strict=True):
        yield result_of(made, index, target, name)


def _asked(order: Order, translator: "Model", places: list[Place]) -> "tuple[list[Text], dict[str, Any]]":
    """Texts and options, as `Translator.stream` takes them."""
    from dragoman.translation.results import Text

    source = None if order.source is None else order.source.nllb
    items = [Text(text_of(order, index), source, target.nllb) for index, target in places]
    return items, {**order.options, **_beams(order, translator)}


def text_of(order: Order, index: int) -> str:
    """A text as its sentences are to be found."""
    text = order.texts[index]
    return text if order.line_breaks else joined_lines(text)


def _beams(order: Order, translator: "Model") -> dict[str, int]:
    """As many beams as hypotheses are wanted, if nobody said how many."""
    wanted = order.options.get("n_best", 1)
    if wanted == 1 or order.options.get("sample") or "beams" in order.options:
        return {}
    return {"beams": max(wanted, translator.defaults.get("beams", 4))}


def result_of(made: "Translation", index: int, target: Language, name: str) -> Result:
    """A translation as a result."""
    return Result(
        index,
        made.text,
        of_code(made.source) if made.source else None,
        target,
        name,
        made.detected,
        made.pivot,
        made.alternatives,
        made.sentences,
        made.warnings,
        made.error,
    )


# ---- markup ------------------------------------------------------------------------------------------------


def _marked(
    order: Order,
    translator: "Model",
    name: str,
    source: Language | None,
    places: list[Place],
    calls: Calls,
) -> Iterator[Result]:
    """Fragments of HTML or XML: those of one language pair together, so that a round is one for all."""
    assert order.format != "text"
    codes = frozenset(language.nllb for language in translator.languages)
    groups: defaultdict[tuple[Language, Language], list[_Member]] = defaultdict(list)
    for index, target in places:
        try:
            document = read(order.texts[index], order.format, order.rules)
        except InvalidDocument as error:
            raise Fault(400, "invalid_document", f"text {index + 1}: {error}", "text") from None
        found = None
        if source is None:
            found = detect("\n".join(segment.text for segment in document.segments), codes)
        spoken = source or (of_code(found.code) if found else target)
        groups[spoken, target].append((index, document, found))
    for (spoken, target), members in groups.items():
        joint = Joint(document for _, document, _ in members)
        done = iter(_translated(joint, translator, spoken, target, order.options, calls))
        for index, document, found in members:
            segments = [next(done) for _ in document.segments]
            text = written(document, [segment.parts for segment in segments])
            yield Result(index, text, spoken, target, name, found, warnings=_warnings(segments))


_Member = tuple[int, Document, Detection | None]


def _warnings(segments: "Sequence[SegmentTranslation]") -> tuple[TranslationWarning, ...]:
    warnings = [warning for segment in segments for warning in segment.warnings]
    errors = [segment.error for segment in segments if segment.error is not None]
    if errors:
        said = f"{len(errors)} of {len(segments)} segments are as they were: {fault_of(errors[0])}"
        warnings.append(TranslationWarning(said, "markup"))
    return tuple(warnings)


def _translated(
    document: Joint,
    translator: "Model",
    source: Language,
    target: Language,
    options: Mapping[str, Any],
    calls: Calls,
) -> "list[SegmentTranslation]":
    from dragoman.translation.documents import DocumentTranslator

    beams = options.get("beams", translator.defaults.get("beams", _CANDIDATES))
    n_best = 1 if options.get("sample") else min(_CANDIDATES, beams)
    chosen = {**options, "n_best": n_best, "retry": True}

    def translate(texts: Iterable[str]) -> "Iterator[Translation]":
        return calls.stream(translator, texts, source=source.nllb, target=target.nllb, **chosen)

    return DocumentTranslator(document, translate, translator.lacks).run()
