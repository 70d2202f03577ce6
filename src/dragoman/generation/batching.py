"""Grouping sentences so that little is computed on padding."""

from collections.abc import Iterator, Sequence


def length_cap(source_tokens: int, most: int) -> int:
    """How many tokens a translation may take, given its source's.

    Twice the source and some: a longer one has gone wrong. In steps, so that few
    different caps keep sentences of like length in one batch.
    """
    return min(most, 32 * -(-(2 * source_tokens + 24) // 32))


def plan_batches(
    lengths: Sequence[int], caps: Sequence[int], batch_size: int, batch_tokens: int
) -> Iterator[list[int]]:
    """Indices of sentences in batches: longest first, equal caps, bounded in sentences and padded tokens.

    One sentence longer than `batch_tokens` still makes a batch.
    """
    order = sorted(range(len(lengths)), key=lambda i: (-caps[i], -lengths[i]))
    batch: list[int] = []
    for index in order:
        if batch:
            # The first of a batch is its longest.
            padded = lengths[batch[0]] * (len(batch) + 1)
            if len(batch) == batch_size or padded > batch_tokens or caps[index] != caps[batch[0]]:
                yield batch
                batch = []
        batch.append(index)
    if batch:
        yield batch
