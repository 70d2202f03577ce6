"""What of a model some languages need: experts, tokens, or language modules, and a card that says so."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from hashlib import sha256
from pathlib import Path
from typing import Any

from dragoman.checkpoints.cards import ModelCard
from dragoman.checkpoints.catalog import base_of
from dragoman.checkpoints.cutting import Kept, keep_experts, keep_rows
from dragoman.checkpoints.families import ENGLISH, family_of, has_tokenizer, is_adapter
from dragoman.checkpoints.llama_files import LlamaFiles
from dragoman.checkpoints.nllb_files import NllbFiles
from dragoman.checkpoints.telling import NLLB
from dragoman.errors import InvalidOption
from dragoman.evaluation.expert_choice import choose_experts, keep_counts
from dragoman.evaluation.experts import SIDES, ExpertStatistics
from dragoman.languages import Language, find, of_code
from dragoman.models.config import NllbConfig
from dragoman.models.llama_config import LLAMA
from dragoman.models.xalma import group_of
from dragoman.text.tokenizers import NllbTokenizer
from dragoman.text.tokenizers.cutting import CutTokenizer, cut_tokenizer
from dragoman.text.tokenizers.m2m100 import M2m100Tokenizer
from dragoman.text.vocabulary import target_vocabulary

NAMED = 6
"""Languages up to which a pack is called by their codes."""


@dataclass(frozen=True)
class LanguagePack:
    """A model for some languages, of which only what these need is kept."""

    languages: tuple[str, ...]
    """NLLB codes."""
    experts: Kept | None = None
    """Of a mixture of experts."""
    vocabulary: CutTokenizer | None = None
    """Of NLLB's kind; None: all of it."""

    def cut(self, files: NllbFiles | LlamaFiles) -> Any:
        """The files without what isn't needed: experts and tokens, or X-ALMA's modules of other languages."""
        if isinstance(files, NllbFiles):
            if self.vocabulary is not None:
                files = keep_rows(files, self.vocabulary.ids.rows(files.config.vocab_size))
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
            return replace(card, name=f"{card.name} ({named})", languages=self.languages, pack=made)
        if self.experts is not None:
            config = files.config
            made["experts"] = {
                side: {"kept": config.experts(side), "of": config.num_experts} for side in self.experts
            }
        if self.vocabulary is not None:
            ids = self.vocabulary.ids
            made["vocabulary"] = {"kept": len(ids.kept), "of": len(ids.pieces)}
        return replace(card, name=f"{card.name} ({named})", languages=self.languages, pack=made)

    def metadata(self) -> dict[str, str]:
        """By which the files of one pack are told from those of another."""
        found = {"languages": ",".join(self.languages)}
        if self.experts is not None:
            found["experts"] = json.dumps(self.experts)
        if self.vocabulary is not None:
            found["vocabulary"] = sha256(json.dumps(self.vocabulary.ids.kept).encode()).hexdigest()
        return found


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


def config_of(folder: Path) -> NllbConfig | None:
    """The config of the model of NLLB's kind in `folder`; None for X-ALMA."""
    base = base_of(folder) if is_adapter(folder) else folder
    return None if LLAMA in family_of(base).model_types else NllbConfig.from_folder(base)


def needed_vocabulary(
    folder: Path,
    languages: Sequence[str],
    size: int,
    texts: Mapping[str, Sequence[str]] | None = None,
) -> CutTokenizer | None:
    """The tokenizer of the model in `folder` with `size` tokens for each language (`text.vocabulary`).

    texts: by NLLB code, lines such as are to be read and written. None if no token can be left out.
    InvalidOption for a size below 1.
    """
    base = base_of(folder) if is_adapter(folder) else folder
    where = folder if has_tokenizer(folder) else base
    kind = NllbTokenizer if family_of(base).name == NLLB else M2m100Tokenizer
    tokenizer = kind.from_folder(where)
    wanted = set[int]()
    for code in languages:
        wanted.update(target_vocabulary(tokenizer, of_code(code), size, (texts or {}).get(code)))
    cut = cut_tokenizer(tokenizer, where, wanted)
    return cut if len(cut.ids.kept) < len(cut.ids.pieces) else None


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
