"""Text in, text out: what users of the library hold."""

import json
import os
import sys
from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from dataclasses import replace
from functools import cached_property, partial
from hashlib import sha256
from pathlib import Path
from types import TracebackType
from typing import Any, Self, Unpack, overload

import dragoman
from dragoman import documents
from dragoman.checkpoints.catalog import EMBEDDED, identity, locate
from dragoman.documents.document import Document
from dragoman.errors import InvalidOption
from dragoman.generation.options import GenerationOptions
from dragoman.languages import Language, find, of_code
from dragoman.systems import System, load_system
from dragoman.text.checks import Alphabet
from dragoman.translation.attempts import Attempts, Fallback
from dragoman.translation.feed import several
from dragoman.translation.files import DocumentTranslation, translate_document, translate_file
from dragoman.translation.options import (
    AnswerKeywords,
    LoadKeywords,
    LoadOptions,
    TranslateKeywords,
    card_defaults,
    names,
    refuse_unknown,
    translation_options,
)
from dragoman.translation.pipeline import Pipeline, Progress
from dragoman.translation.preparing import Preparing, TextJob
from dragoman.translation.recall import Recall, Recalls
from dragoman.translation.results import Candidate, Sentence, Text, Translation
from dragoman.translation.running import Run, all_of, answer, live_of, texts_of

__all__ = ["Candidate", "DocumentTranslation", "Sentence", "Text", "Translation", "Translator"]


