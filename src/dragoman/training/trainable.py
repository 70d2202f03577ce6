"""What of a model learns: all weights, a LoRA beside them, or one of X-ALMA's language modules."""

import math
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from dragoman.checkpoints.module_layout import PARTS
from dragoman.errors import InvalidOption
from dragoman.layers.lora import AdaptedProjections
from dragoman.models.llama import Llama
from dragoman.training.config import LoraOptions
from dragoman.training.spreading import like


class DropoutLinear(nn.Linear):
    """A linear layer without bias that drops part of its input in training: the A of a LoRA."""

    def __init__(self, weight: Tensor, dropout: float) -> None:
        super().__init__(weight.shape[1], weight.shape[0], bias=False, device="meta")
        self.weight = nn.Parameter(weight)
        self.dropout = dropout

    def forward(self, input: Tensor) -> Tensor:
        """[..., in] -> [..., rank]."""
        return super().forward(F.dropout(input, self.dropout, self.training))


class LoraLinear(nn.Module):
    """A frozen linear layer, and the products of a LoRA beside it."""

    def __init__(self, base: nn.Linear, options: LoraOptions, generator: torch.Generator) -> None:
        super().__init__()
        a, b = new_pair(base.in_features, base.out_features, options.rank, generator)
        self.base, self.scale = base, options.scale
        self.lora_A, self.lora_B = DropoutLinear(a, options.dropout), DropoutLinear(b, 0.0)

    @property
    def weight(self) -> Tensor:
        """The base's."""
        return self.base.weight

    def forward(self, x: Tensor) -> Tensor:
        """[..., in] -> [..., out]."""
        out: Tensor = self.base(x)
        return out + (self.lora_B(self.lora_A(x)) * self.scale).to(out.dtype)


def new_pair(inputs: int, outputs: int, rank: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """A [rank, in] at random and B [out, rank] of zeros, as PEFT begins: nothing is changed at first."""
    a = torch.empty(rank, inputs)
    nn.init.kaiming_uniform_(a, math.sqrt(5), generator=generator)
    return a, torch.zeros(outputs, rank)


def add_lora_(model: nn.Module, options: LoraOptions, seed: int) -> None:
    """Freeze the model, and put a LoRA beside the linear layers that `options` names.

    InvalidOption if it names one that the model lacks.
    """
    model.requires_grad_(False)
    generator = torch.Generator().manual_seed(seed)
    check_targets(model, options)
    for name, linear in list(_projections(model)):
        parent, _, leaf = name.rpartition(".")
        if not options.targets or leaf in options.targets:
            setattr(model.get_submodule(parent), leaf, LoraLinear(linear, options, generator))


def check_targets(model: nn.Module, options: LoraOptions) -> None:
    """InvalidOption if a LoRA shall have a projection that the model lacks."""
    named = {name.rpartition(".")[2] for name, _ in _projections(model)}
    for target in options.targets:
        if target not in named:
            raise InvalidOption(f"lora.targets has {target!r}; the model has {', '.join(sorted(named))}")


def _projections(model: nn.Module) -> Iterator[tuple[str, nn.Linear]]:
    """The linear layers inside the model's layers, by name; routers, embeddings and output are none."""
    for name, child in model.named_modules():
        if type(child) is nn.Linear and ".layers." in f".{name}" and "_lora_" not in name:
            yield name, child


def loras_of(model: nn.Module) -> dict[str, LoraLinear]:
    """The LoRAs by the names of the layers that they stand in."""
    return {name: child for name, child in model.named_modules() if isinstance(child, LoraLinear)}


def train_module_(model: Llama, group: int, options: LoraOptions, seed: int) -> None:
    """Freeze the model but for the language module of `group`, which is attached if it isn't there yet.

    A new module has all seven projections of every layer, in float32 whatever the base is in. InvalidOption
    if weights have a module merged into them.
    """
    language = model.model.language
    if language.merged not in (None, -1):
        raise InvalidOption(
            f"group {language.merged} is merged into the weights; start from its base, or from a module"
        )
    language.merged = None
    model.requires_grad_(False)
    generator = torch.Generator().manual_seed(seed)
    is_new = group not in language.scales
    for owner, name in _parts(model):
        if is_new:
            base: nn.Linear = getattr(owner, f"{name}_proj")
            a, b = new_pair(base.in_features, base.out_features, options.rank, generator)
        else:
            pair = owner.module_pair(name, group)
            if pair is None:
                continue
            a, b = (side.get_parameter("weight").detach().float() for side in pair)
        device = owner.get_submodule(f"{name}_proj").get_parameter("weight").device
        owner.adopt(
            name, group, DropoutLinear(a.to(device), options.dropout), DropoutLinear(b.to(device), 0.0)
        )
    language.scales.setdefault(group, options.scale)
    language.version += 1


def _parts(model: Llama) -> Iterator[tuple[AdaptedProjections, str]]:
    """Each projection that a module changes: who has it, and its name."""
    for layer in model.model.layers:
        for projection, part in PARTS.items():
            yield getattr(layer, part), projection.removesuffix("_proj")


def trained_state(model: nn.Module) -> dict[str, Tensor]:
    """What a checkpoint keeps: all of a model, or of a partly frozen one what is trained."""
    if all(parameter.requires_grad for parameter in model.parameters()):
        return model.state_dict()
    return {name: p.detach() for name, p in model.named_parameters() if p.requires_grad}


def load_trained_(model: nn.Module, state: Mapping[str, Any]) -> None:
    """Give it back; InvalidOption if the checkpoint is of a run that trained something else."""
    wanted = trained_state(model)
    odd = sorted(set(wanted) ^ set(state)) or [n for n in wanted if wanted[n].shape != state[n].shape]
    if odd:
        raise InvalidOption(
            f"the checkpoint is of a run that trained other weights ({odd[0]} among them); take back what "
            "was changed in the settings, or give another folder for the run"
        )
    parted = {name: like(tensor, wanted[name]) for name, tensor in state.items()}
    model.load_state_dict(parted, strict=False)
