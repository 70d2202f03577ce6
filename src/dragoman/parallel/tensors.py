"""Tensor parallelism: each rank has some heads of every layer, and a part of its MLP.

As in Megatron-LM (arXiv 1909.08053, section 3): the first matrices are shared by outputs, the second ones by
inputs, and the ranks' results are added up, twice a layer. A language module's B goes with the first ones and
its A with the second ones: what is left whole is small, and the sum holds for the products as for the base.
"""

from torch import Tensor, nn
from torch.nn import functional as F

from dragoman.layers.creation import unfilled
from dragoman.layers.llama import Pass
from dragoman.models.llama import Llama, LlamaLayer
from dragoman.parallel.ranks import Ranks
from dragoman.parallel.shares import own_part


class TensorParallelLayer(LlamaLayer):
    """A layer of which this rank has some heads and a part of the MLP."""

    def __init__(self, slim: LlamaLayer, ranks: Ranks) -> None:
        """slim: an ordinary layer of the rank's size, whose children this one takes."""
        nn.Module.__init__(self)
        self.ranks = ranks
        for name, child in slim.named_children():
            self.add_module(name, child)

    def forward(self, x: Tensor, step: Pass) -> tuple[Tensor, Tensor | None]:
        """As an ordinary layer; attention probabilities are those of this rank's heads."""
        attended, weights = self.self_attn(self.input_layernorm(x), step)
        x = x + self.ranks.summed(attended)
        return x + self.ranks.summed(self.mlp(self.post_attention_layernorm(x), step.routes)), weights


class VocabularyParallelEmbedding(nn.Embedding):
    """An embedding of which this rank has the rows of some tokens."""

    def __init__(self, vocabulary: int, hidden: int, ranks: Ranks) -> None:
        self.own = own_part(vocabulary, ranks.rank, ranks.count)
        super().__init__(len(self.own), hidden)
        self.ranks = ranks

    def forward(self, input: Tensor) -> Tensor:
        """[rows, time] -> [rows, time, hidden]: every vector is one rank's, to which others add zeros."""
        here = (input >= self.own.start) & (input < self.own.stop)
        found = super().forward((input - self.own.start) * here)
        return self.ranks.summed(found * here[..., None])


class VocabularyParallelHead(nn.Linear):
    """An output layer of which this rank scores some tokens."""

    def __init__(self, hidden: int, vocabulary: int, ranks: Ranks) -> None:
        shares = [len(own_part(vocabulary, rank, ranks.count)) for rank in range(ranks.count)]
        super().__init__(hidden, shares[ranks.rank], bias=False)
        self.ranks, self.shares = ranks, shares

    def forward(self, input: Tensor) -> Tensor:
        """[..., hidden] -> [..., vocabulary] on rank 0, which alone chooses; on others, nothing of use."""
        return self.ranks.joined_columns(F.linear(input, self.weight), self.shares)


def share_layers_(model: Llama, vocabulary: int, ranks: Ranks) -> None:
    """Have the ordinary layers of a rank's size compute together with those of the other ranks.

    vocabulary: of the whole model.
    """
    stack, hidden = model.model, model.config.hidden_size
    for index, layer in enumerate(stack.layers):
        stack.layers[index] = TensorParallelLayer(layer, ranks)  # type: ignore[arg-type]
    with unfilled():
        stack.embed_tokens = VocabularyParallelEmbedding(vocabulary, hidden, ranks)
        model.lm_head = VocabularyParallelHead(hidden, vocabulary, ranks)
    model.tie_weights()
