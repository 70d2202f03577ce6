"""Results as JSON, one object a line."""

import json
from collections import Counter
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from dragoman.cli.inputs import Item
from dragoman.cli.messages import worded

if TYPE_CHECKING:
    from dragoman.errors import DragomanError, TranslationWarning
    from dragoman.translation.documents import SegmentTranslation
    from dragoman.translation.files import DocumentTranslation
    from dragoman.translation.results import Translation


def as_json(record: dict[str, Any] | list[dict[str, Any]]) -> str:
    """One line of JSON; what isn't Unicode (a lone surrogate) is escaped."""
    text = json.dumps(record, ensure_ascii=False)
    return text.encode("utf-8", "backslashreplace").decode("utf-8")


def translation_record(item: Item, result: "Translation") -> dict[str, Any]:
    """All that is known of one text's translation."""
    return {
        "line": item.number,
        "source_text": item.text,
        "text": result.text,
        "source": result.source,
        "target": result.target,
        "detected": result.detected
        and {"language": result.detected.code, "confidence": result.detected.confidence},
        "pivot": result.pivot,
        "sentences": [
            {
                "source": sentence.source,
                "candidates": [
                    {
                        "text": c.text,
                        "score": c.score,
                        "tokens": c.tokens,
                        "complete": c.complete,
                        "origin": c.origin,
                    }
                    for c in sentence.candidates
                ],
                "similar": [asdict(match) for match in sentence.similar],
            }
            for sentence in result.sentences
        ],
        "terms": [{"source": t.source, "target": t.target, "kept": kept} for t, kept in result.terms],
        "warnings": [_warning(warning) for warning in result.warnings],
    }


def error_record(item: Item, error: "DragomanError") -> dict[str, Any]:
    """Why a text was not translated; the text is null where the input held none."""
    text = item.text if isinstance(item.text, str) else None
    return {"line": item.number, "source_text": text, "error": worded(error)}


def document_record(
    file: str, place: str, result: "DocumentTranslation", is_whole: bool = False
) -> dict[str, Any]:
    """What became of a document, and of its segments that a reader should look at; or of all."""
    return {
        "input": file,
        "output": place,
        "source": result.source,
        "target": result.target,
        "segments": len(result.segments),
        "ways": dict(Counter(one.way for one in result.segments if one.way)),
        "skipped": list(result.skipped),
        "terms": {"kept": result.terms[0], "all": result.terms[1]},
        "flagged": [_segment(one, result.unit) for one in result.flagged],
        **({"all": [_segment(one, result.unit) for one in result.segments]} if is_whole else {}),
    }


def _segment(one: "SegmentTranslation", unit: str) -> dict[str, Any]:
    return {
        unit: one.segment.place,
        "name": one.segment.name,
        "source_text": one.segment.text,
        "text": one.text,
        "way": one.way,
        "error": None if one.error is None else worded(one.error),
        "warnings": [_warning(warning) for warning in one.warnings],
    }


def _warning(warning: "TranslationWarning") -> dict[str, Any]:
    return {"kind": warning.kind, "sentence": warning.sentence, "message": str(warning)}
