"""Going on from a model with another vocabulary."""

import torch
from torch import Tensor

from dragoman.models.nllb import Nllb
from dragoman.text.tokenizers.nllb import NllbTokenizer


@torch.no_grad()
def warm_start_(model: Nllb, tokenizer: NllbTokenizer, old: Nllb, old_tokenizer: NllbTokenizer) -> int:
    """Give `model` the layers of `old`, which has the same shape, and embeddings made of its embeddings.

    A piece's embedding is that of the same piece, or else the mean of those of the old pieces that make it
    up, longest first; special tokens and languages keep theirs. Returns how many rows found nothing
    (pieces of characters that the old vocabulary lacks, and bytes) and keep what they had.
    """
    state = {name: value for name, value in old.state_dict().items() if not _is_embedding(name)}
    missing, unexpected = model.load_state_dict(state, strict=False)
    wrong = [name for name in (*missing, *unexpected) if not _is_embedding(name)]
    if wrong:
        raise ValueError(f"the models differ in more than their embeddings: {', '.join(wrong[:3])}, ...")
    new_weight, old_weight = model.shared.weight, old.shared.weight
    ids = {name: i for i in range(len(old_tokenizer)) for name in old_tokenizer.tokens([i])}
    longest = max(len(name) for name in ids)
    kept = 0
    for row, name in enumerate(tokenizer.tokens(range(len(tokenizer)))):
        is_byte = row in tokenizer.byte_ids  # its spelling says nothing of what it stands for
        found = [ids[name]] if name in ids else [] if is_byte else _pieces(name, ids, longest)
        if found:
            new_weight[row] = _mean(old_weight, found)
        else:
            kept += 1
    return kept


def _is_embedding(name: str) -> bool:
    return name.endswith(("shared.weight", "embed_tokens.weight", "lm_head.weight"))


def _mean(weight: Tensor, rows: list[int]) -> Tensor:
    return weight[rows].mean(0)


def _pieces(name: str, ids: dict[str, int], longest: int) -> list[int]:
    """Old pieces that make up a name, longest first; none if a part of it has no piece."""
    found, start = [], 0
    while start < len(name):
        end = min(len(name), start + longest)
        while end > start and name[start:end] not in ids:
            end -= 1
        if end == start:
            return []
        found.append(ids[name[start:end]])
        start = end
    return found
