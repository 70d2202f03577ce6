"""Next-token scores that stay on their device; what a search asks for comes to the host."""

import numpy as np
import torch
from torch import Tensor

from dragoman.errors import NoNumbers

ROWS = 32
"""All scores of so many rows are looked at together: log-probabilities are copies in single precision."""


class TorchScores:
    """Logits [rows, vocabulary] as the plain models compute them, on any device and in any type."""

    def __init__(self, logits: Tensor) -> None:
        self._logits = logits

    @property
    def rows(self) -> int:
        return len(self._logits)

    @torch.inference_mode()
    def top(self, count: int, banned: tuple[int, ...] = ()) -> tuple[np.ndarray, np.ndarray]:
        """The `count` best log-probabilities [rows, count], float32, and their tokens, best first.

        The probabilities are those among all tokens; `banned` ones are only left out of the candidates.
        """
        found = [self._top(part, count, banned) for part in self._logits.split(ROWS)]
        values, tokens, greatest = (torch.cat(side) for side in zip(*found, strict=True))
        _check(greatest)
        return values.cpu().numpy(), tokens.cpu().numpy()

    def _top(self, logits: Tensor, count: int, banned: tuple[int, ...]) -> tuple[Tensor, Tensor, Tensor]:
        log_p = logits.log_softmax(-1, torch.float32)
        if banned:
            log_p[:, list(banned)] = -torch.inf
        values, tokens = log_p.topk(min(count, log_p.shape[-1]))
        return values, tokens, logits.amax(-1)

    @torch.inference_mode()
    def logits(self, rows: np.ndarray | None = None) -> np.ndarray:
        """The scores of all tokens [rows, vocabulary], float32, which the caller may change.

        rows: of which, repeats allowed. Both raise NoNumbers for a row whose best score is NaN or infinite.
        """
        found = self._logits
        if rows is not None:
            found = found[torch.from_numpy(rows).to(found.device)]
        _check(found.amax(-1))
        return found.to("cpu", torch.float32, copy=rows is None).numpy()


def _check(greatest: Tensor) -> None:
    if not bool(greatest.isfinite().all()):
        raise NoNumbers()
