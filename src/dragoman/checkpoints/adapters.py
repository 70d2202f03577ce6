"""PEFT's LoRA adapters: which weights they change, by how much, and what else they replace."""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dragoman.checkpoints.families import ADAPTER_CONFIG, ADAPTERS
from dragoman.checkpoints.places import Change, Place, find_tensors
from dragoman.errors import CheckpointError, ConfigError, KeyMismatch, Shape
from dragoman.files import read_json

_KEY = re.compile(r"base_model\.model\.(.+?)(?:\.lora_([AB])(?:\.default)?)?\.(weight|bias)")
_SAVED = re.compile(r"\.modules_to_save(\.default)?$")
_LAYER = re.compile(r"\.(\d+)\.")


@dataclass(frozen=True)
class AdapterConfig:
    """What counts in a PEFT `adapter_config.json`.

    Modules are named as in the base, such as `model.layers.0.self_attn.q_proj`.
    """

    data: Mapping[str, Any]

    @classmethod
    def from_folder(cls, folder: Path, saves_modules: bool = False) -> "AdapterConfig":
        """Read it; CheckpointError if the adapter does more than add scale * B @ A to weights.

        saves_modules: whether it may also hold whole weights that stand for the base's.
        """
        path = folder / ADAPTER_CONFIG
        try:
            data = read_json(path, ConfigError)
        except FileNotFoundError:
            raise ConfigError(f"{folder} has no {ADAPTER_CONFIG}. Download it beside the weights.") from None
        if data.get("peft_type") != "LORA":
            raise CheckpointError(
                f"{folder} is an adapter of type {data.get('peft_type')!r}; only LORA can be loaded"
            )
        for field, harmless in _HARMLESS.items():
            value = data.get(field)
            if value and value not in harmless and not (saves_modules and field == "modules_to_save"):
                raise CheckpointError(
                    f"{folder} has {field} = {value!r}: it does more than add scale * B @ A to weights, so "
                    "it can't be loaded. Train or export it as plain LoRA."
                )
        config = cls(data)
        for pattern in [*config._pattern("rank"), *config._pattern("alpha"), *config._regexes()]:
            try:
                re.compile(pattern)
            except re.error as error:
                raise ConfigError(f"{path} has the pattern {pattern!r}, which is none: {error}") from None
        config.scale("")  # rank and alpha are numbers
        return config

    def rank(self, module: str) -> int:
        """The rank of a module's change."""
        return whole(self._of(module, "rank", "r"), "r")

    def scale(self, module: str) -> float:
        """What a module's B A is multiplied by."""
        rank, alpha = self.rank(module), number(self._of(module, "alpha", "lora_alpha"), "lora_alpha")
        return alpha / (rank**0.5 if self.data.get("use_rslora") else rank)

    def changes(self, module: str) -> bool:
        """Whether it was made to change a module of the base."""
        layers = self.data.get("layers_to_transform")
        if layers is not None:
            wanted = [layers] if isinstance(layers, int) else list(layers)
            match = _LAYER.search(module)
            if match is None or int(match[1]) not in wanted:
                return False
        if _matches(module, self.data.get("exclude_modules")):
            return False
        targets = self.data.get("target_modules")
        return targets in (None, "all-linear") or _matches(module, targets)

    def _of(self, module: str, name: str, default: str) -> object:
        for pattern, value in self._pattern(name).items():
            if re.match(rf"(.*\.)?({pattern})$", module):
                return value
        return self.data.get(default)

    def _pattern(self, name: str) -> Mapping[str, Any]:
        found = self.data.get(f"{name}_pattern") or {}
        if not isinstance(found, dict):
            raise ConfigError(f"{name}_pattern is {found!r} in {ADAPTER_CONFIG}; it must be an object")
        return found

    def _regexes(self) -> list[str]:
        values = (self.data.get("target_modules"), self.data.get("exclude_modules"))
        return [value for value in values if isinstance(value, str)]


