"""What a pass is asked to bring back, in transformers' words, and how it brings it."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from transformers import PreTrainedConfig, PreTrainedModel
from transformers.modeling_outputs import MoEModelOutput
from transformers.utils import ModelOutput, logging

from dragoman.huggingface.moe import weights_and_choices
from dragoman.layers.moe import Routing
from dragoman.models.nllb import Trace

logger = logging.get_logger(__name__)

Output = TypeVar("Output", bound=ModelOutput)


@dataclass(frozen=True)
class Wanted:
    """The four flags of a transformers forward; those left out are the config's."""

    attentions: bool
    hidden_states: bool
    router_logits: bool
    as_dict: bool

    @classmethod
    def of(
        cls,
        config: PreTrainedConfig,
        attentions: bool | None,
        hidden_states: bool | None,
        router_logits: bool | None,
        as_dict: bool | None,
    ) -> "Wanted":
        return cls(
            bool(config.output_attentions if attentions is None else attentions),
            bool(config.output_hidden_states if hidden_states is None else hidden_states),
            bool(config.output_router_logits if router_logits is None else router_logits),
            bool(config.return_dict if as_dict is None else as_dict),
        )

    def new_trace(self) -> Trace:
        """What a plain pass has to gather for these flags."""
        wants = {"attention": self.attentions, "hidden": self.hidden_states}
        return Trace(frozenset(name for name, wanted in wants.items() if wanted))

    def hidden(self, trace: Trace) -> tuple[Tensor, ...] | None:
        return tuple(trace.hidden) if self.hidden_states else None

    def own_attention(self, trace: Trace) -> tuple[Tensor, ...] | None:
        return tuple(trace.self_attention) if self.attentions else None

    def cross_attention(self, trace: Trace) -> tuple[Tensor, ...] | None:
        return tuple(trace.cross_attention) if self.attentions else None

    def routers(self, trace: Trace) -> Any:
        """For each *sparse* layer its combining weights after dropping and its first choices.

        transformers' outputs have their place, but only for one tensor a layer.
        """
        return tuple(map(weights_and_choices, trace.routings)) if self.router_logits else None

    def form(self, output: Output) -> Output | tuple:
        """The output as it is, or as a tuple without what is not there."""
        return output if self.as_dict else output.to_tuple()


def encoder_output(given: ModelOutput | Sequence) -> MoEModelOutput:
    """The outputs of an encoder that ran before: of ours, of any other, or a tuple led by the states."""
    if isinstance(given, MoEModelOutput):
        return given
    if not isinstance(given, ModelOutput):
        given = MoEModelOutput(
            **dict(zip(("last_hidden_state", "hidden_states", "attentions"), given, strict=False))
        )
    names = ("last_hidden_state", "hidden_states", "attentions", "router_logits")
    return MoEModelOutput(**{name: getattr(given, name, None) for name in names})


@dataclass(frozen=True)
class RouterLosses:
    """The auxiliary losses of a stack: each the sum over its sparse layers, without coefficient.

    `balance` is GShard's loss for each layer apart, over its first choices and its real tokens.
    transformers computes something else under this name: 4.57 mixes up layers and experts, 5
    pools all layers, so that experts of the same number in different layers balance each other.
    """

    balance: Tensor
    z: Tensor

    @classmethod
    def of(cls, routings: Iterable[Routing]) -> "RouterLosses | None":
        """None if there are no sparse layers, or their encoder ran elsewhere."""
        routings = list(routings)
        if not routings:
            return None
        # Layers may be on different devices.
        device = routings[-1].logits.device
        balance = torch.stack([routing.balance_loss().to(device) for routing in routings])
        z = torch.stack([routing.z_loss().to(device) for routing in routings])
        return cls(balance.sum(), z.sum())

    def weighted(self, config: PreTrainedConfig) -> Tensor:
        """What they add to the training loss."""
        return config.router_aux_loss_coef * self.balance + config.router_z_loss_coef * self.z


def warn_of_half_precision(model: PreTrainedModel, head: nn.Linear) -> None:
    """One line, once, if a loss is about to train float16 weights: the first step makes them NaN."""
    weight = head.weight
    if model.training and weight.requires_grad and weight.dtype == torch.float16:
        logger.warning_once(
            "the weights are float16, and an optimizer's step makes such weights NaN: load the model "
            'with dtype="float32" (or "bfloat16") and let fp16 training cast while it computes'
        )
