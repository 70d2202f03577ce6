"""Rotary positions (arXiv 2104.09864) and the ways to stretch them over longer texts.

Conventions are transformers' (5.23, `modeling_rope_utils.py`): the first half of a head's vector
holds the first coordinates of all pairs, the second half the second ones.
"""

import torch
from torch import Tensor

from dragoman.layers.angles import attention_factor, frequencies
from dragoman.layers.options import RotaryOptions

Rotation = tuple[Tensor, Tensor]
"""Cosines and sines, each [rows, 1, time, head_dim / 2]."""


class Rotary:
    """Angles of positions for one model. No module: there is nothing to store, move or convert."""

    def __init__(self, head_dim: int, options: RotaryOptions, max_positions: int) -> None:
        self.head_dim, self.options, self.max_positions = head_dim, options, max_positions
        self.scale = attention_factor(options)
        self._static: list[float] = frequencies(head_dim, options, max_positions).tolist()
        self._frequencies: dict[torch.device, Tensor] = {}

    def __call__(self, positions: Tensor, dtype: torch.dtype) -> Rotation:
        """The rotation of `positions` [rows, time], computed in float32, given in `dtype`.

        The dynamic kind stretches each row by its own last position, where transformers
        takes the batch's: here a row's result does not depend on its neighbours.
        """
        # Autocast would take the product of positions and frequencies in half precision.
        with torch.autocast(positions.device.type, enabled=False):
            angles = positions[..., None].float() * self.frequencies(positions)
            cos, sin = angles.cos() * self.scale, angles.sin() * self.scale
        return cos[:, None].to(dtype), sin[:, None].to(dtype)

    def frequencies(self, positions: Tensor) -> Tensor:
        """Radians per position, [head_dim / 2], or [rows, 1, head_dim / 2] if they depend on the row."""
        device = positions.device
        if self.options.rope_type == "dynamic":
            length = (positions.amax(1) + 1).clamp(min=self.max_positions).float()
            return self._dynamic(length)[:, None]
        if torch.compiler.is_compiling():  # kept, it would be a tensor of that graph
            return self._given(device)
        if device not in self._frequencies:
            with torch.inference_mode(False):  # what is kept may be needed in training later
                self._frequencies[device] = self._given(device)
        return self._frequencies[device]

    def _given(self, device: torch.device) -> Tensor:
        return torch.tensor(self._static, dtype=torch.float32, device=device)

    def _dynamic(self, length: Tensor) -> Tensor:
        """NTK-aware: a larger base for longer texts. length: [rows] -> [rows, head_dim / 2]."""
        factor, dim = self.options.factor, self.head_dim
        stretch = factor * length / self.max_positions - (factor - 1)
        base = self.options.rope_theta * stretch ** (dim / (dim - 2))
        steps = torch.arange(0, dim, 2, dtype=torch.float32, device=length.device)
        return 1.0 / (base[:, None] ** (steps / dim))


def rotate(x: Tensor, rotation: Rotation) -> Tensor:
    """Turn the pairs of `x` [rows, heads, time, head_dim] by the angles of their positions."""
    cos, sin = rotation
    first, second = x.chunk(2, -1)
    return torch.cat([first * cos - second * sin, second * cos + first * sin], -1)
