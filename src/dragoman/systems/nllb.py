"""NLLB-200 and NLLB-MoE: `[source language] sentence </s>` in, `[target language] translation </s>` out."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Self

from dragoman.checkpoints.cards import ModelCard
from dragoman.checkpoints.catalog import base_of
from dragoman.checkpoints.families import card_of, has_tokenizer, is_adapter, with_languages
from dragoman.checkpoints.nllb_files import NllbFiles, open_nllb
from dragoman.checkpoints.packed_facts import is_packed
from dragoman.checkpoints.packed_folders import PackedModel, open_packed
from dragoman.checkpoints.packing import pack_nllb
from dragoman.errors import CheckpointError, InvalidOption
from dragoman.generation.engine import Engine, Job
from dragoman.generation.hypotheses import Hypothesis
from dragoman.generation.options import GenerationOptions
from dragoman.languages import Language
from dragoman.models.config import NllbConfig
from dragoman.native.nllb import NativeNllb
from dragoman.native.weights import PackedWeights
from dragoman.store.shelf import Tally
from dragoman.systems.base import Request, System
from dragoman.systems.devices import need_pytorch
from dragoman.systems.placement import AUTO, Placement, check
from dragoman.systems.planning import Placing, Plan, placed
from dragoman.systems.residence import FolderWeights
from dragoman.systems.vocabulary import TargetVocabulary
from dragoman.text.lengths import growth
from dragoman.text.tokenizers import MultilingualTokenizer, NllbTokenizer

if TYPE_CHECKING:
    from dragoman.models.nllb import Nllb


class NllbSystem(System):
    """Dense or sparse NLLB as a `System`."""

    tokenizer: MultilingualTokenizer

    def __init__(
        self,
        runner: "NativeNllb | Nllb",
        tokenizer: MultilingualTokenizer,
        card: ModelCard,
        precision: str = "fp32",
        work: int | None = None,
        engine: Engine | None = None,
    ) -> None:
        """runner: what generates; precision: of its weights.

        work: bytes that decoding may take; None is what `Engine` takes. engine: one that has `runner`'s work
        done elsewhere.
        """
        self.runner, self.config = runner, runner.config
        self.tokenizer, self.card, self.precision = tokenizer, card, precision
        self.engine = engine or Engine(runner, pad=tokenizer.pad_id, eos=tokenizer.eos_id, memory=work)

    @classmethod
    def load(cls, folder: Path, device: str, precision: str = AUTO, memory: str | int | None = None) -> Self:
        """Load model, tokenizer and card; CheckpointError if the first two don't belong together.

        `placement.place` explains the other arguments.
        """
        plan = cls.plan(folder, device, precision, memory)
        placement = plan.placement
        runner = _runner(folder, plan.files, placement)
        return cls(runner, plan.tokenizer, plan.card, placement.precision, placement.budget.work)

    @classmethod
    def plan(
        cls,
        folder: Path,
        device: str,
        precision: str = AUTO,
        memory: str | int | None = None,
        placing: Placing = placed,
    ) -> Plan:
        """As `load`, without reading any weights; placing: what decides how it would run."""
        check(precision, memory)
        opened = open_packed(folder) if is_packed(folder) else open_nllb(folder)
        base = base_of(folder) if is_adapter(folder) else folder
        tokenizer = cls.open_tokenizer(folder if has_tokenizer(folder) else base)
        layout, rows = tokenizer.layout, opened.config.vocab_size
        if layout.needed > rows:
            raise CheckpointError(
                f"{folder}: its tokenizer has {layout.tokens} tokens and the model's embedding only {rows} "
                "rows; take both from one release, or make room with resize_token_embeddings(len(tokenizer))"
            )
        card = with_languages(card_of(folder, base), layout.taught)
        return Plan(folder, opened, tokenizer, card, placing(opened, device, precision, memory))

    @classmethod
    def open_tokenizer(cls, folder: Path) -> MultilingualTokenizer:
        """The tokenizer in `folder`; CheckpointError if there is none of this family."""
        return NllbTokenizer.from_folder(folder)

    def restrict(self, size: int | None, texts: Mapping[str, Sequence[str]] | None) -> None:
        if not isinstance(self.runner, NativeNllb):
            raise InvalidOption(
                "a target-language vocabulary needs the native kernels and a model on the CPU; leave it out"
            )
        heads, vocabulary = self.runner.heads, TargetVocabulary(self.tokenizer, size, texts)

        def change() -> None:
            if self.engine.busy:
                raise InvalidOption("translations are under way; change the vocabulary when they are done")
            heads.restrict(vocabulary)

        self.engine.between_steps(change)

    def tally(self) -> Tally | None:
        weights = self.runner.weights if isinstance(self.runner, NativeNllb) else None
        store = weights.store if isinstance(weights, FolderWeights) else None
        return None if store is None else sum((shelf.tally for shelf in store.shelves), Tally())

    @property
    def max_new_tokens(self) -> int:
        return self.config.max_position_embeddings - 2

    def room(self, source: Language, target: Language) -> int:
        return self.card.max_source_tokens

    def measure(self, text: str) -> int:
        return len(self.tokenizer.encode_pieces([text])[0])

    def growth(self, source: Language, target: Language) -> float:
        return growth(self.tokenizer, source, target)

    def encode(self, requests: list[Request]) -> list[list[int]]:
        texts = [request.text for request in requests]
        return self.tokenizer.encode_batch(texts, [request.source.nllb for request in requests])

    def job(self, row: list[int], request: Request, options: GenerationOptions) -> Job:
        # The mask, data tags and filling of the embedding are rows of the model, but never of a text.
        banned = self.tokenizer.layout.never_generated(self.config.vocab_size)
        options = replace(options, suppress=(*options.suppress, *banned))
        prompt = self.prompt(request)
        return Job(row, options, prompt, forced=len(prompt) - 1, terms=self.spelled(request))

    def prompt(self, request: Request) -> tuple[int, ...]:
        """What the decoder begins with; all but the first token counts as generated."""
        return self.tokenizer.eos_id, self.tokenizer.language_id(request.target.nllb)

    def decode(self, hypothesis: Hypothesis, request: Request) -> str:
        return self.tokenizer.decode(hypothesis.tokens)

    def certain(self, tokens: Sequence[int], request: Request) -> str:
        return self.tokenizer.decode(tokens)

    def tokens(self, hypothesis: Hypothesis) -> tuple[str, ...]:
        return tuple(self.tokenizer.tokens(hypothesis.tokens))

    def is_complete(self, hypothesis: Hypothesis) -> bool:
        return hypothesis.tokens[-1] == self.tokenizer.eos_id


def _runner(folder: Path, opened: PackedModel | NllbFiles, placement: Placement) -> "NativeNllb | Nllb":
    if placement.is_native:
        assert isinstance(opened.config, NllbConfig)
        if isinstance(opened, PackedModel):
            return NativeNllb(opened.config, FolderWeights(opened, placement.experts))
        return NativeNllb(opened.config, PackedWeights(pack_nllb(opened, placement.precision)))
    need_pytorch()
    from dragoman.checkpoints.nllb import load_nllb
    from dragoman.systems.plain import prepare_

    model = load_nllb(folder, dtype=None)
    prepare_(model, placement)
    return model
