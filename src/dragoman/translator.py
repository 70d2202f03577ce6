"""Text in, text out: the model, the languages and the batches are picked here."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any, overload

import torch

from dragoman.errors import DragomanError, InvalidOption, InvalidText, LanguageNotDetected
from dragoman.generation.batching import length_cap, plan_batches
from dragoman.generation.options import GenerationOptions
from dragoman.generation.search import Hypothesis
from dragoman.languages import Language, find
from dragoman.models.catalog import EMBEDDED, locate
from dragoman.systems import Request, System, load_system
from dragoman.text.detect import Detection, detect_or_raise
from dragoman.text.sentences import SplitText, join, split
from dragoman.text.tokenizers.characters import encodable

Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class Candidate:
    """One translation of one sentence; `tokens` as the tokenizer spells them, `score` as in `Hypothesis`."""

    text: str
    score: float
    tokens: tuple[str, ...]
    complete: bool
    """False if the length limit came before the sentence's end."""


@dataclass(frozen=True)
class Sentence:
    """A sentence of the source with its translations, best first."""

    source: str
    candidates: tuple[Candidate, ...]


@dataclass(frozen=True)
class Translation:
    """What became of one text. Either `error` is set, or all else is."""

    text: str
    source: str
    """NLLB code of the language the text is in."""
    target: str
    """NLLB code of the language it was translated to."""
    sentences: tuple[Sentence, ...] = ()
    detected: Detection | None = None
    """How the source language was found, if it was not given."""
    pivot: str | None = None
    """The language it went through, if not directly."""
    warnings: tuple[str, ...] = ()
    error: DragomanError | None = None

    @property
    def alternatives(self) -> tuple[str, ...]:
        """Other translations of a text of one sentence, best first."""
        if len(self.sentences) != 1:
            return ()
        return tuple(candidate.text for candidate in self.sentences[0].candidates[1:])


@dataclass(frozen=True)
class _Job:
    """A text on its way: its languages, and its sentences once split."""

    text: str
    source: Language
    target: Language
    detected: Detection | None
    parts: SplitText
    pivot: Language | None
    assumed: bool
    """Whether the source language is that of the texts around it, for want of evidence."""


