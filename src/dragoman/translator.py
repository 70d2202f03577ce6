"""Text in, text out: the model and the languages are picked here."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any, overload

import torch

from dragoman.checkpoints.catalog import EMBEDDED, locate
from dragoman.errors import DragomanError, InvalidOption, InvalidText, LanguageNotDetected
from dragoman.generation.hypotheses import Hypothesis
from dragoman.generation.options import GenerationOptions
from dragoman.languages import Language, find, find_source, of_code
from dragoman.live import answer_live, translate_live
from dragoman.systems import Request, System, load_system
from dragoman.systems.base import length_cap
from dragoman.text.detect import Detection, detect_or_raise
from dragoman.text.sentences import Segment, join, split
from dragoman.text.tokenizers.characters import encodable
from dragoman.translations import Candidate, Sentence, TextJob, Translation

__all__ = ["Candidate", "Sentence", "Translation", "Translator"]

Progress = Callable[[int, int], None]
Outcome = tuple[Candidate, ...] | DragomanError


class Translator:
    """A loaded model that translates strings.

    >>> translator = Translator.load()
    >>> translator.translate("Good morning!", source="en", target="fr")
    """

    WINDOW = 256  # texts taken together from a stream: enough to fill batches of like lengths

    def __init__(self, system: System) -> None:
        self.system, self.card = system, system.card
        self.languages: tuple[Language, ...] = tuple(of_code(code) for code in self.card.languages)
        self._codes = frozenset(self.card.languages)

    @classmethod
    def load(
        cls,
        name: str | Path = EMBEDDED,
        device: str = "auto",
        precision: str = "auto",
        vocabulary: int | None = None,
        vocabulary_text: Mapping[str, Sequence[str]] | None = None,
    ) -> "Translator":
        """Load a model by name, folder or hub repository; `dragoman models` lists the names.

        device: a torch device, or "auto" for the accelerator if there is one.
        precision: "fp32" (exact), "fp16", "int8", "int4"; "auto" is the most exact one that fits half of
        the computer's memory, and fp16 on an accelerator.
        vocabulary: choose from so many tokens of the target language and those of the source,
        instead of from all: much faster for NLLB. vocabulary_text: lines in a target language, by
        its name, like the translations to come; their tokens are among those chosen from.
        Raises CheckpointError, ConfigError or KeyMismatch if there is no usable model, and
        InvalidOption.
        """
        folder = locate(name)
        if device == "auto":
            device = "cuda" if torch.cuda.is_available() else "cpu"
        system = load_system(folder, device, str(name), precision)
        if vocabulary is not None:
            system.restrict(vocabulary, vocabulary_text)
        elif vocabulary_text is not None:
            raise InvalidOption("vocabulary_text goes with a vocabulary; say how many tokens it may have")
        return cls(system)

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
        `source`, or with "auto", each text's language is detected, without `target` it is English. options:
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
        batch_size: int = 64,
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
        _check_batch_size(batch_size)
        spoken, wanted = self._languages(source, target)
        count = [0, 0]

        def done(sentences: int) -> None:
            count[0] += sentences
            if progress is not None and count[1]:
                progress(count[0], count[1])

        iterator = iter(texts)
        usual = None if likely_source is None else find(likely_source, self.languages)
        while chunk := list(islice(iterator, self.WINDOW)):
            jobs = self._prepare(chunk, spoken, wanted, usual, direct)
            ready = [job for job in jobs if isinstance(job, TextJob)]
            usual = _most_frequent([job.source for job in ready]) or usual
            count[1] += sum(len(job.parts.segments) * (2 if job.pivot else 1) for job in ready)
            finished = self._translate_jobs(ready, settings, batch_size, done)
            for job in jobs:
                yield next(finished) if isinstance(job, TextJob) else job

    def live(
        self,
        text: str,
        source: str | None = None,
        target: str | None = None,
        batch_size: int = 64,
        direct: bool = False,
        **options: Any,
    ) -> Iterator[str]:
        """Translate a text in pieces, each as soon as no better hypothesis can change it.

        Joined they are what `translate` gives, which explains the arguments and the errors.
        """
        settings = self._settings(options)
        _check_batch_size(batch_size)
        spoken, wanted = self._languages(source, target)
        (job,) = self._prepare([text], spoken, wanted, None, direct)
        if isinstance(job, TextJob):
            return translate_live(self.system, job, settings, batch_size)
        assert job.error is not None
        raise job.error

    def ask(self, question: str, language: str, **options: Any) -> str:
        """The answer of a chat-tuned model (X-ALMA) to an open question in `language`.

        options: the fields of `GenerationOptions`. InvalidOption if the model only translates.
        """
        return "".join(self.ask_live(question, language, **options))

    def ask_live(self, question: str, language: str, **options: Any) -> Iterator[str]:
        """As `ask`, in pieces, each as soon as no better answer can change it."""
        system: Any = self.system
        if not hasattr(system, "question"):
            raise InvalidOption(f"{self.card.name} only translates; questions need X-ALMA (--model)")
        job = system.question(question, find(language, self.languages).nllb, self._settings(options))
        return answer_live(system, job)

    def _languages(self, source: str | None, target: str | None) -> tuple[Language | None, Language]:
        wanted = find("eng_Latn" if target is None else target, self.languages)
        return find_source(source, self.languages), wanted

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
    ) -> list[TextJob | Translation]:
        """Find each text's language and split it; what can't be done becomes a failed Translation."""
        found = [self._detect(text) if source is None else None for text in texts]
        sources = [find(d.code) for d in found if isinstance(d, Detection)]
        usual = _most_frequent(sources) or usual
        jobs: list[TextJob | Translation] = []
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
    ) -> TextJob:
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
        return TextJob(text, source, target, detected, parts, pivot, assumed)

    def _translate_jobs(
        self, jobs: list[TextJob], options: GenerationOptions, at_once: int, done: Callable[[int], None]
    ) -> Iterator[Translation]:
        """The jobs' translations in their order, each as soon as it and those before are done."""
        found: dict[Request, Outcome] = {}

        def arrivals() -> Iterator[None]:
            for leg in (_first_leg, _second_leg):
                requests = [leg(job, segment, found) for job in jobs for segment in job.parts.segments]
                wanted = [request for request in requests if request is not None]
                yield from self._translate_sentences(wanted, found, options, at_once, done)
            yield  # for texts without a sentence

        waiting, known = deque(jobs), 0
        for _ in arrivals():
            while waiting:
                job = waiting[0]
                while known < len(job.parts.segments) and _outcome(job, job.parts.segments[known], found):
                    known += 1
                if known < len(job.parts.segments):
                    break
                yield self._assemble(waiting.popleft(), found)
                known = 0

    def _translate_sentences(
        self,
        requests: list[Request],
        found: dict[Request, Outcome],
        options: GenerationOptions,
        at_once: int,
        done: Callable[[int], None],
    ) -> Iterator[None]:
        """Put what becomes of each request into `found`, with a word after each; equal ones are one."""
        for request in requests:
            if request.stays:
                found[request] = (Candidate(request.text, 0.0, (), True),)
        todo = [request for request in dict.fromkeys(requests) if request not in found]
        rows = self.system.encode(todo)
        most = min(options.max_new_tokens, self.system.max_new_tokens)
        caps = [length_cap(len(row), most) for row in rows]
        done(len(requests) - len(todo))
        for index, ranked in self.system.run(rows, todo, options, caps, at_once):
            request = todo[index]
            if isinstance(ranked, DragomanError):
                found[request] = ranked
            else:
                candidates = tuple(self._candidate(hypothesis, request) for hypothesis in ranked)
                # Bans can leave nothing that may be said.
                found[request] = candidates or (Candidate("", float("-inf"), (), False),)
            done(1)
            yield

    def _assemble(self, job: TextJob, found: dict[Request, Outcome]) -> Translation:
        codes = job.source.nllb, job.target.nllb
        sentences = []
        for segment in job.parts.segments:
            outcome = _outcome(job, segment, found)
            if isinstance(outcome, DragomanError):
                return Translation("", *codes, error=outcome)
            assert outcome is not None
            sentences.append(Sentence(segment.text, outcome))
        best = [sentence.candidates[0] for sentence in sentences]
        warnings = tuple(
            f"sentence {number} reached the limit of {len(candidate.tokens)} tokens before its end"
            for number, candidate in enumerate(best, 1)
            if not candidate.complete
        )
        if job.assumed:
            name = job.source.name
            warnings = (f"taken to be {name} like the texts around it; its own words don't tell", *warnings)
        text = join(job.parts, [candidate.text for candidate in best], *codes)
        pivot = job.pivot.nllb if job.pivot else None
        return Translation(text, *codes, tuple(sentences), job.detected, pivot, warnings)

    def _candidate(self, hypothesis: Hypothesis, request: Request) -> Candidate:
        system = self.system
        text, complete = system.decode(hypothesis, request), system.is_complete(hypothesis)
        return Candidate(text, hypothesis.score, system.tokens(hypothesis), complete)


