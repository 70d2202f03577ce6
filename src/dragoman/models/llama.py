"""Llama, and X-ALMA as a Llama with language modules, as one plain module under the published names.

A pre-norm decoder with rotary positions. Reference: transformers 5.23, `modeling_llama.py`; for the
modules the authors' `modeling_xalma.py`, whose dense W + B A is never formed here.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from dragoman.kernels import threads  # noqa: F401 (what a fork takes comes with it)
from dragoman.layers.attention import unless_all_real
from dragoman.layers.cache import Slots
from dragoman.layers.llama import LlamaAttention, LlamaMLP, Pass, SelfCache, count_positions, self_mask
from dragoman.layers.lora import Routes
from dragoman.layers.norm import RMSNorm
from dragoman.layers.rotary import Rotary
from dragoman.models.language_modules import LanguageModules
from dragoman.models.llama_config import LlamaConfig
from dragoman.models.llama_state import LlamaState
from dragoman.models.prompt import Prompt
from dragoman.models.scores import TorchScores
from dragoman.models.trace import Trace

RowGroups = Tensor | Sequence[int]
"""The language group of each row, 0 for none."""


@dataclass(frozen=True)
class Original:
    """The weight of a projection as it was before a module was merged into it."""

    name: str
    weight: Tensor
    version: int
    """PyTorch's count of changes to the merged weight when it was merged."""


@dataclass
class RoutedModules(LanguageModules):
    """The language modules of a PyTorch model."""

    originals: list[Original] | None = None
    """What is needed to take the merged group out again, if it was kept."""

    def routes(self, groups: RowGroups | None, device: torch.device) -> Routes | None:
        """Which rows use which module; None if all run through the weights as they are.

        LanguageModuleError as in `check`.
        """
        if groups is None:
            return None
        wanted = [int(group) for group in (groups.tolist() if isinstance(groups, Tensor) else groups)]
        self.check(wanted)
        return Routes.of(wanted, self.scales, device) if self.merged is None else None


class LlamaLayer(nn.Module):
    """Self-attention, then a gated feed-forward block."""

    def __init__(self, config: LlamaConfig, index: int, groups: Iterable[int] = ()) -> None:
        super().__init__()
        hidden = config.hidden_size
        self.self_attn = LlamaAttention(
            hidden,
            config.num_attention_heads,
            config.num_key_value_heads,
            config.head_dim,
            index,
            config.attention_bias,
            config.attention_dropout,
            groups,
            config.lora_size,
        )
        self.mlp = LlamaMLP(
            hidden, config.intermediate_size, config.hidden_act, config.mlp_bias, groups, config.lora_size
        )
        self.input_layernorm = RMSNorm(hidden, config.rms_norm_eps)
        self.post_attention_layernorm = RMSNorm(hidden, config.rms_norm_eps)

    def forward(self, x: Tensor, step: Pass) -> tuple[Tensor, Tensor | None]:
        """[rows, time, hidden] -> the same, and the attention probabilities if asked for."""
        attended, weights = self.self_attn(self.input_layernorm(x), step)
        x = x + attended
        return x + self.mlp(self.post_attention_layernorm(x), step.routes), weights


