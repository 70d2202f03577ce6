"""X-ALMA, ALMA and ALMA-R: a Llama that is asked to translate, with a language module for each row."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from dragoman.checkpoints.cards import ModelCard
from dragoman.checkpoints.catalog import base_of
from dragoman.checkpoints.families import ENGLISH, card_of, has_tokenizer, is_adapter, known_group
from dragoman.checkpoints.llama import load_xalma
from dragoman.errors import InvalidOption
from dragoman.generation.engine import Engine, Job
from dragoman.generation.hypotheses import Hypothesis
from dragoman.generation.options import GenerationOptions
from dragoman.languages import Language
from dragoman.models.language_modules import ANY
from dragoman.models.llama import Llama
from dragoman.models.xalma import group_of
from dragoman.native.llama import NativeLlama
from dragoman.systems.base import ChatSystem, Request
from dragoman.systems.modules import LanguageModules
from dragoman.systems.placement import AUTO, Budget, check, place, prepare, work_memory
from dragoman.text.lengths import growth
from dragoman.text.prompt_style import Style, style_of
from dragoman.text.prompts import (
    ask_prompt,
    certain_output,
    clean_output,
    encode,
    room,
    translation_prompt,
)
from dragoman.text.tokenizers.llama import LlamaTokenizer

CUT_SIGN = "\ufffd"  # at the end of a text: a character of which not all bytes are there yet


class XalmaSystem(ChatSystem):
    """A member of the ALMA family as a `System`."""

    def __init__(
        self,
        model: Llama,
        tokenizer: LlamaTokenizer,
        card: ModelCard,
        style: Style,
        runner: Llama | NativeLlama | None = None,
        precision: str = "fp32",
        budget: Budget | None = None,
    ) -> None:
        """runner: what generates, if not the model itself; precision: of the weights.

        budget: the memory for modules and decoding; None is any module, and what `work_memory` says.
        """
        self.model, self.tokenizer, self.card, self.style = model, tokenizer, card, style
        self.precision = precision
        self.engine = Engine(
            model if runner is None else runner,
            pad=tokenizer.pad_id,
            eos=tokenizer.eos_id,
            memory=work_memory(model.model.norm.weight.device) if budget is None else budget.work,
        )
        self.modules = LanguageModules(model, self.engine, budget)

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
        check(precision, memory)
        groups = () if _is_combined(folder) else None
        model = load_xalma(folder, groups, dtype=None)
        base = base_of(folder) if is_adapter(folder) else folder
        card = card_of(folder, base)
        placement = place(model, device, precision, memory)
        runner = prepare(model, placement)
        tokenizer = LlamaTokenizer.from_folder(folder if has_tokenizer(folder) else base)
        # What has a group is X-ALMA's, whatever its folder is called.
        style: Style = "chat" if known_group(folder) is not None else style_of(base, name)
        return cls(model, tokenizer, card, style, runner, placement.precision, placement.budget)

    def restrict(self, size: int | None, texts: Mapping[str, Sequence[str]] | None) -> None:
        raise InvalidOption(
            f"{self.card.name} chooses from its whole vocabulary: its output layer is so small a part of the "
            "work that a smaller one would save nothing"
        )

    @property
    def max_new_tokens(self) -> int:
        return self.model.config.max_position_embeddings // 2

    def room(self, source: Language, target: Language) -> int:
        context = self.model.config.max_position_embeddings
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
        return self._job(row, self._group(request), options)

    def question(self, question: str, language: str, options: GenerationOptions) -> Job:
        if self.style != "chat":
            raise InvalidOption(f"{self.card.name} was trained to translate only; questions need X-ALMA")
        return self._job(encode(ask_prompt(question), self.tokenizer), group_of(language), options)

    def answer(self, tokens: Sequence[int], partial: bool = False) -> str:
        text = self.tokenizer.decode(tokens)
        return (text.rstrip(CUT_SIGN) if partial else text).strip()

    def _job(self, row: list[int], group: int, options: GenerationOptions) -> Job:
        merged = self.model.model.language.merged
        if merged is None:
            self.modules.require(group)
        # The embedding may have been filled up to a round number of rows, which are no tokens.
        banned = range(len(self.tokenizer), self.model.config.vocab_size)
        options = replace(options, suppress=(*options.suppress, *banned))
        return Job((), options, prompt=row, group=None if merged == ANY else group)

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


def _is_combined(folder: Path) -> bool:
    from dragoman.checkpoints.module_folders import has_weights, open_model

    return has_weights(folder) and open_model(folder).is_combined