class Translator:
    """A loaded model that translates strings.

    >>> translator = Translator.load()
    >>> translator.translate("Good morning!", source="en", target="fr")
    """

    WINDOW = 256  # texts taken together from a stream: enough to fill batches of like lengths

    def __init__(self, system: System) -> None:
        self.system, self.card = system, system.card
        self.languages: tuple[Language, ...] = tuple(find(code) for code in self.card.languages)
        self._codes = frozenset(self.card.languages)

    @classmethod
    def load(cls, name: str | Path = EMBEDDED, device: str = "auto") -> "Translator":
        """Load a model by name, folder or hub repository; `dragoman models` lists the names.

        device: a torch device, or "auto" for the accelerator if there is one. Raises
        CheckpointError, ConfigError or KeyMismatch if there is no usable model.
        """
        folder = locate(name)
        if device == "auto":
            device = "cuda" if torch.cuda.is_available() else "cpu"
        return cls(load_system(folder, device, str(name)))

    @overload
    def translate(
        self, text: str, source: str | None = ..., target: str | None = ..., **options: Any
    ) -> str: ...
    @overload
    def translate(
        self, text: Sequence[str], source: str | None = ..., target: str | None = ..., **options: Any
    ) -> list[str]: ...
    def translate(
        self,
        text: str | Sequence[str],
        source: str | None = None,
        target: str | None = None,
        **options: Any,
    ) -> str | list[str]:
        """Translate a text, or each text of a list; nothing is ever cut off.

        source, target: any spelling of a language ("fr", "French", "fra_Latn"); without
        `source` each text's language is detected, without `target` it is English. options:
        the fields of `GenerationOptions` (beams=4, ...) and `batch_size`. Raises the error of
        the first text that can't be translated; `stream` gives an error for each instead.
        """
        if isinstance(text, bytes) or not isinstance(text, Iterable):
            raise InvalidText(f"a text must be a str, or a list of them, not {type(text).__name__}")
        texts = [text] if isinstance(text, str) else list(text)
        results = list(self.stream(texts, source, target, **options))
        for result in results:
            if result.error is not None:
                raise result.error
        translated = [result.text for result in results]
        return translated[0] if isinstance(text, str) else translated

    def stream(
        self,
        texts: Iterable[str],
        source: str | None = None,
        target: str | None = None,
        batch_size: int = 32,
        likely_source: str | None = None,
        direct: bool = False,
        progress: Progress | None = None,
        **options: Any,
    ) -> Iterator[Translation]:
        """Translate texts in their order, `WINDOW` of them at a time.

        A text that can't be translated gives a Translation with an `error`; its neighbours
        don't notice. likely_source: the language of texts too short to detect it; without
        it, that of most texts before and around. direct: don't go by way of English between
        two other languages, even if the model was not trained for it. progress: called with (sentences done,
        sentences known so far).
        """
        settings = self._settings(options)
        if isinstance(batch_size, bool) or not isinstance(batch_size, int) or not 1 <= batch_size <= 4096:
            raise InvalidOption(f"batch_size is {batch_size!r}; it must be a whole number from 1 to 4096")
        spoken = None if source is None else find(source, self.languages)
        wanted = find("eng_Latn" if target is None else target, self.languages)
        count = [0, 0]

        def done(sentences: int) -> None:
            count[0] += sentences
            if progress is not None and count[1]:
                progress(count[0], count[1])

        iterator = iter(texts)
        usual = None if likely_source is None else find(likely_source, self.languages)
        while chunk := list(islice(iterator, self.WINDOW)):
            jobs = self._prepare(chunk, spoken, wanted, usual, direct)
            ready = [job for job in jobs if isinstance(job, _Job)]
            usual = _most_frequent([job.source for job in ready]) or usual
            count[1] += sum(len(job.parts.segments) * (2 if job.pivot else 1) for job in ready)
            finished = iter(self._translate_jobs(ready, settings, batch_size, done))
            for job in jobs:
                yield next(finished) if isinstance(job, _Job) else job

    def ask(self, question: str, language: str, **options: Any) -> str:
        """The answer of a chat-tuned model (X-ALMA) to an open question in `language`.

        options: the fields of `GenerationOptions`. InvalidOption if the model only translates.
        """
        answer = getattr(self.system, "ask", None)
        if answer is None:
            raise InvalidOption(f"{self.card.name} only translates; questions need X-ALMA (--model)")
        return str(answer([question], find(language, self.languages).nllb, self._settings(options))[0])

    def _settings(self, options: dict[str, Any]) -> GenerationOptions:
        names = GenerationOptions.__dataclass_fields__
        for name in options:
            if name not in names:
                choices = ", ".join((*names, "batch_size"))
                raise InvalidOption(f"{name!r} is no option of translation; the options are {choices}")
        return GenerationOptions(**options)

    def _prepare(
        self,
        texts: list[str],
        source: Language | None,
        target: Language,
        usual: Language | None,
        direct: bool,
    ) -> list[_Job | Translation]:
        """Find each text's language and split it; what can't be done becomes a failed Translation."""
        found = [self._detect(text) if source is None else None for text in texts]
        sources = [find(d.code) for d in found if isinstance(d, Detection)]
        usual = _most_frequent(sources) or usual
        jobs: list[_Job | Translation] = []
        for text, detected in zip(texts, found, strict=True):
            spoken = source
            if isinstance(detected, Detection):
                spoken = find(detected.code)
            elif spoken is None:
                spoken = usual if _may_be(usual, detected) else None
                if spoken is None and isinstance(detected, LanguageNotDetected) and detected.possible is None:
                    spoken = target  # no letters: the text is the same in every language
            try:
                if spoken is None:
                    assert isinstance(detected, DragomanError)
                    raise detected
                evidence = detected if isinstance(detected, Detection) else None
                assumed = source is None and evidence is None and any(c.isalpha() for c in text)
                jobs.append(self._job(text, spoken, target, evidence, direct, assumed))
            except DragomanError as error:
                code = spoken.nllb if spoken else ""
                jobs.append(Translation("", code, target.nllb, error=error))
        return jobs

    def _detect(self, text: str) -> Detection | DragomanError | None:
        if not isinstance(text, str):
            return InvalidText(f"a text must be a str, not {type(text).__name__}")
        try:
            return detect_or_raise(text, self._codes)
        except DragomanError as error:
            return error

    def _job(
        self,
        text: str,
        source: Language,
        target: Language,
        detected: Detection | None,
        direct: bool,
        assumed: bool,
    ) -> _Job:
        if not isinstance(text, str):
            raise InvalidText(f"a text must be a str, not {type(text).__name__}")
        encodable(text)
        pivot = None
        if (
            not direct
            and self.card.pivot
            and source != target
            and self.card.pivot not in (source.nllb, target.nllb)
        ):
            pivot = find(self.card.pivot)
        room = self.system.room(source, pivot or target)
        parts = split(text, source.nllb, limit=room, measure=self.system.measure)
        return _Job(text, source, target, detected, parts, pivot, assumed)

    def _translate_jobs(
        self, jobs: list[_Job], options: GenerationOptions, batch_size: int, done: Callable[[int], None]
    ) -> Iterator[Translation]:
        direct = [
            Request(segment.text, job.source, job.pivot or job.target)
            for job in jobs
            for segment in job.parts.segments
        ]
        first = self._translate_sentences(direct, options, batch_size, done)
        through: list[Request] = []
        place = 0
        for job in jobs:
            for _ in job.parts.segments:
                if job.pivot:
                    through.append(Request(first[place][0].text, job.pivot, job.target))
                place += 1
        second = iter(self._translate_sentences(through, options, batch_size, done))
        place = 0
        for job in jobs:
            sentences = []
            for segment in job.parts.segments:
                candidates = next(second) if job.pivot else first[place]
                sentences.append(Sentence(segment.text, candidates))
                place += 1
            yield self._assemble(job, tuple(sentences))

    def _assemble(self, job: _Job, sentences: tuple[Sentence, ...]) -> Translation:
        best = [sentence.candidates[0] for sentence in sentences]
        warnings = tuple(
            f"sentence {number} reached the limit of {len(candidate.tokens)} tokens before its end"
            for number, candidate in enumerate(best, 1)
            if not candidate.complete
        )
        if job.assumed:
            name = job.source.name
            warnings = (f"taken to be {name} like the texts around it; its own words don't tell", *warnings)
        text = join(job.parts, [c.text for c in best], job.source.nllb, job.target.nllb)
        pivot = job.pivot.nllb if job.pivot else None
        return Translation(text, job.source.nllb, job.target.nllb, sentences, job.detected, pivot, warnings)

    def _translate_sentences(
        self,
        requests: list[Request],
        options: GenerationOptions,
        batch_size: int,
        done: Callable[[int], None],
    ) -> list[tuple[Candidate, ...]]:
        """Candidates for each request; equal ones are translated once."""
        results: dict[Request, tuple[Candidate, ...]] = {}
        for request in requests:
            if request.source == request.target or not any(c.isalpha() for c in request.text):
                # Numbers, signs and what is in the target language already stay as they are.
                results[request] = (Candidate(request.text, 0.0, (), True),)
        todo = [request for request in dict.fromkeys(requests) if request not in results]
        rows = self.system.encode(todo)
        lengths = [len(row) for row in rows]
        most = min(options.max_new_tokens, self.system.max_new_tokens)
        caps = [length_cap(length, most) for length in lengths]
        done(len(requests) - len(todo))
        for batch in plan_batches(lengths, caps, batch_size, batch_tokens=8192):
            mine = [todo[i] for i in batch]
            capped = replace(options, max_new_tokens=caps[batch[0]])
            found = self.system.run([rows[i] for i in batch], mine, capped)
            for request, ranked in zip(mine, found, strict=True):
                candidates = tuple(self._candidate(hypothesis, request) for hypothesis in ranked)
                # Bans can leave nothing that may be said.
                results[request] = candidates or (Candidate("", float("-inf"), (), False),)
            done(len(batch))
        return [results[request] for request in requests]

    def _candidate(self, hypothesis: Hypothesis, request: Request) -> Candidate:
        system = self.system
        text, complete = system.decode(hypothesis, request), system.is_complete(hypothesis)
        return Candidate(text, hypothesis.score, system.tokens(hypothesis), complete)


def _may_be(usual: Language | None, detected: Detection | DragomanError | None) -> bool:
    """Whether a text that shows no clear language may be in that of the texts around it."""
    if usual is None or not isinstance(detected, LanguageNotDetected):
        return False
    return detected.possible is None or usual.nllb in detected.possible


def _most_frequent(languages: list[Language]) -> Language | None:
    return max(languages, key=languages.count) if languages else None
