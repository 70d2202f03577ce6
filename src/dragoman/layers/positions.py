"""Sinusoidal positions, computed and never stored in a checkpoint."""

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from dragoman.layers.angles import OFFSET, PADDING_ROW, sinusoids, waves


class SinusoidalPositions(nn.Module):
    """fairseq's sinusoidal table: sines in the first half of the vector, cosines in the second.

    Position p of a sentence uses row p + 2 (fairseq's offset: padding index 1, plus
    one); row 1 belongs to padding and is zero. The table grows on demand.
    """

    def __init__(self, hidden: int) -> None:
        super().__init__()
        self.hidden = hidden
        self._waves: list[float] = waves(hidden).tolist()
        # Not a buffer: meta-device loading and offload would have to materialise it.
        self._table: Tensor | None = None

    def forward(self, keep: Tensor, past: int = 0, padded: Tensor | None = None) -> Tensor:
        """Position vectors [batch, time, hidden] in float32.

        keep: boolean [batch, time], False on padding, which is not counted.
        past: number of positions that came before the first column; padded: how many of
        them were padding, [batch, 1].
        """
        before = past if padded is None else past - padded
        rows = (keep.cumsum(1) + before) * keep + PADDING_ROW
        if torch.compiler.is_compiling():  # a graph has no table that grows
            return self._vectors(rows)
        return self.table(keep.shape[1] + past, keep.device)[rows]

    def table(self, positions: int, device: torch.device) -> Tensor:
        """At least the rows of that many positions, [OFFSET + positions, hidden]."""
        count = positions + OFFSET
        table = self._table
        if table is None or len(table) < count or table.device != device:
            # With room to spare: a decoder comes back for one more row at every step.
            vectors = sinusoids(np.arange(max(2 * count, 256)), self.hidden)
            table = self._table = torch.from_numpy(vectors).to(device)
        return table  # and not self._table, which another thread may have replaced meanwhile

    def _vectors(self, rows: Tensor) -> Tensor:
        """The vectors of `rows` [...], as numbers of the table; [..., hidden] in float32."""
        angle = rows[..., None].float() * torch.tensor(self._waves, dtype=torch.float32, device=rows.device)
        vectors = F.pad(torch.cat([angle.sin(), angle.cos()], -1), (0, self.hidden % 2))
        return vectors.masked_fill(rows[..., None] == PADDING_ROW, 0)
