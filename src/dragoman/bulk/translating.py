"""Texts of a block to their translations: equal ones once, those of one language pair and length together."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from dragoman.bulk.order import Order
from dragoman.errors import CheckpointError, InvalidText, LanguageModuleError, NotEnoughMemory
from dragoman.languages import find
from dragoman.translation.preparing import TextJob
from dragoman.translation.results import Text, Translation

if TYPE_CHECKING:
    from dragoman.translation.translator import Translator

_OF_THE_MODEL = (CheckpointError, LanguageModuleError, NotEnoughMemory)
"""Errors with which other rows fare no better, so that the block isn't done."""
LANGUAGE = "language"
"""The kind of warnings about the language that a text is in."""

Progress = Callable[[int, int], None]
Asked = tuple[str, str | None]
"""A text, and the language that its row says it is in."""


@dataclass(frozen=True)
class RowResult:
    """What became of a row."""

    translations: tuple[str | None, ...]
    """By target language; None where there is none."""
    source: str | None = None
    """NLLB code of the language it is in; None if that isn't known."""
    warnings: tuple[str, ...] = ()
    error: str | None = None
    sentences: int = 0


class RowTranslator:
    """Translates the texts of blocks as an order says."""

    def __init__(self, translator: "Translator", order: Order, fallback: "Translator | None" = None) -> None:
        """fallback: the model that the order names so. Raises UnknownLanguage."""
        self._translator, self._order = translator, order
        self._targets = [find(target.nllb, translator.languages) for target in order.targets]
        source = order.source
        self._source = None if source is None else find(source.nllb, translator.languages).nllb
        aids = {"glossary": order.glossary, "fallback": fallback}
        self._options: dict[str, Any] = {
            **order.options,
            **{name: aid for name, aid in aids.items() if aid is not None},
        }

    def translate(
        self,
        texts: Sequence[object],
        sources: Sequence[object] | None = None,
        progress: Progress | None = None,
    ) -> list[RowResult]:
        """What becomes of each text. sources: what the rows say of their languages, if they do.

        The language of a text that doesn't show it is that of most texts before it, within these. progress:
        told (sentences done, sentences known so far).
        """
        spoken = [None] * len(texts) if sources is None else sources
        rows = [self._asked(text, source) for text, source in zip(texts, spoken, strict=True)]
        found = self._translated(list(dict.fromkeys(row for row in rows if isinstance(row, tuple))), progress)
        nothing = (None,) * len(self._targets)
        return [found[row] if isinstance(row, tuple) else RowResult(nothing, error=row) for row in rows]

    def _asked(self, text: object, source: object) -> Asked | str:
        """What is to be translated, or why that is impossible."""
        for value in (text, source):
            if isinstance(value, InvalidText):
                return str(value)
        if text is None:
            return "there is no text"
        if not isinstance(text, str):
            return f"a text must be a string, not {type(text).__name__}"
        if len(text) > self._order.longest:
            return (
                f"the text has {len(text):,} characters; at most {self._order.longest:,} are translated "
                "(--max-characters)"
            )
        if source is not None and not isinstance(source, str):
            return f"a language must be a string, not {type(source).__name__}"
        return text, (source or "").strip() or None

    def _translated(self, asked: Sequence[Asked], progress: Progress | None) -> dict[Asked, RowResult]:
        run = self._translator.run(self._source, self._targets[0].nllb, progress, **self._options)
        found: dict[tuple[Asked, int], Translation] = {}
        jobs: list[tuple[TextJob, Asked, int]] = []
        for one in asked:
            for place, target in enumerate(self._targets):
                prepared = run.preparing.prepare(Text(*one, target.nllb))
                if isinstance(prepared, TextJob):
                    jobs.append((prepared, one, place))
                else:
                    found[one, place] = prepared
        jobs.sort(key=lambda job: (job[0].source.nllb, job[0].target.nllb, -len(job[0].text)))
        results = run.translations([job for job, _, _ in jobs])
        for (_, one, place), result in zip(jobs, results, strict=True):
            found[one, place] = result
        return {
            one: self._row(one, [found[one, place] for place in range(len(self._targets))]) for one in asked
        }

    def _row(self, asked: Asked, results: Sequence[Translation]) -> RowResult:
        is_given = self._source is not None or asked[1] not in (None, "auto")
        errors: dict[str, None] = {}
        warnings: dict[str, None] = {}
        translations: list[str | None] = []
        for target, result in zip(self._targets, results, strict=True):
            about = f"{target.short_code}: " if len(results) > 1 else ""
            error = self._error(result, is_given)
            translations.append(None if error else result.text)
            if error:
                errors[error if error in errors or result.error is None else about + error] = None
            for warning in result.warnings:
                of_text = warning.kind == LANGUAGE
                if not (of_text and error):
                    warnings[f"{'' if of_text else about}{warning.kind}: {warning}"] = None
        first = results[0]
        source = first.source if is_given or first.detected else None
        sentences = sum(len(result.sentences) for result in results)
        return RowResult(
            tuple(translations), source or None, tuple(warnings), "; ".join(errors) or None, sentences
        )

    def _error(self, result: Translation, is_given: bool) -> str | None:
        if isinstance(result.error, _OF_THE_MODEL):
            raise result.error
        if result.error is not None:
            return str(result.error)
        if not is_given and result.detected is None:
            found = (str(warning) for warning in result.warnings if warning.kind == LANGUAGE)
            return next((said.removesuffix(" It was left as it was.") for said in found), None)
        return None
