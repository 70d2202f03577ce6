"""The language groups of a batch's rows, as tensors."""

from collections.abc import Sequence

import torch
from torch import Tensor

from dragoman.models.xalma import check_rows, group_of


def row_groups(
    language: str | Sequence[str] | None, rows: int, device: torch.device | str | None = None
) -> Tensor:
    """The group of each row, [rows]: `language` is one for all of them, or one for each.

    Raises UnknownLanguage, also if there are not as many languages as rows.
    """
    if language is None or isinstance(language, str):
        return torch.full((rows,), group_of(language), device=device)
    check_rows(language, rows)
    return torch.tensor([group_of(each) for each in language], dtype=torch.long, device=device)
