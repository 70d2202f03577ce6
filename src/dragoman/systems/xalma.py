"""X-ALMA, ALMA and ALMA-R: a Llama that is asked to translate, with a language module for each row."""

from pathlib import Path

import torch

from dragoman.errors import InvalidOption
from dragoman.generation.options import GenerationOptions
from dragoman.generation.search import Hypothesis, complete
from dragoman.languages import Language, find
from dragoman.models.catalog import CARD, ModelCard
from dragoman.models.llama import ANY, Llama
from dragoman.models.xalma import group_of
from dragoman.surgery.language_modules import attach_, groups
from dragoman.surgery.loading import load_xalma
from dragoman.systems.base import Request
from dragoman.text.prompt_style import Style, style_of
from dragoman.text.prompts import ask_prompt, clean_output, encode, room, translation_prompt, xalma_languages
from dragoman.text.tokenizers.llama import LlamaTokenizer

ENGLISH = "eng_Latn"
# Prompts were trained at 256 tokens in all; longer sentences are cut at clauses.
LONGEST = 200
LICENCE = "MIT (on a Llama-2 base)"


class XalmaSystem:
    """A member of the ALMA family as a `System`."""

    def __init__(self, model: Llama, tokenizer: LlamaTokenizer, card: ModelCard, style: Style) -> None:
        self.model, self.tokenizer, self.card, self.style = model, tokenizer, card, style

    @classmethod
    def load(cls, folder: Path, device: str, name: str | None = None) -> "XalmaSystem":
        """Load a combined checkpoint, a merged group, or an adapter with its base.

        Of a combined checkpoint the modules are read when a language first needs one.
        """
        model = (
            load_xalma(folder, groups=(), device=device)
            if _is_combined(folder)
            else load_xalma(folder, device=device)
        )
        card = ModelCard.from_folder(folder, LONGEST) if (folder / CARD).exists() else _card(folder, model)
        return cls(model, LlamaTokenizer.from_folder(folder), card, style_of(folder, name))

    @property
    def max_new_tokens(self) -> int:
        return self.model.config.max_position_embeddings // 2

    def room(self, source: Language, target: Language) -> int:
        context = self.model.config.max_position_embeddings
        free = room(source, target, self.tokenizer, context, self.max_new_tokens, self.style)
        return min(free, self.card.max_source_tokens)

    def measure(self, text: str) -> int:
        return len(self.tokenizer.encode_pieces([text])[0])

    def encode(self, requests: list[Request]) -> list[list[int]]:
        prompts = [translation_prompt(r.text, r.source, r.target, style=self.style) for r in requests]
        return [encode(prompt, self.tokenizer) for prompt in prompts]

    def run(
        self, rows: list[list[int]], requests: list[Request], options: GenerationOptions
    ) -> list[list[Hypothesis]]:
        return self._complete(rows, [self._group(request) for request in requests], options)

    def ask(self, questions: list[str], language: str, options: GenerationOptions) -> list[str]:
        """Answers to open questions in one language, from a chat-tuned model."""
        if self.style != "chat":
            raise InvalidOption(f"{self.card.name} was trained to translate only; questions need X-ALMA")
        rows = [encode(ask_prompt(question), self.tokenizer) for question in questions]
        found = self._complete(rows, [group_of(language)] * len(rows), options)
        return [self.tokenizer.decode(ranked[0].tokens).strip() for ranked in found]

    def _complete(
        self, rows: list[list[int]], wanted: list[int], options: GenerationOptions
    ) -> list[list[Hypothesis]]:
        if self.model.model.language.merged is None:
            for group in sorted(set(wanted) - set(groups(self.model))):
                attach_(self.model, group)
        ids, keep = self.tokenizer.pad(rows, left=True)
        device = self.model.lm_head.weight.device
        return complete(
            self.model,
            torch.tensor(ids, device=device),
            torch.tensor(keep, device=device),
            options,
            None if self.model.model.language.merged == ANY else torch.tensor(wanted, device=device),
            eos=self.tokenizer.eos_id,
        )

    def _group(self, request: Request) -> int:
        """The module is that of the language other than English; of two such, the target's."""
        other = request.source if request.target.nllb == ENGLISH else request.target
        return group_of(other.nllb)

    def decode(self, hypothesis: Hypothesis, request: Request) -> str:
        text = self.tokenizer.decode(hypothesis.tokens)
        source, target = request.source.xalma_name, request.target.xalma_name
        return clean_output(text, target or request.target.name, self.style, source, request.text)

    def tokens(self, hypothesis: Hypothesis) -> tuple[str, ...]:
        return tuple(self.tokenizer.tokens(hypothesis.tokens))

    def is_complete(self, hypothesis: Hypothesis) -> bool:
        return bool(hypothesis.tokens) and hypothesis.tokens[-1] == self.tokenizer.eos_id


def _is_combined(folder: Path) -> bool:
    from dragoman.surgery.module_folders import has_weights, open_model

    return has_weights(folder) and open_model(folder).is_combined


def _card(folder: Path, model: Llama) -> ModelCard:
    """All of X-ALMA's languages, or English and those of the only group there is."""
    language = model.model.language
    spoken = xalma_languages()
    only = language.merged if language.source is None and language.merged != ANY else None
    attached = set(language.scales) if language.source is None else set()
    allowed = {only} if only is not None else attached
    if allowed:
        spoken = tuple(row for row in spoken if row.group in allowed or row.nllb == ENGLISH)
    codes = tuple(find(row.nllb).nllb for row in spoken)
    return ModelCard(folder.name, codes, LONGEST, pivot=ENGLISH, licence=LICENCE)
