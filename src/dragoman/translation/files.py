"""Files in, files out: a document's language, its translation, and what the new file is called."""

import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dragoman.documents.document import Document
from dragoman.errors import InvalidOption, TranslationWarning
from dragoman.files import OutputFile
from dragoman.languages import Language, find, find_source
from dragoman.text.detect import Detection, detect
from dragoman.text.glossary import Glossary, missing
from dragoman.translation.assembling import GLOSSARY, terms_lacking
from dragoman.translation.documents import DocumentTranslator, SegmentTranslation
from dragoman.translation.pipeline import Progress
from dragoman.translation.recall import Recall

if TYPE_CHECKING:
    from dragoman.translation.translator import Translator

CANDIDATES = 4
"""Hypotheses of each sentence among which one is looked for that keeps everything."""
_SAMPLE = 20_000
"""Characters from which a document's language is found."""


@dataclass(frozen=True)
class DocumentTranslation:
    """What became of a document."""

    data: bytes
    """The translated file."""
    source: str | None
    """NLLB code of the language it is in; None if each segment's was detected by itself."""
    target: str
    """NLLB code of the language it was translated to."""
    segments: tuple[SegmentTranslation, ...]
    unit: str = "line"
    """What `place` of a segment counts."""
    skipped: tuple[int, ...] = ()
    """Places of words that the format's rules leave unreadable; they stay as they are."""
    detected: Detection | None = None
    """How the source language was found, if it wasn't given."""
    path: Path | None = None
    """Where it was written."""

    terms: tuple[int, int] = (0, 0)
    """Of how many terms of the glossary that the document has the translation has how many: (kept, all)."""

    @property
    def flagged(self) -> list[SegmentTranslation]:
        """The segments that a reader should look at."""
        return [segment for segment in self.segments if segment.error or segment.warnings]


def translate_document(
    translator: "Translator",
    document: Document,
    source: str | None,
    target: str | None,
    progress: Progress | None,
    recall: Recall | None,
    options: dict[str, Any],
) -> DocumentTranslation:
    """Translate a document's segments as one call's; see `Translator.translate_document`."""
    goal = find("eng_Latn" if target is None else target, translator.languages)
    spoken, detected = _source(document, source, translator.languages)
    beams = options.get("beams", translator.defaults.get("beams", CANDIDATES))
    usual = {"n_best": 1 if options.get("sample") else min(CANDIDATES, beams), "retry": True}
    options = usual | options

    def translate(texts: Iterable[str]) -> Any:
        named = spoken.nllb if spoken else None
        return translator.stream(
            texts, source=named, target=goal.nllb, progress=progress, recall=recall, **options
        )

    segments = DocumentTranslator(document, translate, translator.lacks).run()
    terms = 0, 0
    glossary = options.get("glossary")
    if glossary is not None and spoken is not None and spoken != goal:
        segments, terms = _looked_over(segments, glossary, spoken, goal)
    data = document.render([segment.parts for segment in segments], goal.short_code)
    return DocumentTranslation(
        data,
        spoken.nllb if spoken else None,
        goal.nllb,
        tuple(segments),
        document.unit,
        tuple(document.skipped),
        detected,
        terms=terms,
    )


def _looked_over(
    segments: Sequence[SegmentTranslation], glossary: Glossary, source: Language, target: Language
) -> tuple[list[SegmentTranslation], tuple[int, int]]:
    """Segments with a warning for terms that they lack; how many terms are there, and how many should be."""
    result = []
    kept = total = 0
    for one in segments:
        terms = glossary.terms_in(one.segment.text, source, target)
        lost = [] if one.parts is None else missing(terms, one.text, target)
        warnings = tuple(warning for warning in one.warnings if warning.kind != GLOSSARY)
        if lost:
            warnings += (TranslationWarning(terms_lacking(lost), GLOSSARY),)
        result.append(replace(one, warnings=warnings))
        total += len(terms)
        kept += len(terms) - (len(lost) if one.parts is not None else len(terms))
    return result, (kept, total)


def translate_file(
    translator: "Translator",
    path: str | os.PathLike[str],
    source: str | None,
    target: str | None,
    output: str | os.PathLike[str] | None,
    read: Callable[[], Document],
    progress: Progress | None,
    recall: Recall | None,
    options: dict[str, Any],
) -> DocumentTranslation:
    """Translate a file to a file, once `read` has read it; see `Translator.translate_file`."""
    goal = find("eng_Latn" if target is None else target, translator.languages)
    spoken = None if source is None else find_source(source, translator.languages)
    if output is None:
        output = beside(path, goal, spoken)
        if output.exists():
            raise InvalidOption(f"{output} exists already; say output={str(output)!r} to replace it")
    document = read()
    result = translate_document(translator, document, source, target, progress, recall, options)
    with OutputFile(Path(output)) as file:
        file.write(result.data)
    return replace(result, path=Path(output))


def _source(
    document: Document, given: str | None, languages: Sequence[Language]
) -> tuple[Language | None, Detection | None]:
    """The language of a document: what was said, or else what all of its text shows."""
    spoken = None if given is None else find_source(given, languages)
    if spoken is not None:
        return spoken, None
    sample: list[str] = []
    length = 0
    for segment in document.segments:
        text = segment.text
        sample.append(text[: _SAMPLE - length])
        length += len(text)
        if length >= _SAMPLE:
            break
    found = detect("\n".join(sample), frozenset(language.nllb for language in languages))
    if found is None or not found.sure:
        return None, None
    return next(language for language in languages if language.nllb == found.code), found


def beside(path: str | os.PathLike[str], target: Language, source: Language | None = None) -> Path:
    """What a translation is called by default: report.de.md for report.md and for report.en.md."""
    path = Path(path)
    stem = path.stem
    name, _dot, last = stem.rpartition(".")
    if (
        name
        and source is not None
        and last.lower() in (source.short_code.lower(), source.iso3, source.nllb.lower())
    ):
        stem = name
    return path.with_name(f"{stem}.{target.short_code}{path.suffix}")