class LlamaStack(nn.Module):
    """Embedding, layers and the last norm: what the checkpoint calls `model`."""

    # Set by the transformers face; here so that one forward serves both.
    gradient_checkpointing = False
    _gradient_checkpointing_func: Callable[..., tuple]

    def __init__(self, config: LlamaConfig, groups: Iterable[int] = ()) -> None:
        super().__init__()
        groups = tuple(groups)
        self.shape = config
        self.embed_tokens = nn.Embedding(config.vocab_size, config.hidden_size, config.pad_token_id)
        self.layers = nn.ModuleList(
            LlamaLayer(config, index, groups) for index in range(config.num_hidden_layers)
        )
        self.norm = RMSNorm(config.hidden_size, config.rms_norm_eps)
        self.rotary = Rotary(config.head_dim, config.rope, config.max_position_embeddings)
        self.language = RoutedModules(dict.fromkeys(groups, float(config.lora_alpha)))

    def forward(
        self,
        input_ids: Tensor | None,
        keep: Tensor | None = None,
        groups: RowGroups | None = None,
        positions: Tensor | None = None,
        cache: SelfCache | None = None,
        trace: Trace | None = None,
        embedded: Tensor | None = None,
        mask: Tensor | None = None,
    ) -> Tensor:
        """The hidden states [rows, time, hidden] of `input_ids` [rows, time], after the last norm.

        keep: boolean [rows, past + time], False on padding, on whichever side. groups: the
        language group of each row, 0 for none. positions: [rows, time] or [1, time]; without
        them they are counted, padding left out. `embedded` [rows, time, hidden] may stand in
        for `input_ids`. mask [rows, heads, time, past + time], each of the first three perhaps 1:
        what a query may look at, instead of what `keep` and the order say; boolean, or numbers to
        add to the scores. Raises LanguageModuleError.
        """
        trace = Trace() if trace is None else trace
        if embedded is None:
            assert input_ids is not None
            embedded = self.embed_tokens(input_ids)
        past = 0 if cache is None else cache.length
        keep = unless_all_real(keep)
        time, device = embedded.shape[1], embedded.device
        if positions is None:
            positions = count_positions(keep, past, time, device)
        step = Pass(
            self.rotary(positions, embedded.dtype),
            *((mask, False) if mask is not None else self_mask(keep, past, time, embedded.dtype, device)),
            cache=cache,
            routes=self.language.routes(groups, device),
            need_weights=trace.wants_attention,
        )
        return run_layers(self, embedded, step, trace)


class Llama(nn.Module):
    """Stack and output layer: a language model that continues prompts."""

    def __init__(self, config: LlamaConfig, groups: Iterable[int] = ()) -> None:
        super().__init__()
        self.config = config
        self.model = LlamaStack(config, groups)
        self.lm_head = nn.Linear(config.hidden_size, config.vocab_size, bias=False)
        self.tie_weights()

    def tie_weights(self) -> None:
        """Make the output layer use the embedding, if the config says so."""
        if self.config.tie_word_embeddings:
            self.lm_head.weight = self.model.embed_tokens.weight

    def forward(
        self,
        input_ids: Tensor,
        keep: Tensor | None = None,
        groups: RowGroups | None = None,
        positions: Tensor | None = None,
        trace: Trace | None = None,
    ) -> Tensor:
        """Logits [rows, time, vocabulary]; arguments as those of the stack."""
        return self.lm_head(self.model(input_ids, keep, groups, positions, trace=trace))

    @torch.inference_mode()
    def begin(self, prompt: Prompt) -> LlamaState:
        """Prepare to continue prompts; the first `step` is given all their tokens."""
        keep = torch.from_numpy(prompt.continued()).to(self.model.norm.weight.device)
        return LlamaState(self.model.language, len(self.model.layers), keep, prompt.groups)

    @torch.inference_mode()
    def step(self, tokens: np.ndarray, state: LlamaState) -> TorchScores:
        """Feed the newest tokens of each row [rows, new]; scores of the next one."""
        ids = torch.from_numpy(tokens).to(self.model.norm.weight.device)
        x = self.model.embed_tokens(state.arrange(ids))
        step = state.advance(x, self.model.rotary)
        hidden = run_layers(self.model, x, step, Trace())[:, -1]
        return TorchScores(self.lm_head(state.restore(hidden)))

    def state_bytes(self, source_tokens: int, new_tokens: int, beams: int) -> int:
        """The memory of a prompt's continuation: the prompt once, new tokens and scores for each beam."""
        positions = source_tokens + beams * (new_tokens + Slots.GROWTH)
        width = self.config.num_key_value_heads * self.config.head_dim
        keys = 2 * len(self.model.layers) * positions * width
        return (keys + beams * self.config.vocab_size) * self.model.norm.weight.dtype.itemsize


def recomputes(stack: LlamaStack) -> bool:
    """Whether the layers forget their activations and run again for their gradients."""
    return stack.gradient_checkpointing and stack.training and torch.is_grad_enabled()


def run_layers(stack: LlamaStack, x: Tensor, step: Pass, trace: Trace) -> Tensor:
    """Vectors [rows, time, hidden] through all layers and the last norm."""
    again = recomputes(stack)
    for layer in stack.layers:
        trace.keep_hidden(x)
        if again:
            x, weights = stack._gradient_checkpointing_func(layer.__call__, x, step)
        else:
            x, weights = layer(x, step)
        if weights is not None:
            trace.self_attention.append(weights)
    x = stack.norm(x)
    trace.keep_hidden(x)
    return x
