"""X-ALMA, ALMA and ALMA-R: a Llama that is asked to translate, with a language module for each row."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from dragoman.checkpoints.cards import ModelCard
from dragoman.checkpoints.catalog import base_of
from dragoman.checkpoints.families import ENGLISH, card_of, has_tokenizer, is_adapter, known_group
from dragoman.checkpoints.llama_files import open_llama
from dragoman.checkpoints.packed_facts import is_packed
from dragoman.checkpoints.packed_folders import PackedModel, open_packed
from dragoman.checkpoints.packing import pack_llama
from dragoman.errors import InvalidOption
from dragoman.generation.engine import Engine, Job
from dragoman.generation.hypotheses import Hypothesis
from dragoman.generation.options import GenerationOptions
from dragoman.generation.terms import Terms
from dragoman.languages import Language
from dragoman.models.language_modules import ANY
from dragoman.models.language_modules import LanguageModules as Attached
from dragoman.models.llama_config import LlamaConfig
from dragoman.models.xalma import group_of
from dragoman.native.llama import NativeLlama
from dragoman.native.weights import PackedWeights
from dragoman.systems.base import ChatSystem, Request
from dragoman.systems.devices import need_pytorch
from dragoman.systems.modules import Attaching, LanguageModules, MappedModules, NativeModules
from dragoman.systems.placement import AUTO, Budget, Placement, check
from dragoman.systems.planning import Placing, Plan, placed
from dragoman.text.lengths import growth
from dragoman.text.prompt_style import Style, known_style, style_of
from dragoman.text.prompts import (
    ask_prompt,
    certain_output,
    clean_output,
    encode,
    room,
    translation_prompt,
)
from dragoman.text.tokenizers.llama import LlamaTokenizer

if TYPE_CHECKING:
    from dragoman.models.llama import Llama

CUT_SIGN = "\ufffd"  # at the end of a text: a character of which not all bytes are there yet


class XalmaSystem(ChatSystem):
    """A member of the ALMA family as a `System`."""

    def __init__(
        self,
        runner: "NativeLlama | Llama",
        tokenizer: LlamaTokenizer,
        card: ModelCard,
        style: Style,
        attaching: Attaching,
        precision: str = "fp32",
        budget: Budget | None = None,
        engine: Engine | None = None,
    ) -> None:
        """runner: what generates; attaching: how it takes language modules; precision: of its weights.

        budget: the memory for modules and decoding; None is any module, and what `Engine` takes. engine: one
        that has `runner`'s work done elsewhere.
        """
        self.runner, self.config = runner, runner.config
        self.tokenizer, self.card, self.style, self.precision = tokenizer, card, style, precision
        self.engine = engine or Engine(
            runner,
            pad=tokenizer.pad_id,
            eos=tokenizer.eos_id,
            memory=None if budget is None else budget.work,
        )
        self.modules = LanguageModules(attaching, self.engine, budget)

    @classmethod
    def load(
        cls,
        folder: Path,
        device: str,
        name: str | None = None,
        precision: str = AUTO,
        memory: str | int | None = None,
    ) -> "XalmaSystem":
        """Load a combined checkpoint, a merged group, or an adapter with its base.

        Of a combined checkpoint the modules are read when a language first needs one. `placement.place`
        explains precision and memory.
        """
        plan = cls.plan(folder, device, name, precision, memory)
        files, placement = plan.files, plan.placement
        attaching: Attaching
        if isinstance(files, PackedModel):
            assert isinstance(files.config, LlamaConfig)
            packed = NativeLlama(files.config, PackedWeights(files), Attached(merged=files.merged))
            return cls._of(plan, packed, MappedModules(packed, files))
        if placement.is_native:
            parts = pack_llama(files, placement.precision)
            native = NativeLlama(files.config, PackedWeights(parts), files.language())
            runner: NativeLlama | Llama = native
            attaching = NativeModules(native, parts, placement.precision)
        else:
            runner, attaching = _in_pytorch(folder, _groups(folder), placement)
        return cls._of(plan, runner, attaching)

    @classmethod
    def _of(cls, plan: Plan, runner: "NativeLlama | Llama", attaching: Attaching) -> "XalmaSystem":
        placement, style = plan.placement, cast(Style, plan.style)
        return cls(runner, plan.tokenizer, plan.card, style, attaching, placement.precision, placement.budget)

    @classmethod
    def plan(
        cls,
        folder: Path,
        device: str,
        name: str | None = None,
        precision: str = AUTO,
        memory: str | int | None = None,
        placing: Placing = placed,
    ) -> Plan:
        """As `load`, without reading any weights; placing: what decides how it would run."""
        check(precision, memory)
        packed = is_packed(folder)
        opened: Any = open_packed(folder) if packed else open_llama(folder, _groups(folder))
        base = base_of(folder) if not packed and is_adapter(folder) else folder
        # What has a group is X-ALMA's, whatever its folder is called.
        style: Style
        if packed:
            style = known_style(opened.style)
        else:
            style = "chat" if known_group(folder) is not None else style_of(base, name)
        tokenizer = LlamaTokenizer.from_folder(folder if has_tokenizer(folder) else base)
        return Plan(
            folder,
            opened,
            tokenizer,
            card_of(folder, base),
            placing(opened, device, precision, memory),
            style,
        )

    def restrict(self, size: int | None, texts: Mapping[str, Sequence[str]] | None) -> None:
        raise InvalidOption(
            f"{self.card.name} chooses from its whole vocabulary: its output layer is so small a part of the "
            "work that a smaller one would save nothing"
        )

    @property
    def max_new_tokens(self) -> int:
        return self.config.max_position_embeddings // 2

    def room(self, source: Language, target: Language) -> int:
        context = self.config.max_position_embeddings
        free = room(source, target, self.tokenizer, context, self.max_new_tokens, self.style)
        return min(free, self.card.max_source_tokens)

    def measure(self, text: str) -> int:
        return len(self.tokenizer.encode_pieces([text])[0])

    def growth(self, source: Language, target: Language) -> float:
        return growth(self.tokenizer, source, target)

    def encode(self, requests: list[Request]) -> list[list[int]]:
        prompts = [translation_prompt(r.text, r.source, r.target, style=self.style) for r in requests]
        return [encode(prompt, self.tokenizer) for prompt in prompts]

    def job(self, row: list[int], request: Request, options: GenerationOptions) -> Job:
        return self._job(row, self._group(request), options, self.spelled(request))

    def question(self, question: str, language: str, options: GenerationOptions) -> Job:
        if self.style != "chat":
            raise InvalidOption(f"{self.card.name} was trained to translate only; questions need X-ALMA")
        return self._job(encode(ask_prompt(question), self.tokenizer), group_of(language), options)

    def answer(self, tokens: Sequence[int], partial: bool = False) -> str:
        text = self.tokenizer.decode(tokens)
        return (text.rstrip(CUT_SIGN) if partial else text).strip()

    def _job(self, row: list[int], group: int, options: GenerationOptions, terms: Terms | None = None) -> Job:
        merged = self.modules.merged
        # The embedding may have been filled up to a round number of rows, which are no tokens.
        banned = range(len(self.tokenizer), self.config.vocab_size)
        options = replace(options, suppress=(*options.suppress, *banned))
        job = Job((), options, prompt=row, group=None if merged == ANY else group, terms=terms)
        return self.lend(job)

    def lend(self, job: Job) -> Job:
        return self.modules.lend(job) if self.modules.merged is None else job

    def bring(self, group: int) -> None:
        if self.modules.merged is None:
            self.modules.require(group)

    @property
    def may_wait(self) -> bool:
        """Language modules are read, and attached between two steps of the engine, when one is needed."""
        return self.modules.merged is None

    def _group(self, request: Request) -> int:
        """The module is that of the language other than English; of two such, the target's."""
        other = request.source if request.target.nllb == ENGLISH else request.target
        return group_of(other.nllb)

    def decode(self, hypothesis: Hypothesis, request: Request) -> str:
        text = self.tokenizer.decode(hypothesis.tokens)
        source, target = request.source.xalma_name, request.target.xalma_name
        return clean_output(text, target or request.target.name, self.style, source, request.text)

    def certain(self, tokens: Sequence[int], request: Request) -> str:
        text = self.tokenizer.decode(tokens).rstrip(CUT_SIGN)
        source, target = request.source.xalma_name, request.target.xalma_name
        return certain_output(text, target or request.target.name, self.style, source, request.text)

    def tokens(self, hypothesis: Hypothesis) -> tuple[str, ...]:
        return tuple(self.tokenizer.tokens(hypothesis.tokens))

    def is_complete(self, hypothesis: Hypothesis) -> bool:
        return bool(hypothesis.tokens) and hypothesis.tokens[-1] == self.tokenizer.eos_id


def _groups(folder: Path) -> tuple[int, ...] | None:
    """Which modules are read at once: none of a combined checkpoint's, all of another's."""
    return () if _is_combined(folder) else None


def _is_combined(folder: Path) -> bool:
    from dragoman.checkpoints.module_folders import has_weights, open_model

    return has_weights(folder) and open_model(folder).is_combined


def _in_pytorch(
    folder: Path, groups: tuple[int, ...] | None, placement: Placement
) -> "tuple[Llama, Attaching]":
    need_pytorch()
    from dragoman.checkpoints.llama import load_xalma
    from dragoman.systems.plain import PlainModules, prepare_

    model = load_xalma(folder, groups, dtype=None)
    prepare_(model, placement)
    return model, PlainModules(model)
