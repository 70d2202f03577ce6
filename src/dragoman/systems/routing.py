"""Watching a model at work: which experts the tokens of a language are sent to."""

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from itertools import groupby

import numpy as np

from dragoman.errors import InvalidOption
from dragoman.evaluation.experts import SIDES, ExpertStatistics, Side, Tally
from dragoman.generation.options import GenerationOptions
from dragoman.languages import Language, of_code
from dragoman.models.prompt import Prompt
from dragoman.native.nllb import NativeNllb
from dragoman.systems.base import Request, System, best_tokens, length_cap
from dragoman.systems.nllb import NllbSystem
from dragoman.text.sentences import split

Read = tuple[list[int], list[int]]
"""What the encoder and the decoder are fed, token ids."""
ROWS = 2048
"""Tokens of a decoder that are read together."""
AT_ONCE = 64
"""Sentences that are translated side by side."""
Progress = Callable[[int], None]
"""Is told how many further sentences have been read."""


class Observer:
    """Has a model read texts, and counts where its routers send them.

    What is counted are the tokens that encoder and decoder are fed, language codes and `</s>` included.
    Nobody else may use the model meanwhile.
    """

    def __init__(self, system: System) -> None:
        """InvalidOption for a model without experts, or one that the kernels don't run."""
        runner = getattr(system, "runner", None)
        if not isinstance(system, NllbSystem) or not system.config.is_sparse:
            raise InvalidOption(f"{system.card.name} has no experts; give a mixture of experts (NLLB-MoE)")
        if not isinstance(runner, NativeNllb):
            raise InvalidOption(
                "experts are watched where the native kernels run the model: on the CPU (--device cpu), with "
                "a compiler at installation"
            )
        self._system, self._runner = system, runner
        self._tallies: dict[tuple[str, str], Tally] = {}

    def translate(
        self,
        source: Language,
        targets: Sequence[Language],
        lines: Sequence[str],
        progress: Progress | None = None,
    ) -> None:
        """Count a language's lines, and their translations, which are shared out among the targets.

        A model that goes by way of a language (its card's pivot) translates to that one alone. InvalidOption
        if there is no other language to translate to.
        """
        targets = [target for target in targets if target != source]
        pivot = self._system.card.pivot
        if pivot not in (None, source.nllb):
            targets = [of_code(pivot)]
        if not targets:
            raise InvalidOption(f"{source.name} has to be translated to something; give another language too")
        sentences = [sentence for line in lines for sentence in self._sentences(line, source)]
        for number, target in enumerate(targets):
            mine = sentences[number :: len(targets)]
            for first in range(0, len(mine), AT_ONCE):
                pairs = list(self._translated(mine[first : first + AT_ONCE], source, target))
                self._read(source, target, pairs)
                if progress is not None:
                    progress(len(pairs))

    def read(
        self,
        source: Language,
        target: Language,
        pairs: Sequence[tuple[str, str]],
        progress: Progress | None = None,
    ) -> int:
        """Count sentences with their translations, as if the model had written these.

        Returns how many of them were so long that they were left out.
        """
        tokenizer, most = self._system.tokenizer, self._system.card.max_source_tokens
        sources = tokenizer.encode_batch([pair[0] for pair in pairs], source.nllb)
        targets = tokenizer.encode_batch([pair[1] for pair in pairs], target.nllb)
        read = [
            # What is written last is never fed.
            (row, [tokenizer.eos_id, *written[:-1]])
            for row, written in zip(sources, targets, strict=True)
            if len(row) <= most + 2 and len(written) <= self._system.max_new_tokens
        ]
        self._read(source, target, read)
        if progress is not None:
            progress(len(read))
        return len(pairs) - len(read)

    def statistics(self) -> ExpertStatistics:
        """What has been counted so far; InvalidOption if it is nothing."""
        sides = {}
        for side in SIDES:
            layers, experts = self._shape(side)
            counted = {
                code: tally.routing()
                for (name, code), tally in sorted(self._tallies.items(), key=lambda item: item[0])
                if name == side and tally.tokens
            }
            if counted:
                sides[side] = Side(layers, experts, counted)
        if not sides:
            raise InvalidOption("there is no text to count experts with")
        return ExpertStatistics(self._system.card.name, sides)

    def _sentences(self, line: str, language: Language) -> Iterator[str]:
        system = self._system
        for segment in split(line, language.nllb, system.room(language, language), system.measure).segments:
            yield segment.text

    def _translated(self, texts: Sequence[str], source: Language, target: Language) -> Iterator[Read]:
        """The texts with the model's greedy translations."""
        system = self._system
        requests = [Request(text, source, target) for text in texts]
        requests = [request for request in requests if not request.stays]
        rows = system.encode(requests)
        growth = system.growth(source, target)
        caps = [length_cap(len(row), system.max_new_tokens, growth) for row in rows]
        options = GenerationOptions(**{**system.card.generation, "beams": 1, "n_best": 1})
        for index, found in system.run(rows, requests, options, caps, AT_ONCE):
            if isinstance(found, Exception):
                raise found
            written = list(best_tokens(found))
            if written and written[-1] == system.tokenizer.eos_id:
                written.pop()  # it is never fed
            yield rows[index], [system.tokenizer.eos_id, *written]

    def _read(self, source: Language, target: Language, pairs: Sequence[Read]) -> None:
        """Have the model read what it is fed, and count it."""
        runner = self._runner
        runner.encoder.passes.watch = self._tally("encoder", source)
        runner.decoder.watch = self._tally("decoder", target)
        try:
            for batch in _batches(pairs):
                ids, keep = self._system.tokenizer.pad([row for row, _ in batch])
                state = runner.begin(Prompt(np.array(ids, np.int64), np.array(keep)))
                runner.step(np.array([written for _, written in batch], np.int64), state)
        finally:
            runner.encoder.passes.watch = runner.decoder.watch = None

    def _tally(self, side: str, language: Language) -> Tally | None:
        layers, experts = self._shape(side)
        if not layers:
            return None
        return self._tallies.setdefault((side, language.nllb), Tally(layers, experts))

    def _shape(self, side: str) -> tuple[tuple[int, ...], int]:
        """The layers that have experts, and how many each has."""
        config = self._system.config
        return config.sparse_layers(side), config.experts(side)


def _batches(pairs: Sequence[Read]) -> Iterator[list[Read]]:
    """Pairs to be read together: what a decoder is fed in one step has one length.

    Equal sources are not read together: an encoder would read them once.
    """
    times: Counter[tuple[int, tuple[int, ...]]] = Counter()
    numbered = []
    for pair in pairs:
        source = len(pair[1]), tuple(pair[0])
        times[source] += 1
        numbered.append((len(pair[1]), times[source], pair))
    for (length, _), group in groupby(sorted(numbered), key=lambda each: each[:2]):
        alike, most = [pair for _, _, pair in group], max(1, ROWS // length)
        for first in range(0, len(alike), most):
            yield alike[first : first + most]
