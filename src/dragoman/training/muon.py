"""Muon (Jordan et al., 2024): momentum, orthogonalised, for the matrices of a network."""

from collections import defaultdict
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn

# The quintic of Jordan et al.: it brings singular values near 1 quickly rather than exactly to 1.
_COEFFICIENTS = (3.4445, -4.7750, 2.0315)


class Muon(torch.optim.Optimizer):
    """As torch.optim.Muon with `adjust_lr_fn="match_rms_adamw"`, for many small matrices at once.

    Matrices of one shape are orthogonalised together, and in single precision on a CPU: torch's does
    it in bf16, which takes a processor without bf16 fifty times as long.
    """

    def __init__(
        self,
        parameters: Iterable[nn.Parameter],
        lr: float,
        weight_decay: float = 0.0,
        momentum: float = 0.95,
        steps: int = 5,
    ) -> None:
        defaults = {"lr": lr, "weight_decay": weight_decay, "momentum": momentum, "steps": steps}
        super().__init__(parameters, defaults)

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> None:  # type: ignore[override]
        """Nesterov momentum, orthogonalised; the step is as large as one of AdamW (0.2 per number)."""
        assert closure is None, "Muon evaluates no closure"
        for group in self.param_groups:
            alike: dict[torch.Size, list[nn.Parameter]] = defaultdict(list)
            for parameter in group["params"]:
                if parameter.grad is not None:
                    alike[parameter.shape].append(parameter)
            for parameters in alike.values():
                self._move(parameters, group)

    def _move(self, parameters: list[nn.Parameter], group: dict[str, Any]) -> None:
        directions = torch.stack([self._direction(parameter, group["momentum"]) for parameter in parameters])
        rows, columns = directions.shape[1:]
        size = group["lr"] * 0.2 * max(rows, columns) ** 0.5
        for parameter, change in zip(parameters, orthogonalized(directions, group["steps"]), strict=True):
            parameter.mul_(1 - group["lr"] * group["weight_decay"])
            parameter.add_(change.to(parameter.dtype), alpha=-size)

    def _direction(self, parameter: nn.Parameter, momentum: float) -> Tensor:
        assert parameter.grad is not None
        state = self.state[parameter]
        if "momentum_buffer" not in state:
            state["momentum_buffer"] = torch.zeros_like(parameter)
        buffer: Tensor = state["momentum_buffer"]
        buffer.lerp_(parameter.grad, 1 - momentum)
        return parameter.grad.lerp(buffer, momentum)


def orthogonalized(matrices: Tensor, steps: int = 5) -> Tensor:
    """[count, rows, columns] -> the same with all singular values brought to about 1 (0.7 to 1.2)."""
    x = matrices.bfloat16() if matrices.is_cuda else matrices.float()
    tall = x.shape[1] > x.shape[2]
    if tall:
        x = x.mT
    x = x / x.norm(dim=(1, 2), keepdim=True).clamp(min=1e-7)
    long = x.shape[2] >= 2 * x.shape[1] and x.dtype == torch.float32
    x = _by_gram(x, steps) if long else _directly(x, steps)
    return x.mT if tall else x


def _directly(x: Tensor, steps: int) -> Tensor:
    """x <- (a + b G + c G^2) x with G = x x^T, so many times."""
    a, b, c = _COEFFICIENTS
    for _ in range(steps):
        gram = x @ x.mT
        x = torch.baddbmm(x, torch.baddbmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)
    return x


def _by_gram(x: Tensor, steps: int) -> Tensor:
    """The same in products of the short side alone: every step is a polynomial of the first G.

    A third less work for matrices three times as wide as high. It squares the condition, which fp32 stands.
    """
    a, b, c = _COEFFICIENTS
    gram = x @ x.mT
    whole: Tensor | None = None
    for step in range(steps):
        factor = torch.baddbmm(gram, gram, gram, beta=b, alpha=c)
        factor.diagonal(dim1=1, dim2=2).add_(a)
        whole = factor if whole is None else factor @ whole
        if step < steps - 1:
            gram = factor @ gram @ factor
    return x if whole is None else whole @ x
