"""A model made ready for the kernels once and for all: packed in a folder from which it opens at once."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from dragoman.checkpoints.cards import ModelCard, read_card
from dragoman.checkpoints.catalog import base_of
from dragoman.checkpoints.compressed import FIELD as QUANTISED
from dragoman.checkpoints.families import (
    GROUP_MARK,
    card_of,
    family_of,
    has_tokenizer,
    is_adapter,
    known_group,
)
from dragoman.checkpoints.llama_files import LlamaFiles, open_llama
from dragoman.checkpoints.nllb_files import NllbFiles, open_nllb
from dragoman.checkpoints.packed_facts import FIELD, refuse_packed
from dragoman.checkpoints.packed_saving import Plan, check_output, copied_from, save_packed
from dragoman.checkpoints.packed_shards import LAYOUT
from dragoman.checkpoints.packing import llama_recipes, module_bytes, nllb_recipes, packed_bytes
from dragoman.checkpoints.places import Place
from dragoman.errors import CheckpointError, InvalidOption
from dragoman.evaluation.experts import STATISTICS
from dragoman.kernels.library import needed
from dragoman.kernels.packing import PRECISIONS
from dragoman.models.config import read_config
from dragoman.models.llama_config import LLAMA
from dragoman.systems.packs import LanguagePack
from dragoman.systems.placement import suits
from dragoman.text.prompt_style import style_of

Files = NllbFiles | LlamaFiles


def convert(
    folder: Path,
    output: Path,
    precision: str,
    name: str | None = None,
    force: bool = False,
    max_shard_bytes: int = 5_000_000_000,
    progress: Callable[[int, int], None] | None = None,
    pack: LanguagePack | None = None,
) -> None:
    """Write the model in `folder`, an adapter with its base included, to `output`, packed in `precision`.

    name: what the user called the model, which tells an X-ALMA from an ALMA. force: whether another packed
    model in `output` may be replaced. progress: is told (bytes written, bytes in all). pack: what is kept of
    it; None: all. What was cut off is continued by the same call.

    Raises InvalidOption if that can't be or would lose something, ConfigError and CheckpointError for a
    model that can't be read, and CheckpointError if the output can't be written.
    """
    if max_shard_bytes < 1:
        raise InvalidOption(f"max_shard_bytes is {max_shard_bytes}; it must be at least 1")
    check(folder, output, precision, force)
    save_packed(output, _plan(folder, precision, name, pack), force, max_shard_bytes, progress)


def check(folder: Path, output: Path, precision: str, force: bool) -> None:
    """InvalidOption for what `convert` refuses at once; ConfigError for what is no model."""
    if precision not in PRECISIONS:
        raise InvalidOption(f"precision is {precision!r}; it must be one of {', '.join(PRECISIONS)}")
    needed()
    refuse_packed(folder)
    check_output(output, folder, force)


def _plan(folder: Path, precision: str, name: str | None, pack: LanguagePack | None) -> Plan:
    base = base_of(folder) if is_adapter(folder) else folder
    refuse_packed(base)
    is_llama = LLAMA in family_of(base).model_types
    files: Files = open_llama(folder) if is_llama else open_nllb(folder)
    if pack is not None:
        files = pack.cut(files)
    if not suits(files.config):
        raise InvalidOption(
            f"{folder} does what the kernels don't know (its routing, or its rotary positions, depend on the "
            "batch), so it can't be packed; load it as it is"
        )
    if not (has_tokenizer(folder) or has_tokenizer(base)):
        raise CheckpointError(f"{folder} has no tokenizer, which a packed model needs; put its files there")
    if isinstance(files, NllbFiles):
        recipes = nllb_recipes(files, precision)
    else:
        recipes = llama_recipes(files, precision)
    vocabulary = None if pack is None else pack.vocabulary
    config = read_config(base) if vocabulary is None else vocabulary.ids.settings(read_config(base))
    config.pop(QUANTISED, None)  # of the files; what is packed is read from them as floats
    config |= {"vocab_size": files.config.vocab_size, **_experts(files)}
    card = _card(folder, base, name)
    return Plan(
        tuple(recipes),
        _size(files, precision),
        {**config, FIELD: _facts(files, precision, folder, base, name)},
        card if pack is None else pack.card(card, files),
        copied_from(folder, base) | (_statistics(folder, base) if pack is None else {}),
        _metadata(files, precision, folder) | ({} if pack is None else pack.metadata()),
        {place.file for place in _places(files)},
        {} if vocabulary is None else vocabulary.files,
    )


def _experts(files: Files) -> dict[str, int]:
    """What config.json says of experts if some were left out."""
    fields = ("encoder_experts", "decoder_experts")
    counts = {name: getattr(files.config, name, None) for name in fields}
    return {name: count for name, count in counts.items() if count is not None}


def _statistics(*folders: Path) -> dict[str, Path]:
    """What is known of a model's experts goes along."""
    found = [folder / STATISTICS for folder in folders if (folder / STATISTICS).is_file()]
    return {STATISTICS: found[0]} if found else {}


def _facts(files: Files, precision: str, folder: Path, base: Path, name: str | None) -> dict[str, Any]:
    """What config.json says of the packed model."""
    facts = {"layout": LAYOUT, "precision": precision, "style": None, "merged": None, "modules": {}}
    if isinstance(files, NllbFiles):
        return facts
    # What has a group is X-ALMA's, whatever its folder is called.
    style = "chat" if known_group(folder) is not None else style_of(base, name)
    modules = {str(group): float(module.scale) for group, module in files.modules.items()}
    return {**facts, "style": style, "merged": files.merged, "modules": modules}


def _card(folder: Path, base: Path, name: str | None) -> ModelCard:
    card = card_of(folder, base)
    has_own = read_card(folder) or read_card(base)
    # A folder in the hub's cache is called by its revision.
    return card if has_own or not name else replace(card, name=Path(name).name or card.name)


def _metadata(files: Files, precision: str, folder: Path) -> dict[str, str]:
    found = {"precision": precision, "model_type": files.config.model_type}
    group = None if isinstance(files, NllbFiles) else known_group(folder)
    return found if group is None else {**found, GROUP_MARK: str(group)}


def _size(files: Files, precision: str) -> int:
    modules = () if isinstance(files, NllbFiles) else files.modules.values()
    shapes = ({name: place.shape for name, place in module.tensors.items()} for module in modules)
    return packed_bytes(files.config, precision) + sum(module_bytes(each, precision) for each in shapes)


def _places(files: Files) -> Iterator[Place]:
    """Of all that is read."""
    yield from files.places.values()
    for change in files.changes.values():
        yield from (change.a, change.b)
    for module in () if isinstance(files, NllbFiles) else files.modules.values():
        yield from module.tensors.values()
