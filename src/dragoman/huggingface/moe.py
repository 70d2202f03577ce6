"""The router and the sparse block under the names and signatures of transformers 4.57.

These are for callers who use them on their own. Our models contain the plain ones, which do
the work here too. (In transformers 5 the sparse block runs experts 0 and 1 only, so it is no
model for anything.)
"""

import torch
from torch import Tensor
from torch.nn import functional as F

from dragoman.huggingface.configuration import NllbMoeConfig, plain_config
from dragoman.layers.moe import Routing, SparseMLP, Top2Router, working_dtype

RouterOutput = tuple[Tensor, Tensor]


class NllbMoeTop2Router(Top2Router):
    """Chooses two experts for a token; its weights are named `classifier.weight` (and `.bias`).

    A padding mask is the opposite of an attention mask: what isn't zero is padding. It may be

    - [batch, time] or [tokens], boolean or numbers;
    - an additive attention mask [batch, 1, queries, keys], whose last row of queries says
      which of the keys are padding. Keys from a cache come first and are passed over.

    In training an expert takes twice its even share of the tokens, as in fairseq;
    `config.expert_capacity`, by which transformers 4.57 goes instead, is read by nothing.
    """

    def __init__(self, config: NllbMoeConfig) -> None:
        shape = plain_config(config)
        super().__init__(shape.d_model, shape.moe_options())
        self.num_experts = shape.num_experts

    def forward(  # type: ignore[override]
        self, hidden_states: Tensor, padding_mask: Tensor | bool | None = None
    ) -> RouterOutput:
        """Route `hidden_states` [batch, time, hidden] or [tokens, hidden]; returns as `route_tokens` does."""
        return router_output(self.routing(hidden_states, padding_mask))

    def route_tokens(
        self,
        router_logits: Tensor,
        input_dtype: torch.dtype = torch.float32,
        padding_mask: Tensor | bool | None = None,
    ) -> RouterOutput:
        """First choices, one-hot integers, and the weights of both, [tokens, experts] each, after dropping.

        With the policy "sampling" the noise stays in `router_logits`, as it does in transformers.
        """
        keep = _keep(padding_mask, len(router_logits))
        routing = self.route(router_logits.to(working_dtype(self.options)), keep, input_dtype)
        return router_output(routing)

    def routing(self, hidden_states: Tensor, padding_mask: Tensor | bool | None = None) -> Routing:
        """The same as one object, which has the router's logits and the auxiliary losses as well."""
        tokens = hidden_states.reshape(-1, hidden_states.shape[-1])
        return super().forward(tokens, _keep(padding_mask, len(tokens)))

    def add_noise(self, logits: Tensor) -> Tensor:
        """Noise for the policy "sampling", left in `logits`."""
        return logits.detach().copy_(super().add_noise(logits))


class NllbMoeSparseMLP(SparseMLP):
    """A feed-forward block with many experts: `router` and `experts.expert_N.fc1` and `.fc2`."""

    def __init__(self, config: NllbMoeConfig, ffn_dim: int) -> None:
        shape = plain_config(config)
        activation, dropout = shape.activation_function, shape.activation_dropout
        super().__init__(shape.d_model, ffn_dim, shape.moe_options(), activation, dropout)
        self.router = NllbMoeTop2Router(config)

    def forward(  # type: ignore[override]
        self, hidden_states: Tensor, padding_mask: Tensor | bool | None = None
    ) -> tuple[Tensor, RouterOutput]:
        """hidden_states: [batch, time, hidden]; padding_mask: as the router takes it.

        Returns the output [batch, time, hidden], which is zero for padding and for tokens that
        both experts dropped, and `(weights [tokens, experts], first choices [tokens])`.
        """
        assert isinstance(self.router, NllbMoeTop2Router)
        routing = self.router.routing(hidden_states, padding_mask)
        mixed = self.mix(hidden_states.reshape(-1, hidden_states.shape[-1]), routing)
        return mixed.view_as(hidden_states), weights_and_choices(routing)


def router_output(routing: Routing) -> RouterOutput:
    """First choices, one-hot and zero where dropped, and combining weights, [tokens, experts] each."""
    kept = (routing.weights[:, :1] > 0).long()
    first = F.one_hot(routing.experts[:, 0], routing.logits.shape[1]) * kept
    return first, routing.combine_weights()


def weights_and_choices(routing: Routing) -> RouterOutput:
    """Combining weights [tokens, experts] and first choices [tokens], 0 where that one was dropped."""
    first, weights = router_output(routing)
    return weights, first.argmax(-1)


def _keep(padding_mask: Tensor | bool | None, tokens: int) -> Tensor | None:
    """Boolean [tokens], False on padding; None if nothing is."""
    if padding_mask is None or isinstance(padding_mask, bool):
        if padding_mask:
            raise ValueError(
                "padding_mask=True says that all is padding; pass a tensor, or None for no padding"
            )
        return None
    if padding_mask.dim() == 4:
        time = tokens // len(padding_mask)
        padding_mask = padding_mask[:, 0, -1, -time:]
    if padding_mask.numel() != tokens:
        raise ValueError(
            f"padding_mask has the shape {list(padding_mask.shape)}, which doesn't fit {tokens} tokens; "
            "it must be [batch, time], [tokens] or [batch, 1, queries, keys]"
        )
    return ~padding_mask.reshape(-1).bool()
