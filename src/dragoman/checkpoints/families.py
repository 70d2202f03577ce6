"""The families of models: what tells one from the files in a folder, and what a folder of each must hold.

A family is a row in `FAMILIES`. How its models run is in `dragoman.systems`. Dense NLLB-200, M2M-100 and
SMaLL-100 are of one model type: `telling` says which one a folder is.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from dragoman.checkpoints.cards import (
    M2M100_LICENCE,
    NLLB_LICENCE,
    XALMA_LICENCE,
    ModelCard,
    read_card,
    read_family,
)
from dragoman.checkpoints.telling import M2M100, NLLB, SMALL100, name_of, tell_dense
from dragoman.checkpoints.weight_files import (
    PACKED,
    PACKED_INDEX,
    find_packed,
    find_shards,
    read_metadata,
)
from dragoman.errors import CheckpointError, ConfigError
from dragoman.files import read_json
from dragoman.languages import all_languages, is_code, nllb_codes
from dragoman.models.config import DENSE, MOE, NllbConfig, read_config
from dragoman.models.llama_config import LLAMA, XALMA, LlamaConfig
from dragoman.text.tokenizers.added import JSON_NAME, listed_in, named_in
from dragoman.text.tokenizers.backends import SPM_NAME
from dragoman.text.tokenizers.m2m100 import M2M100_LANGUAGES, VOCABULARY_NAME

ADAPTER_CONFIG = "adapter_config.json"
ADAPTERS = ("adapter_model.safetensors", "adapter_model.bin")
GROUP_MARK = "xalma_group"
"""What a file's metadata say of its group: a number, "base", or "unknown" for a merged stranger."""
ENGLISH = "eng_Latn"
# X-ALMA's prompts were trained at 256 tokens in all; longer sentences are cut at clauses.
XALMA_LONGEST = 200
# M2M-100 was trained on sentences of up to 250 pieces.
M2M100_LONGEST = 250


@dataclass(frozen=True)
class Family:
    """A row of the table."""

    name: str
    model_types: tuple[str, ...]
    """What its `config.json` calls it."""
    tokenizers: tuple[tuple[str, ...], ...]
    """The files that make up a tokenizer; of several such groups one is needed beside the weights."""
    read: Callable[[Mapping[str, Any]], object]
    """Reads its config; ConfigError if that can't be one."""
    card: Callable[[Path, Mapping[str, Any]], ModelCard]
    """The card of a folder that has none, from the folder and its config."""


def nllb_card(folder: Path, config: Mapping[str, Any]) -> ModelCard:
    """All of NLLB's languages at the length it was trained on, 512 of its 1,024 positions."""
    longest = min(512, NllbConfig.from_dict(config).max_position_embeddings) - 2
    return ModelCard(folder.name, nllb_codes(), longest, licence=NLLB_LICENCE)


def m2m100_card(folder: Path, config: Mapping[str, Any]) -> ModelCard:
    """M2M-100's hundred languages; SMaLL-100 has the same."""
    longest = min(M2M100_LONGEST, NllbConfig.from_dict(config).max_position_embeddings - 2)
    return ModelCard(folder.name, tuple(M2M100_LANGUAGES.values()), longest, licence=M2M100_LICENCE)


def xalma_card(folder: Path, config: Mapping[str, Any]) -> ModelCard:
    """All of X-ALMA's languages, or English and those of the only group there is."""
    group = None if config.get("model_type") == XALMA else known_group(folder)
    spoken = [row for row in all_languages() if row.xalma]
    codes = tuple(row.nllb for row in spoken if group is None or row.group == group or row.nllb == ENGLISH)
    return ModelCard(folder.name, codes, XALMA_LONGEST, pivot=ENGLISH, licence=XALMA_LICENCE)


_M2M100_FILES = ((SPM_NAME, VOCABULARY_NAME),)
FAMILIES = (
    Family(NLLB, (DENSE, MOE), ((SPM_NAME,), (JSON_NAME,)), NllbConfig.from_dict, nllb_card),
    Family(M2M100, (DENSE,), _M2M100_FILES, NllbConfig.from_dict, m2m100_card),
    Family(SMALL100, (DENSE,), _M2M100_FILES, NllbConfig.from_dict, m2m100_card),
    Family("X-ALMA", (LLAMA, XALMA), (("tokenizer.model",), (JSON_NAME,)), LlamaConfig.from_dict, xalma_card),
)


