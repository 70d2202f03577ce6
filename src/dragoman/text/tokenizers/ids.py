"""What every tokenizer does with ids, whatever they mean."""

from collections.abc import Iterable, Sequence
from operator import index

from dragoman.errors import InvalidText


def valid_ids(ids: Iterable[int], rows: int) -> list[int]:
    """The ids as plain integers; InvalidText if one is no integer or not in 0 .. `rows` - 1."""
    try:
        numbers = [index(i) for i in ids]
    except TypeError as error:
        raise InvalidText(f"token ids must be integers: {error}") from None
    if numbers and not 0 <= min(numbers) <= max(numbers) < rows:
        wrong = next(i for i in numbers if not 0 <= i < rows)
        raise InvalidText(
            f"{wrong} is no token id of this tokenizer, whose ids go from 0 to {rows - 1}; "
            "was the text encoded with another one, or are label paddings among the ids?"
        )
    return numbers


def pad(
    rows: Sequence[Sequence[int]], pad_id: int, left: bool = False
) -> tuple[list[list[int]], list[list[bool]]]:
    """Rows of equal length, filled up on one side, and which ids are real: [batch, time] each."""
    width = max(map(len, rows), default=0)
    ids, keep = [], []
    for row in rows:
        gap = width - len(row)
        filling, real, unreal = [pad_id] * gap, [True] * len(row), [False] * gap
        ids.append([*filling, *row] if left else [*row, *filling])
        keep.append(unreal + real if left else real + unreal)
    return ids, keep
