"""What of a model some languages need: experts, or language modules, and a card that says so."""

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from dragoman.checkpoints.cards import ModelCard
from dragoman.checkpoints.catalog import base_of
from dragoman.checkpoints.cutting import Kept, keep_experts
from dragoman.checkpoints.families import ENGLISH, family_of, is_adapter
from dragoman.checkpoints.llama_files import LlamaFiles
from dragoman.checkpoints.nllb_files import NllbFiles
from dragoman.errors import InvalidOption
from dragoman.evaluation.expert_choice import choose_experts, keep_counts
from dragoman.evaluation.experts import SIDES, ExpertStatistics
from dragoman.languages import Language, find, of_code
from dragoman.models.config import NllbConfig
from dragoman.models.llama_config import LLAMA
from dragoman.models.xalma import group_of

NAMED = 6
"""Languages up to which a pack is called by their codes."""


@dataclass(frozen=True)
class LanguagePack:
    """A model for some languages, of which only what these need is kept."""

    languages: tuple[str, ...]
    """NLLB codes."""
    experts: Kept | None = None
    """Of a mixture of experts."""

    def cut(self, files: NllbFiles | LlamaFiles) -> Any:
        """The files without what isn't needed: experts, or X-ALMA's modules of other languages."""
        if isinstance(files, NllbFiles):
            return files if self.experts is None else keep_experts(files, self.experts)
        groups = {group_of(code) for code in self.languages if code != ENGLISH}
        return replace(
            files, modules={group: module for group, module in files.modules.items() if group in groups}
        )

    def card(self, card: ModelCard, files: NllbFiles | LlamaFiles) -> ModelCard:
        """The card of the pack, from the model's; files: what is left."""
        codes = [of_code(code).short_code for code in self.languages]
        named = ", ".join(codes) if len(codes) <= NAMED else f"{len(codes)} languages"
        made: dict[str, Any] = {"of": card.name}
        if isinstance(files, LlamaFiles):
            made["groups"] = sorted(files.modules)
        elif self.experts is not None:
            config = files.config
            made["experts"] = {
                side: {"kept": config.experts(side), "of": config.num_experts} for side in self.experts
            }
        return replace(card, name=f"{card.name} ({named})", languages=self.languages, pack=made)

    def metadata(self) -> dict[str, str]:
        """By which the files of one pack are told from those of another."""
        found = {"languages": ",".join(self.languages)}
        return found if self.experts is None else {**found, "experts": json.dumps(self.experts)}


def pack_languages(card: ModelCard, spellings: Sequence[str]) -> tuple[str, ...]:
    """The NLLB codes of a pack's languages, with the one by way of which the model translates.

    UnknownLanguage for one that the model doesn't speak, InvalidOption for a single one.
    """
    spoken = [of_code(code) for code in card.languages]
    found: list[Language] = [find(spelling, spoken) for spelling in spellings]
    if card.pivot is not None:
        found.append(of_code(card.pivot))
    codes = tuple(dict.fromkeys(language.nllb for language in found))
    if len(codes) < 2:
        raise InvalidOption(
            f"a pack for {found[0].name} alone has nothing to translate; give another language too"
        )
    return codes


def sparse_config(folder: Path) -> NllbConfig | None:
    """The config of the mixture of experts in `folder`; None for X-ALMA.

    InvalidOption for a model without experts or modules, of which a pack would leave nothing out.
    """
    base = base_of(folder) if is_adapter(folder) else folder
    if LLAMA in family_of(base).model_types:
        return None
    config = NllbConfig.from_folder(base)
    if not config.is_sparse:
        raise InvalidOption(
            f"{folder} has neither experts nor language modules, so there is nothing to leave out; "
            "pack all of it with dragoman convert"
        )
    return config


def needed_experts(
    config: NllbConfig, statistics: ExpertStatistics, languages: Sequence[str], share: float
) -> Kept:
    """The experts that a pack keeps, `share` of all (see `expert_choice`).

    InvalidOption or ConfigError if the statistics lack a language, or are about another model.
    """
    sides = {side: (config.sparse_layers(side), config.experts(side)) for side in SIDES}
    sides = {side: shape for side, shape in sides.items() if shape[0]}
    for side, (layers, experts) in sides.items():
        if side in statistics.sides:
            statistics.check(side, layers, experts)
    counts = keep_counts(share, {side: (len(layers), experts) for side, (layers, experts) in sides.items()})
    return choose_experts(statistics, languages, counts)