def family_of(folder: Path) -> Family:
    """The family of the model in `folder`, an adapter alone included.

    The card has the first word. ConfigError if the model belongs to no family, or may belong to several.
    """
    has_config = (folder / "config.json").is_file() or not (folder / ADAPTER_CONFIG).is_file()
    config = read_config(folder) if has_config else {"model_type": _adapted_type(folder)}
    model_type = config.get("model_type")
    fitting = {family.name: family for family in FAMILIES if model_type in family.model_types}
    if not fitting:
        known = ", ".join(
            map(repr, dict.fromkeys(each for family in FAMILIES for each in family.model_types))
        )
        raise ConfigError(f"{folder}: model_type is {model_type!r}; models of these types are known: {known}")
    name = read_family(folder)
    if name is None:
        name = tell_dense(folder, config) if model_type == DENSE else next(iter(fitting))
    if name not in fitting:
        raise ConfigError(
            f"{folder}: family is {name!r} in its card; a model of type {model_type!r} can be of these: "
            f"{', '.join(map(repr, fitting))}"
        )
    return fitting[name]


def card_of(folder: Path, base: Path) -> ModelCard:
    """The card in `folder`, or what follows from the files there and from the config in `base`.

    They are one folder, but for an adapter alone.
    """
    family = family_of(base)
    card = read_card(folder) or read_card(base) or family.card(folder, read_config(base))
    card = replace(card, family=family.name)
    if family.name != NLLB:
        return card
    listed = [token.content for token in listed_in(folder).values()]
    return with_languages(card, filter(is_code, (*listed, *named_in(folder))))


def with_languages(card: ModelCard, codes: Any) -> ModelCard:
    """A card with languages that a model was taught beside the published ones, unless it was cut to some."""
    if card.pack is not None:
        return card
    published = frozenset(nllb_codes())
    taught = [code for code in codes if code not in published]
    return replace(card, languages=tuple(dict.fromkeys((*card.languages, *taught))))


def is_adapter(folder: Path) -> bool:
    """Whether a folder holds a PEFT adapter and no model."""
    return (folder / ADAPTER_CONFIG).is_file() and not _has_weights(folder)


def is_whole(folder: Path) -> bool:
    """Whether nothing that a model or adapter needs is missing in a folder."""
    if is_adapter(folder):
        return any((folder / name).is_file() for name in ADAPTERS)
    try:
        family = family_of(folder)
        family.read(read_config(folder))
        weight_files(folder)
    except (CheckpointError, ConfigError):
        return False
    return has_tokenizer(folder)


def has_tokenizer(folder: Path) -> bool:
    """Whether a folder holds the tokenizer of its family."""
    return any(all((folder / name).is_file() for name in names) for names in family_of(folder).tokenizers)


def known_group(folder: Path) -> int | None:
    """The language group of the module in a folder, merged or alone, by its mark or by the folder's name."""
    try:
        files = [folder / ADAPTERS[0]] if is_adapter(folder) else weight_files(folder)
        mark = read_metadata(files[0]).get(GROUP_MARK)
    except CheckpointError:
        mark = None  # only the description is there
    if mark is not None:
        return int(mark) if mark.isdecimal() else None
    return guess_group(folder)


def guess_group(folder: Path) -> int | None:
    """The group that a folder's name ends in, as `X-ALMA-13B-Group6` does; also in the hub's cache."""
    match = re.search(r"group[-_ ]?([1-8])$", name_of(folder).removesuffix("-LoRA"), re.IGNORECASE)
    return int(match[1]) if match else None


def _adapted_type(folder: Path) -> str:
    """The type of model that an adapter belongs to."""
    config = read_json(folder / ADAPTER_CONFIG, ConfigError)
    return MOE if config.get("task_type") == "SEQ_2_SEQ_LM" else LLAMA


def weight_files(folder: Path) -> list[Path]:
    """The files of the weights in `folder`, packed or not; CheckpointError if there are none."""
    try:
        return find_shards(folder)
    except CheckpointError:
        if any((folder / name).is_file() for name in (PACKED, PACKED_INDEX)):
            return find_packed(folder)
        raise


def _has_weights(folder: Path) -> bool:
    try:
        return bool(weight_files(folder))
    except CheckpointError:
        return False
