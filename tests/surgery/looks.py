"""What tests of language modules look at."""

import torch
from torch import Tensor, nn

from dragoman.models.llama import Llama


def logits(model: Llama, prompts: tuple[Tensor, Tensor], wanted: list[int] | None) -> Tensor:
    """Of the real tokens."""
    with torch.inference_mode():
        return model(*prompts, wanted)[prompts[1]]


def lora_names(model: nn.Module) -> set[str]:
    return {name for name, _ in model.named_parameters() if "_lora_" in name}
