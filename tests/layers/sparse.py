"""What tests of sparse layers share: tokens, padding, and blocks of them."""

import torch
from torch import Tensor

from dragoman.layers.moe import SparseMLP, Top2Router
from dragoman.layers.options import MoeOptions

TOKENS, EXPERTS, HIDDEN, INNER = 22, 5, 6, 9
PADDING = (3, 11, 12, 20, 21)
OPTIONS = MoeOptions(EXPERTS)


def tokens(count: int = TOKENS, seed: int = 0, dtype: torch.dtype = torch.float32) -> Tensor:
    # Stretched, so that routers of few dimensions are decided.
    return 3 * torch.randn(count, HIDDEN, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def padding_mask() -> Tensor:
    return torch.tensor([token not in PADDING for token in range(TOKENS)])


def router_with(options: MoeOptions, training: bool = False) -> Top2Router:
    torch.manual_seed(1)
    router = Top2Router(HIDDEN, options).train(training)
    if options.router_bias:
        torch.nn.init.normal_(router.classifier.bias)
    return router


def sparse_with(options: MoeOptions, training: bool = False, dtype: torch.dtype = torch.float32) -> SparseMLP:
    torch.manual_seed(1)
    return SparseMLP(HIDDEN, INNER, options).to(dtype).train(training)


def all_to_two(confidence: list[float]) -> Tensor:
    """Logits of tokens that all want expert 0 first and expert 1 second."""
    rows = torch.full((len(confidence), EXPERTS), -8.0)
    rows[:, 0], rows[:, 1] = torch.tensor(confidence), 0.0
    return rows