def _first_leg(job: TextJob, segment: Segment, found: dict[Request, Outcome]) -> Request:
    return Request(segment.text, job.source, job.pivot or job.target)


def _second_leg(job: TextJob, segment: Segment, found: dict[Request, Outcome]) -> Request | None:
    """From the pivot language on, if there is one and the sentence has come so far."""
    first = found.get(_first_leg(job, segment, found))
    if job.pivot is None or first is None or isinstance(first, DragomanError):
        return None
    return Request(first[0].text, job.pivot, job.target)


def _outcome(job: TextJob, segment: Segment, found: dict[Request, Outcome]) -> Outcome | None:
    """What has become of a sentence; None if that isn't known yet."""
    first = found.get(_first_leg(job, segment, found))
    second = _second_leg(job, segment, found)
    return first if second is None else found.get(second)


def _check_batch_size(batch_size: object) -> None:
    if isinstance(batch_size, bool) or not isinstance(batch_size, int) or not 1 <= batch_size <= 4096:
        raise InvalidOption(f"batch_size is {batch_size!r}; it must be a whole number from 1 to 4096")


def _may_be(usual: Language | None, detected: Detection | DragomanError | None) -> bool:
    """Whether a text that shows no clear language may be in that of the texts around it."""
    if usual is None or not isinstance(detected, LanguageNotDetected):
        return False
    return detected.possible is None or usual.nllb in detected.possible


def _most_frequent(languages: list[Language]) -> Language | None:
    return max(languages, key=languages.count) if languages else None
