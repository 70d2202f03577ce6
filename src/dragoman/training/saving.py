"""What a run leaves: a folder that `dragoman translate --model` opens, whatever was trained."""

import shutil
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from dragoman.checkpoints.cards import ModelCard, read_card, write_card
from dragoman.checkpoints.loading import pending
from dragoman.checkpoints.module_layout import PARTS, LoraName, adapter_config
from dragoman.checkpoints.module_saving import Saving, save_adapter
from dragoman.checkpoints.nllb import save_nllb
from dragoman.checkpoints.nllb_files import published_name
from dragoman.checkpoints.weight_files import replacing, write_shards
from dragoman.files import write_json
from dragoman.layers.lora import AdaptedProjections
from dragoman.models.llama import Llama
from dragoman.models.nllb import Nllb
from dragoman.training.collecting import codes_of
from dragoman.training.config import TrainingConfig
from dragoman.training.parts import ENGLISH
from dragoman.training.starting import Subject
from dragoman.training.trainable import loras_of

STORED = torch.float16
ALONG = ("generation_config.json", "chat_template.jinja", "chat_template.json")
"""What goes with a model beside weights, config and tokenizer."""
SHARD = 5_000_000_000
STYLE_NAMES = {"chat": "x-alma", "plain": "alma"}
"""What a Llama's config calls the model it comes from: by that its style of prompts is known again."""


def save(subject: Subject, config: TrainingConfig, out: Path, name: str) -> Path:
    """Write the model of a run, or its LoRA or module, to `out`/model; the folder.

    Numbers are stored in half precision. CheckpointError if it can't be written.
    """
    folder = out / "model"
    if config.train == "module":
        _save_module(subject, config, folder)
    elif config.train == "lora":
        _save_lora(subject, config, folder)
    elif isinstance(subject.model, Nllb):
        save_nllb(subject.model, folder, STORED, SHARD)
        subject.tokenizer.save(folder)
        _copy_along(subject, folder)
    else:
        _save_llama(subject, folder)
        _copy_along(subject, folder)
    _write_card(subject, config, folder, name)
    return folder


def _save_llama(subject: Subject, folder: Path) -> None:
    model = subject.model
    assert isinstance(model, Llama)
    config: dict[str, Any] = {**model.config.to_dict(), "_name_or_path": STYLE_NAMES[subject.style]}
    with replacing(folder) as scratch:
        write_json(scratch / "config.json", {**config, "dtype": "float16"})
        waiting = {name: pending(p, STORED) for name, p in model.named_parameters() if "_lora_" not in name}
        write_shards(scratch, waiting, None, SHARD)
    subject.tokenizer.save(folder)


def _save_module(subject: Subject, config: TrainingConfig, folder: Path) -> None:
    """A language module as a PEFT adapter, marked with its group."""
    model, group = subject.model, config.group
    assert isinstance(model, Llama)
    tensors: dict[str, Tensor] = {}
    for index, layer in enumerate(model.model.layers):
        for projection, part in PARTS.items():
            owner: AdaptedProjections = getattr(layer, part)
            pair = owner.module_pair(projection.removesuffix("_proj"), group)
            for side, linear in zip("AB", pair or (), strict=False):
                tensors[LoraName(index, projection, side).adapter] = linear.get_parameter("weight")
    rank = next(iter(tensors.values())).shape[0]
    described = adapter_config(rank, model.model.language.scales[group], _base_name(subject, config))
    _write_adapter(folder, described, tensors, str(group))


def _save_lora(subject: Subject, config: TrainingConfig, folder: Path) -> None:
    """A LoRA as a PEFT adapter; its names are those of the base's files."""
    model = subject.model
    found = loras_of(model)
    first = next(iter(found.values()))
    tensors: dict[str, Tensor] = {}
    modules: list[str] = []
    for name, lora in found.items():
        stored = _module_name(name, model)
        modules.append(stored)
        for side in ("lora_A", "lora_B"):
            weight = lora.get_submodule(side).get_parameter("weight")
            tensors[f"base_model.model.{stored}.{side}.weight"] = weight
    described = adapter_config(first.lora_A.out_features, first.scale, _base_name(subject, config))
    described["target_modules"] = sorted({name.rpartition(".")[2] for name in modules})
    if isinstance(model, Nllb):
        described["task_type"] = "SEQ_2_SEQ_LM"
    _write_adapter(folder, described, tensors, "")


def _base_name(subject: Subject, config: TrainingConfig) -> str:
    """What an adapter calls its base: its name on the hub, or its folder wherever one stands."""
    assert subject.base is not None
    is_named = subject.base == subject.start and not Path(config.start).expanduser().is_dir()
    return config.start if is_named else str(subject.base.resolve())


def _module_name(name: str, model: nn.Module) -> str:
    if not isinstance(model, Nllb):
        return name
    return published_name(f"{name}.weight", model.config).removesuffix(".weight")


def _write_adapter(
    folder: Path, described: dict[str, object], tensors: Mapping[str, Tensor], mark: str
) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    waiting = {name: pending(tensor, STORED) for name, tensor in tensors.items()}
    save_adapter(folder, described, waiting, mark, Saving(overwrite=True))


def _write_card(subject: Subject, config: TrainingConfig, folder: Path, name: str) -> None:
    """The start's card with what was learned; a new model's says what it was trained on.

    A published model has none, and what it makes needs none: it speaks all of its family's languages.
    """
    learned = (ENGLISH, *codes_of(config).values())
    if subject.base is not None:
        assert subject.start is not None
        card = read_card(subject.start) or read_card(subject.base)
        if card is not None:
            languages = tuple(dict.fromkeys((*card.languages, *learned)))
            write_card(folder, replace(card, name=name, languages=languages))
        return
    languages = tuple(dict.fromkeys(learned))
    longest = config.max_tokens if isinstance(subject.model, Nllb) else config.max_tokens // 3
    write_card(folder, ModelCard(name, languages, max(8, longest), pivot=ENGLISH))


def _copy_along(subject: Subject, folder: Path) -> None:
    if subject.base is None:
        return
    for file in ALONG:
        if (subject.base / file).is_file():
            shutil.copyfile(subject.base / file, folder / file)
