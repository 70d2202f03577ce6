"""What a run's settings stand for: its objective, its feeds, its evaluation."""

from collections.abc import Callable, Sequence
from copy import deepcopy
from dataclasses import replace
from functools import partial
from typing import Any

import torch

from dragoman.errors import InvalidOption
from dragoman.models.llama import Llama
from dragoman.models.nllb import Nllb
from dragoman.text.prompt_style import Style
from dragoman.text.tokenizers.llama import LlamaTokenizer
from dragoman.text.tokenizers.nllb import NllbTokenizer
from dragoman.training.augmentation.examples import Augmentation, AugmentationOptions
from dragoman.training.collecting import AnyPart, Texts, codes_of
from dragoman.training.config import CAUSAL, SFT, TRANSLATION, PhaseOptions, TrainingConfig
from dragoman.training.data import PAD, Batches
from dragoman.training.loop import Feed, Phase, Trainer
from dragoman.training.names import names_in
from dragoman.training.objectives.base import Losses, Objective
from dragoman.training.objectives.causal import Causal, Preference
from dragoman.training.objectives.preference import arpo, arpo_repository, cpo, dpo, simpo
from dragoman.training.objectives.translation import Translation
from dragoman.training.parts import ENGLISH, Part
from dragoman.training.prompted import BlockFeed, PreferenceFeed, PromptFeed, Reading

NAME_PAIRS = 60_000
"""Of each part: names are taken from so many pairs."""
Tokenizer = NllbTokenizer | LlamaTokenizer


def objective_of(config: TrainingConfig, model: Nllb | Llama) -> Objective:
    """What a run learns. DPO compares with the model as it is now."""
    if config.objective == TRANSLATION:
        return Translation(PAD, config.label_smoothing, config.balance_loss, config.z_loss)
    if config.objective in (CAUSAL, SFT):
        return Causal()
    options = config.preference
    usual_beta = 2.0 if config.objective == "simpo" else 0.1
    beta = usual_beta if options.beta is None else options.beta
    rankings: dict[str, Callable[..., Any]] = {
        "cpo": partial(cpo, beta=beta),
        "arpo": partial(arpo, beta=beta, eta=options.eta),
        "arpo-repository": partial(arpo_repository, beta=beta),
        "dpo": partial(dpo, beta=beta),
        "simpo": partial(simpo, beta=beta, gamma=options.gamma),
    }
    usual = 0.0 if config.objective in ("dpo", "simpo") else 1.0
    nll = usual if options.nll is None else options.nll
    reference = frozen_copy(model) if config.objective == "dpo" else None
    return Preference(rankings[config.objective], nll, reference)


def frozen_copy(model: Any) -> Any:
    """The model as it is now, which never changes; what is frozen already is shared."""
    shared = {id(p): p for p in model.parameters() if not p.requires_grad}
    return deepcopy(model, shared).requires_grad_(False).eval()


def phases_of(
    config: TrainingConfig, parts: Sequence[AnyPart], tokenizer: Tokenizer, style: Style
) -> list[Phase]:
    """What is read, and from when on."""
    if not config.phases:
        return [Phase(feed_of(config, parts, tokenizer, style))]
    found: list[Phase] = []
    begins = 0
    for options in config.phases:
        chosen = _chosen(config, parts, options)
        if not chosen:
            raise InvalidOption(
                f"phase {len(found) + 1} has no text: none of its parts is there in one of its languages"
            )
        settings = replace(config, max_tokens=options.max_tokens or config.max_tokens)
        found.append(Phase(feed_of(settings, chosen, tokenizer, style), begins))
        begins += options.updates
    return found


def feed_of(
    config: TrainingConfig,
    parts: Sequence[Any],
    tokenizer: Tokenizer,
    style: Style = "plain",
    dev: bool = False,
) -> Feed:
    """Batches of these parts, for the run's objective; dev: of every row once, as it is."""
    codes = {"en": ENGLISH, **codes_of(config)}
    ratios = None if dev else {codes[short]: ratio for short, ratio in config.ratios.items()}
    balance = 1.0 if dev else config.balance
    count = sum(map(len, parts)) if dev else config.round_examples
    if isinstance(tokenizer, NllbTokenizer):
        ids = {code: tokenizer.language_id(code) for code in codes.values()}
        changes = None if dev else _augmentation(config, parts)
        tokens = config.batch_tokens, config.max_tokens
        return Batches(parts, tokenizer, ids, *tokens, balance, config.seed, changes, count, ratios)
    group = config.group
    tokens_ = config.batch_tokens, config.max_tokens
    reading = Reading(*tokens_, balance, ratios, config.seed, count, group, style)
    kinds: dict[str, Any] = {CAUSAL: BlockFeed, SFT: PromptFeed}
    feed: Feed = kinds.get(config.objective, PreferenceFeed)(parts, tokenizer, reading)
    return feed


class DevLoss:
    """The objective's figures on development rows."""

    trainer: Trainer

    def __init__(self, feed: Feed) -> None:
        self.batches = feed.round(0)

    @torch.no_grad()
    def __call__(self, model: Any) -> dict[str, float]:
        objective = self.trainer.objective
        sums: dict[str, float] = {}
        counts: dict[str, float] = {}
        for batch in self.batches:
            found: Losses = self.trainer.losses(batch)
            for total, more in ((sums, found.figures), (counts, objective.counts(batch))):
                for name, value in more.items():
                    total[name] = total.get(name, 0.0) + value
        wanted = ("loss", "accuracy", "margin")
        return {
            f"dev_{name}": round(sums[name] / max(1.0, counts[objective.figures[name]]), 7)
            for name in wanted
            if name in sums
        }


def dev_loss(config: TrainingConfig, texts: Texts, tokenizer: Tokenizer, style: Style) -> DevLoss | None:
    """The evaluation of a run; None if it has no development rows."""
    return DevLoss(feed_of(config, texts.dev, tokenizer, style, dev=True)) if texts.dev else None


def _chosen(config: TrainingConfig, parts: Sequence[AnyPart], options: PhaseOptions) -> list[AnyPart]:
    codes = {codes_of(config)[short] for short in options.languages} or {part.code for part in parts}
    names = set(options.parts) or {part.name for part in parts}
    return [part for part in parts if part.code in codes and part.name in names]


def _augmentation(config: TrainingConfig, parts: Sequence[AnyPart]) -> Augmentation | None:
    options = config.augmentation
    if options == AugmentationOptions():
        return None
    pairs = (pair for part in parts if isinstance(part, Part) for pair in part.pairs[:NAME_PAIRS])
    names = names_in(pairs) if options.frequent_names or options.names else []
    return Augmentation(options, names)