@dataclass(frozen=True)
class Adapter:
    """What an adapter holds, by the names of the base's weights; nothing of it is read yet."""

    folder: Path
    file: Path
    config: AdapterConfig
    changes: dict[str, Change]
    whole: dict[str, Place]
    """Weights that stand for the base's: `modules_to_save`, and a resized embedding."""


def open_lora(folder: Path, weight_of: Callable[[str], str | None]) -> Adapter:
    """The adapter in `folder`.

    weight_of: the name of the base's weight for a key in the base's spelling, None if there is none such.
    Raises ConfigError, CheckpointError, or KeyMismatch with the tensors that belong to nothing.
    """
    config = AdapterConfig.from_folder(folder, saves_modules=True)
    file = adapter_file(folder)
    found = find_tensors([file], str, folder)
    sides: dict[str, dict[str, Place]] = {}
    whole_ones: dict[str, Place] = {}
    strange = []
    for key, place in found.items():
        if ".original_module." in key:
            continue  # what a saved module was before it was trained
        match = _KEY.fullmatch(key)
        name = None if match is None else weight_of(f"{_SAVED.sub('', match[1])}.{match[3]}")
        if match is None or name is None:
            strange.append(key)
        elif match[2] is None:
            whole_ones[name] = place
        else:
            sides.setdefault(name, {})[match[2]] = place
    odd = [place.key for pair in sides.values() if len(pair) < 2 for place in pair.values()]
    if strange or odd:
        raise KeyMismatch.in_folder(folder, [], strange + odd, {}, "the base")
    changes = {}
    for name, pair in sides.items():
        module = _KEY.fullmatch(pair["A"].key)[1]  # type: ignore[index]
        rank = config.rank(module)
        for side, place in pair.items():
            if len(place.shape) != 2 or place.shape[side == "B"] != rank:
                raise CheckpointError(
                    f"{file} has {place.key} of shape {place.shape}, but its config says rank {rank}. "
                    "Download both again."
                )
        changes[name] = Change(pair["A"], pair["B"], config.scale(module))
    return Adapter(folder, file, config, changes, whole_ones)


def adapter_file(folder: Path) -> Path:
    """The weights of the adapter in `folder`; CheckpointError if there are none."""
    for name in ADAPTERS:
        if (folder / name).is_file():
            return folder / name
    raise CheckpointError(f"{folder} holds no {' and no '.join(ADAPTERS)}. Download it again.")


def changed_shape(change: Change) -> Shape:
    """The shape of the weight that a change belongs to."""
    return change.b.shape[0], change.a.shape[1]


def whole(value: object, name: str) -> int:
    """A number that counts; ConfigError if it is none."""
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise ConfigError(f"{name} is {value!r} in the config; it must be a whole number, at least 1")
    return value


def number(value: object, name: str) -> float:
    """A number above 0; ConfigError if it is none."""
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 < value < float("inf"):
        raise ConfigError(f"{name} is {value!r} in the config; it must be a number above 0")
    return value


def _matches(module: str, listed: object) -> bool:
    """Whether PEFT takes a module to be meant: by a pattern, or by the ends of names."""
    if not listed:
        return False
    if isinstance(listed, str):
        return re.fullmatch(listed, module) is not None
    names = listed if isinstance(listed, list) else []
    return any(f".{module}".endswith(f".{name}") for name in names)


# Settings of PEFT that change what an adapter computes, and the values besides "off" that don't.
_HARMLESS: dict[str, tuple[object, ...]] = {
    "bias": ("none",),
    "init_lora_weights": (True, "gaussian", "orthogonal", "eva"),  # others change the base too
    **dict.fromkeys(("use_dora", "use_qalora", "use_bdlora", "lora_bias", "fan_in_fan_out"), ()),
    **dict.fromkeys(("modules_to_save", "layer_replication"), ()),
    **dict.fromkeys(("target_parameters", "trainable_token_indices", "alora_invocation_tokens"), ()),
    **dict.fromkeys(("arrow_config", "kasa_config", "monteclora_config", "velora_config"), ()),
}
