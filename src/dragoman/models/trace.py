"""A look inside a pass."""

from dataclasses import dataclass, field

from torch import Tensor

from dragoman.layers.moe import Routing


@dataclass
class Trace:
    """What a pass leaves behind for those who look inside; lists are by layer.

    hidden: the input of each layer and the final output, [batch, time, hidden];
    self_attention, cross_attention: probabilities [batch, heads, queries, keys];
    routings: one per *sparse* layer. Only what `want` names is gathered, routings always.
    """

    want: frozenset[str] = frozenset()
    hidden: list[Tensor] = field(default_factory=list)
    self_attention: list[Tensor] = field(default_factory=list)
    cross_attention: list[Tensor] = field(default_factory=list)
    routings: list[Routing] = field(default_factory=list)

    def keep_hidden(self, x: Tensor) -> None:
        if "hidden" in self.want:
            self.hidden.append(x)

    @property
    def wants_attention(self) -> bool:
        return "attention" in self.want
