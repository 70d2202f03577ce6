"""What a run multiplies in, and how small gradients survive half precision."""

import contextlib
from collections.abc import Iterator

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

_NAMED = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


def resolve_precision(precision: str, device: torch.device) -> torch.dtype:
    """The data type of products: what is asked for, or bf16 where the hardware multiplies it natively."""
    if precision in _NAMED:
        return _NAMED[precision]
    if device.type == "cuda":
        native = torch.cuda.is_bf16_supported(including_emulation=False)
        return torch.bfloat16 if native else torch.float32
    return torch.bfloat16 if torch.ops.mkldnn._is_mkldnn_bf16_supported() else torch.float32


@contextlib.contextmanager
def products_in(dtype: torch.dtype, device: torch.device) -> Iterator[None]:
    """Inside, products are taken in `dtype`, weights stay what they are."""
    # Each weight is cast once in a pass. Autocast's cache would keep the copies of all layers to its end,
    # also of those that are computed again, or whose weights are spread.
    half = torch.autocast(device.type, dtype, enabled=dtype != torch.float32, cache_enabled=False)
    with half, attention_in(dtype, device):
        yield


def attention_in(dtype: torch.dtype, device: torch.device) -> contextlib.AbstractContextManager[None]:
    """Inside, attention is computed by the kernel that is best for training.

    Gradients are to be taken inside, too: layers that are computed again for them must take the same kernel.
    """
    if device.type == "cpu" and dtype != torch.float32:
        # On short sentences the CPU's bf16 flash kernel takes seven times as long backwards.
        return sdpa_kernel(SDPBackend.MATH)
    return contextlib.nullcontext()


class LossScale:
    """Multiplies the loss, so that gradients in fp16 don't vanish, and divides the gradients again.

    An infinite gradient halves it; after `PATIENCE` updates without one it doubles. In other precisions it
    is 1.
    """

    PATIENCE = 2000

    def __init__(self, dtype: torch.dtype) -> None:
        self.enabled = dtype == torch.float16
        self.factor = 65536.0 if self.enabled else 1.0
        self.good = 0

    def scaled(self, loss: Tensor) -> Tensor:
        return loss * self.factor if self.enabled else loss

    @torch.no_grad()
    def unscale_(self, parameters: list[nn.Parameter]) -> None:
        """Give the gradients their own size."""
        if self.enabled:
            for parameter in parameters:
                if parameter.grad is not None:
                    parameter.grad /= self.factor

    def update(self, is_finite: bool) -> None:
        """Told of each update whether its gradients were numbers."""
        if not self.enabled:
            return
        self.good = self.good + 1 if is_finite else 0
        if not is_finite:
            self.factor /= 2
        elif self.good == self.PATIENCE:
            self.factor, self.good = self.factor * 2, 0

    def state_dict(self) -> dict[str, float]:
        return {"factor": self.factor, "good": self.good}

    def load_state_dict(self, state: dict[str, float]) -> None:
        if self.enabled:
            self.factor, self.good = state["factor"], int(state["good"])
