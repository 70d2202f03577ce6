"""X-ALMA, ALMA and ALMA-R in files: combined, merged, or a base with adapters."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from dragoman.checkpoints.catalog import base_of
from dragoman.checkpoints.families import guess_group, is_adapter
from dragoman.checkpoints.module_folders import ModelFolder, Module, open_adapter, open_model
from dragoman.checkpoints.places import Change, Place
from dragoman.errors import CheckpointError, InvalidOption
from dragoman.models.language_modules import ANY, LanguageModules
from dragoman.models.llama_config import LlamaConfig

Adapters = str | Path | Mapping[int, str | Path]


@dataclass(frozen=True)
class LlamaFiles:
    """A checkpoint of which everything is known but its numbers."""

    config: LlamaConfig
    places: dict[str, Place]
    """Of the base, by name."""
    changes: dict[str, Change]
    """What an adapter without a group adds to weights, by their names."""
    modules: dict[int, Module]
    """What is to be attached, by group."""
    merged: int | None
    """The group in the weights themselves; ANY if they may hold one that nobody knows."""
    source: Path | None
    """Where further modules can be read."""

    def language(self) -> LanguageModules:
        """What a model of these files has at hand once it is loaded."""
        scales = {group: float(module.scale) for group, module in self.modules.items()}
        return LanguageModules(scales, self.merged, self.source)


def open_llama(
    folder: str | Path,
    groups: Iterable[int] | None = None,
    adapter: Adapters | None = None,
    merged_group: int | None = None,
) -> LlamaFiles:
    """The model in `folder`: all names and shapes compared with config.json.

    `checkpoints.llama.load_xalma` explains the arguments. Raises ConfigError, CheckpointError,
    KeyMismatch, or InvalidOption.
    """
    folder = Path(folder).expanduser()
    if adapter is None and is_adapter(folder):
        folder, adapter = base_of(folder), folder
    found = open_model(folder)
    asked = None if groups is None else tuple(dict.fromkeys(groups))
    merged = _merged_group(found, merged_group, adapter is not None)
    modules, unknown = _modules(found, asked, adapter, merged)
    return LlamaFiles(
        found.shape,
        found.base,
        {} if unknown is None else dict(unknown.changes),
        modules,
        # What a module without a group is merged into lets rows of every group through.
        merged if unknown is None else ANY,
        folder if found.is_combined else None,
    )


def _merged_group(found: ModelFolder, given: int | None, has_adapter: bool) -> int | None:
    """The group in the weights themselves; ANY if they may hold one that nobody knows."""
    if found.is_combined or found.mark == "base" or has_adapter:
        if given is not None:
            kind = "a combined checkpoint" if found.is_combined else "a base"
            raise InvalidOption(
                f"merged_group is {given}, but {found.path} is used as {kind}: nothing is merged in it"
            )
        return None
    marked = int(found.mark) if found.mark and found.mark.isdecimal() else None
    if marked is not None and given not in (None, marked):
        raise InvalidOption(
            f"merged_group is {given}, but {found.path} says that group {marked} is merged in it"
        )
    return given or marked or guess_group(found.path) or ANY


def _modules(
    found: ModelFolder, asked: tuple[int, ...] | None, adapter: Adapters | None, merged: int | None
) -> tuple[dict[int, Module], Module | None]:
    """The modules to attach, by group, and one without a group."""
    if adapter is not None:
        return _adapters(found, asked, adapter)
    if found.is_combined:
        absent = [group for group in asked or () if group not in found.modules]
        if absent:
            there = ", ".join(map(str, sorted(found.modules)))
            raise CheckpointError(f"{found.path} holds no module of group {absent[0]}; groups there: {there}")
        return {
            group: found.modules[group] for group in (sorted(found.modules) if asked is None else asked)
        }, None
    if asked and asked != (merged,):
        raise InvalidOption(
            f"{found.path} holds plain weights and no modules, so groups can't be {list(asked)}. For a base, "
            "give the adapter; for merged weights, say what is merged by merged_group"
        )
    return {}, None


def _adapters(
    found: ModelFolder, asked: tuple[int, ...] | None, adapter: Adapters
) -> tuple[dict[int, Module], Module | None]:
    if found.is_combined:
        raise InvalidOption(
            f"{found.path} is a combined checkpoint; adapters go with its base alone. See attach_"
        )
    if found.mark not in (None, "base"):
        raise InvalidOption(
            f"{found.path} has a module merged into it already; give the base it was made from"
        )
    if isinstance(adapter, Mapping):
        if asked is not None and set(asked) != set(adapter):
            raise InvalidOption(
                f"groups are {list(asked)}, the adapters' are {list(adapter)}; leave groups out"
            )
        return {group: _open(found, path, group) for group, path in adapter.items()}, None
    if asked is not None and len(asked) != 1:
        raise InvalidOption(
            f"groups are {list(asked)}, but one adapter has one group; give adapters by group"
        )
    group = asked[0] if asked else None
    module = _open(found, adapter, group)
    group = group or module.group or guess_group(Path(adapter))
    return ({}, module) if group is None else ({group: module}, None)


def _open(found: ModelFolder, adapter: str | Path, group: int | None) -> Module:
    if Path(adapter).expanduser().resolve() == found.path.resolve():
        raise InvalidOption(
            f"{adapter} holds weights and an adapter. In the published repositories of a group the weights "
            "contain the adapter already: load it without. If these don't, move the adapter elsewhere"
        )
    module = open_adapter(adapter, found)
    if group is not None and module.group not in (None, group):
        raise CheckpointError(
            f"{adapter} says it is the module of group {module.group}, not of group {group}"
        )
    return module