class Translator:
    """A loaded model that translates strings.

    >>> with Translator.load() as translator:
    ...     translator.translate("Good morning!", source="en", target="fr")

    Any number of threads may use one. Pickled or copied, it is loaded again as it was loaded.
    """

    def __init__(self, system: System, loaded: LoadOptions | None = None) -> None:
        """loaded: how `system` was loaded, which is what a pickle of the translator holds."""
        self.system, self.card = system, system.card
        self.languages: tuple[Language, ...] = tuple(of_code(code) for code in self.card.languages)
        self.defaults = card_defaults(self.card)
        """Options of generation that the model's card gives."""
        self._alphabet = Alphabet(system.tokenizer)
        self._loaded = loaded

    @classmethod
    def load(cls, model: str | Path = EMBEDDED, **options: Unpack[LoadKeywords]) -> Self:
        """Load a model by name, folder or hub repository; `dragoman models` lists the names.

        options: the fields of `LoadOptions`. Raises CheckpointError, ConfigError or KeyMismatch
        if there is no usable model, and InvalidOption.
        """
        refuse_unknown(options, names(LoadOptions)[1:])
        return cls._from(LoadOptions(model, **options))

    @classmethod
    def _from(cls, options: LoadOptions) -> Self:
        if options.threads is not None:
            _work_in(options.threads)
        folder = locate(options.model)
        named = str(options.model)
        system = load_system(
            folder, options.device, named, options.precision, options.memory, options.parallel
        )
        if options.vocabulary is not None:
            system.restrict(options.vocabulary, options.vocabulary_text)
        if Path(options.model).expanduser() == folder:  # for pickles that are read somewhere else
            options = replace(options, model=folder.resolve())
        return cls(system, options)

    # Texts

    @overload
    def translate(  # type: ignore[overload-overlap]  # a str is an iterable of str too
        self,
        text: str | Text,
        source: str | None = ...,
        target: str | None = ...,
        **options: Unpack[TranslateKeywords],
    ) -> str: ...
    @overload
    def translate(
        self,
        text: Iterable[str | Text],
        source: str | None = ...,
        target: str | None = ...,
        **options: Unpack[TranslateKeywords],
    ) -> list[str]: ...
    def translate(
        self,
        text: str | Text | Iterable[str | Text],
        source: str | None = None,
        target: str | None = None,
        **options: Unpack[TranslateKeywords],
    ) -> str | list[str]:
        """Translate a text, or each text of a list; nothing is ever cut off.

        source, target: any spelling of a language ("fr", "French", "fra_Latn"); without
        `source`, or with "auto", each text's language is detected, without `target` it is English. options:
        the fields of `TextOptions` and `GenerationOptions`, such as `beams=4` or `timeout=10`.

        What should be looked at is a TranslationWarning (`warnings`). Raises the error of the first text
        that can't be translated (`stream` gives an error for each instead), and TranslationTimeout. Whatever
        ends it, also an exception from a signal handler, what is under way is cancelled.
        """
        results = all_of(text, self._run(source, target, options))
        return texts_of(text, results)

    @overload
    async def translate_async(  # type: ignore[overload-overlap]
        self,
        text: str | Text,
        source: str | None = ...,
        target: str | None = ...,
        **options: Unpack[TranslateKeywords],
    ) -> str: ...
    @overload
    async def translate_async(
        self,
        text: Iterable[str | Text],
        source: str | None = ...,
        target: str | None = ...,
        **options: Unpack[TranslateKeywords],
    ) -> list[str]: ...
    async def translate_async(
        self,
        text: str | Text | Iterable[str | Text],
        source: str | None = None,
        target: str | None = None,
        **options: Unpack[TranslateKeywords],
    ) -> str | list[str]:
        """As `translate`, for asyncio: other tasks run meanwhile, and cancelling it frees the engine at once.

        (`asyncio.to_thread(translator.translate, ...)` would work on after it has been cancelled.)
        """
        import asyncio  # many milliseconds, for those who have a loop already

        run = self._run(source, target, options)
        try:
            results = await asyncio.to_thread(all_of, text, run)
        finally:
            run.pipeline.stop()
        return texts_of(text, results)

    def stream(
        self,
        texts: Iterable[str | Text],
        source: str | None = None,
        target: str | None = None,
        progress: Progress | None = None,
        recall: Recall | None = None,
        **options: Unpack[TranslateKeywords],
    ) -> Generator[Translation, None, None]:
        """Translate texts in their order, each as soon as it and those before are done.

        texts: any iterable of str, or of `Text` with languages of its own. What isn't a list or tuple is read
        by a thread, some texts ahead, so results come even while it waits for its next text; what it raises
        comes after the results of the texts before.

        A text that can't be translated gives a Translation with an `error`; its neighbours
        don't notice. progress: called with (sentences done, sentences known so far), where one
        that goes by way of English counts twice. recall: what is known of single sentences already; it is
        told what the model made of others. options: as for `translate`. Closing the generator cancels what
        is under way.
        """
        texts = several(texts)
        return self._run(source, target, options, progress, recall=recall).translations(texts)

    def translate_document(
        self,
        document: Document,
        source: str | None = None,
        target: str | None = None,
        progress: Progress | None = None,
        recall: Recall | None = None,
        **options: Unpack[TranslateKeywords],
    ) -> DocumentTranslation:
        """Translate what `documents.open` gives; nothing is written.

        Tags, code and placeholders are checked segment by segment: one whose translation can't keep them
        stays as it is, and is among the result's `flagged`. Without `source` the document's language is
        detected from all of its text. progress, recall, options: as for `stream`; a segment may take several
        rounds.
        """
        return translate_document(self, document, source, target, progress, recall, {**options})

    def translate_file(
        self,
        path: str | os.PathLike[str],
        source: str | None = None,
        target: str | None = None,
        output: str | os.PathLike[str] | None = None,
        format: str | None = None,
        columns: Sequence[str] | None = None,
        max_line: int | None = None,
        progress: Progress | None = None,
        recall: Recall | None = None,
        **options: Unpack[TranslateKeywords],
    ) -> DocumentTranslation:
        """Translate a file to `output`, or beside it: report.md to report.de.md, which must not exist yet.

        format: a name in `documents.FORMATS`, if the file's own name doesn't tell; columns: of a table, those
        to translate; max_line: characters that no line of subtitles may have more than. The rest is as for
        `translate_document`. Raises InvalidDocument for a file that is broken, InvalidOption and OSError;
        then nothing is written.
        """
        document = partial(documents.open, path, format, columns, max_line)
        return translate_file(self, path, source, target, output, document, progress, recall, {**options})

    def lacks(self, text: str) -> str:
        """The characters of a text that the model doesn't know, each once."""
        return self._alphabet.lacks(text)

    def live(
        self,
        text: str,
        source: str | None = None,
        target: str | None = None,
        **options: Unpack[TranslateKeywords],
    ) -> Generator[str, None, None]:
        """Translate a text in pieces, each as soon as no better hypothesis can change it.

        Joined they are what `translate` gives, which explains arguments, errors and warnings; but what was
        handed out can't be taken back, so there is one attempt: without `retry` and `fallback`, which are
        refused, and with the terms of a glossary put in at once.
        """
        for name in ("retry", "fallback"):
            if options.get(name):
                raise InvalidOption(f"{name} is for translations that are handed out when they are done")
        run = self._run(source, target, options, listens=True)
        job = run.preparing.prepare(text)
        if isinstance(job, TextJob):
            return live_of(job, run)
        assert job.error is not None
        raise job.error

    def ask(self, question: str, language: str, **options: Unpack[AnswerKeywords]) -> str:
        """The answer of a chat-tuned model (X-ALMA) to an open question in `language`.

        options: the fields of `GenerationOptions`, and `timeout`. InvalidOption if the model only translates.
        """
        return "".join(self.ask_live(question, language, **options))

    def ask_live(
        self, question: str, language: str, **options: Unpack[AnswerKeywords]
    ) -> Generator[str, None, bool]:
        """As `ask`, in pieces, each as soon as no better answer can change it; returns whether the model
        ended it itself, and not a limit of length."""
        system: Any = self.system
        refuse_unknown(options, list(AnswerKeywords.__annotations__))
        if not hasattr(system, "question"):
            raise InvalidOption(f"{self.card.name} only translates; questions need X-ALMA (--model)")
        text, generation = translation_options(None, None, options, self.defaults)
        job = system.question(question, find(language, self.languages).nllb, generation)
        return answer(system, job, text.timeout)

    def run(
        self,
        source: str | None = None,
        target: str | None = None,
        progress: Progress | None = None,
        listens: bool = False,
        recall: Recall | None = None,
        news: Callable[[], None] | None = None,
        **options: Unpack[TranslateKeywords],
    ) -> Run:
        """A call that hasn't begun, for those who have to end it from another thread (`Run.stop`).

        listens: its texts are read in pieces (`Run.pieces`); news: called in any thread when something has
        happened, for those who don't wait in one of their own (`Run.steps`). The rest is as for `stream`.
        """
        return self._run(source, target, options, progress, listens, recall, news)

    def _run(
        self,
        source: str | None,
        target: str | None,
        given: Mapping[str, Any],
        progress: Progress | None = None,
        listens: bool = False,
        recall: Recall | None = None,
        news: Callable[[], None] | None = None,
    ) -> Run:
        """What translates the texts of one call; raises what is wrong with its options."""
        text, generation = translation_options(source, target, given, self.defaults)
        preparing = Preparing(self.system, self.languages, text)
        recalls: list[Recall] = []
        if text.translation_memory is not None:
            glossary = text.glossary.fingerprint if text.glossary else ""
            others = text.fallback.fingerprint if text.fallback else ""
            decisive = f"{text.retry}\0{glossary}\0{others}"
            recalls.append(text.translation_memory.recall(self.fingerprint, generation, decisive))
        if recall is not None:
            recalls.append(recall)
        codes = frozenset(language.nllb for language in self.languages)
        attempts = Attempts(generation, text.retry, _fallback(text.fallback, generation), codes)
        pipeline = Pipeline(
            self.system,
            generation,
            text.batch_size,
            text.timeout,
            progress,
            listens,
            Recalls(recalls),
            attempts,
            news,
        )
        return Run(preparing, pipeline, self._alphabet, text.glossary, text.translation_memory)

    # Life

    def close(self) -> None:
        """Cancel what is under way, and let the engine's thread go. There is no translating afterwards."""
        self.system.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    @cached_property
    def fingerprint(self) -> str:
        """Hexadecimal digits that change with whatever decides what the model says of a sentence.

        Two translators with the same one give the same results for the same options. Of the model's files it
        looks at names, sizes and times, not at all of their bytes.
        """
        if self._loaded is None:
            raise TypeError("only a Translator that Translator.load has made knows the files of its model")
        loaded = self._loaded
        decisive = {
            "version": dragoman.__version__,
            "files": identity(locate(loaded.model, download=False)),
            "precision": self.system.precision,
            "path": self.system.path,
            "vocabulary": loaded.vocabulary,
            "texts": loaded.vocabulary_text and {k: list(v) for k, v in loaded.vocabulary_text.items()},
        }
        return sha256(json.dumps(decisive, sort_keys=True).encode()).hexdigest()[:32]

    def __repr__(self) -> str:
        count = len(self.languages)
        return f"<Translator: {self.card.name}, {count} languages, {self.system.precision}>"

    def __reduce__(self) -> tuple[Any, ...]:
        if self._loaded is None:
            raise TypeError(
                "only a Translator that Translator.load has made can be pickled or copied: "
                "what is pickled is how it was loaded"
            )
        return type(self)._from, (self._loaded,)


def _fallback(other: object, options: GenerationOptions) -> Fallback | None:
    """Another translator as what helps one out; InvalidOption if it is none."""
    if other is None:
        return None
    if not isinstance(other, Translator):
        raise InvalidOption(f"fallback is a {type(other).__name__}; it must be another Translator")
    beams = other.defaults.get("beams", 4 if options.sample else options.beams)
    chosen = GenerationOptions(**{**other.defaults, "beams": beams})
    return Fallback(other.system, chosen, frozenset(language.nllb for language in other.languages))


def _work_in(count: int) -> None:
    """Have the kernels and PyTorch work in so many threads; InvalidOption if that is no possible number."""
    from dragoman.kernels.threads import set_threads

    set_threads(count)
    if torch := sys.modules.get("torch"):  # where it isn't yet, whoever needs it tells it
        torch.set_num_threads(count)
