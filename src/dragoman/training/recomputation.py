"""Gradient checkpointing: layers forget their activations and compute them again for the gradients."""

from functools import partial

from torch import nn
from torch.utils.checkpoint import checkpoint


def recompute_(model: nn.Module) -> None:
    """Make all layers of the model's stacks do so while it trains.

    Chance (dropout, masked experts) falls the second time as it did the first.
    """
    for layer in layers_of(model):
        layer.forward = partial(_run, layer, layer.forward)


def _run(layer: nn.Module, forward, *args, **kwargs):  # type: ignore[no-untyped-def]
    if not layer.training:
        return forward(*args, **kwargs)
    return checkpoint(forward, *args, use_reentrant=False, **kwargs)


def layers_of(model: nn.Module) -> list[nn.Module]:
    """The layers of all stacks of a model."""
    stacks = [child for name, child in model.named_modules() if name.rpartition(".")[2] == "layers"]
    return [layer for stack in stacks if isinstance(stack, nn.ModuleList) for layer in stack]
