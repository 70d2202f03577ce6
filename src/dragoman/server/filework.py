"""Files that requests bring, translated."""

import re
import unicodedata
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

from dragoman.documents.formats import FORMATS, find_format, parse
from dragoman.languages import Language, of_code
from dragoman.server.state import State
from dragoman.server.work import Calls

if TYPE_CHECKING:
    from dragoman.server.models import Model
    from dragoman.text.glossary import Glossary
    from dragoman.translation.recall import Recall
    from dragoman.translation.results import Translation
    from dragoman.translation.translator import Translator

EXTENSIONS = tuple(extension for format in FORMATS for extension in format.extensions)
_SAMPLE = 20_000


@dataclass(frozen=True)
class FileOrder:
    """A file to translate."""

    name: str
    """It tells the format."""
    source: Language | None
    target: Language
    model: str | None = None
    glossaries: tuple[str, ...] = ()
    """Ids of its owner's."""


@dataclass(frozen=True)
class FileResult:
    """A translated file."""

    name: str
    data: bytes
    source: Language | None
    characters: int
    segments: int
    flagged: int
    """Segments that a reader should look at."""


class _Held:
    """A translator as `translate_document` needs it, whose calls end with those of a request."""

    def __init__(self, translator: "Model", calls: Calls) -> None:
        self._translator, self._calls = translator, calls
        self.languages, self.defaults, self.lacks = (
            translator.languages,
            translator.defaults,
            translator.lacks,
        )

    def stream(self, texts: Iterable[str], **options: Any) -> "Iterator[Translation]":
        return self._calls.stream(self._translator, texts, **options)


def translate(
    state: State,
    order: FileOrder,
    data: bytes,
    calls: Calls,
    progress: Callable[[int, int], None],
    count: Callable[[int], None],
    glossary: "Glossary | None",
    recall: "Recall | None" = None,
) -> FileResult:
    """Translate a file, in the thread that calls.

    count: told how many characters there are to translate, before any is; it may raise. recall: what is known
    already. Raises InvalidDocument, and a Fault.
    """
    from dragoman.translation.files import translate_document

    name = order.name
    document = parse(data, find_format(name, data))
    texts = [segment.text for segment in document.segments]
    characters = sum(map(len, texts))
    count(characters)
    source = order.source
    if source is None and len(state.registry.translators) > 1:
        found = state.registry.detect("\n".join(texts)[:_SAMPLE])
        source = of_code(found.code) if found and found.sure else None
    model = state.registry.choose(order.model, source, order.target)
    held = cast("Translator", _Held(state.registry.translators[model], calls))
    spoken = source.nllb if source else None
    options: dict[str, Any] = {} if glossary is None else {"glossary": glossary}
    made = translate_document(held, document, spoken, order.target.nllb, progress, recall, options)
    state.metrics.file(model, order.target, characters)
    return FileResult(
        _named(name, order.target),
        made.data,
        of_code(made.source) if made.source else None,
        characters,
        len(made.segments),
        len(made.flagged),
    )


def _named(name: str, target: Language) -> str:
    stem, _dot, extension = name.rpartition(".")
    return f"{stem}.{target.short_code}.{extension}"


def safe_name(name: str) -> str:
    """A file's name without folders, and without what could be anything else than a name."""
    last = re.split(r"[/\\]", unicodedata.normalize("NFC", name))[-1]
    stem, dot, extension = re.sub(r"[^\w .()+-]", "_", last).strip(" .").rpartition(".")
    if not dot:
        return extension[:80] or "file"
    return f"{stem[:80] or 'file'}.{extension[:12]}"
