"""NLLB-200, dense and sparse, as one plain module under the published NLLB-MoE parameter names.

A pre-norm encoder-decoder with sinusoidal positions and one embedding shared by encoder,
decoder and output layer. Reference: transformers 4.57.6, `modeling_nllb_moe.py` and
`modeling_m2m_100.py`; fairseq `nllb` branch.
"""

import math

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from dragoman.kernels import threads  # noqa: F401 (what a fork takes comes with it)
from dragoman.layers.attention import Attention, unless_all_real
from dragoman.layers.cache import Cache, NoCache, Slots, causal_mask
from dragoman.layers.moe import DenseMLP, Routing, SparseMLP
from dragoman.layers.positions import SinusoidalPositions
from dragoman.models.config import NllbConfig
from dragoman.models.nllb_state import NllbState
from dragoman.models.prompt import Prompt
from dragoman.models.scores import TorchScores
from dragoman.models.trace import Trace


class ScaledEmbedding(nn.Embedding):
    """An embedding whose vectors come out multiplied by `embed_scale`."""

    def __init__(self, config: NllbConfig) -> None:
        super().__init__(config.vocab_size, config.d_model, padding_idx=config.pad_token_id)
        self.embed_scale = math.sqrt(config.d_model) if config.scale_embedding else 1.0

    def forward(self, input: Tensor) -> Tensor:
        """[batch, time] -> [batch, time, hidden]."""
        return super().forward(input) * self.embed_scale


class EncoderLayer(nn.Module):
    """Self-attention, then a dense or sparse feed-forward block."""

    def __init__(self, config: NllbConfig, index: int) -> None:
        super().__init__()
        hidden = config.d_model
        self.dropout = config.dropout
        self.self_attn = Attention(hidden, config.encoder_attention_heads, config.attention_dropout)
        self.self_attn_layer_norm = nn.LayerNorm(hidden)
        self.ffn = feed_forward(config, "encoder", index)
        self.ff_layer_norm = nn.LayerNorm(hidden)

    def forward(
        self, x: Tensor, mask: Tensor | None, keep: Tensor | None, need_weights: bool = False
    ) -> tuple[Tensor, Tensor | None, Routing | None]:
        """x: [batch, time, hidden]; mask: [batch, 1, 1, time]; keep: [batch, time]."""
        normed = self.self_attn_layer_norm(x)
        key, value = self.self_attn.project(normed)
        attended, weights = self.self_attn(normed, key, value, mask, need_weights=need_weights)
        x = x + F.dropout(attended, self.dropout, self.training)
        x, routing = _feed_forward_block(self, x, keep)
        return x, weights, routing


class DecoderLayer(nn.Module):
    """Causal self-attention, attention to the source, then a dense or sparse feed-forward block."""

    def __init__(self, config: NllbConfig, index: int) -> None:
        super().__init__()
        hidden, heads = config.d_model, config.decoder_attention_heads
        self.index = index
        self.dropout = config.dropout
        self.self_attn = Attention(hidden, heads, config.attention_dropout)
        self.self_attn_layer_norm = nn.LayerNorm(hidden)
        self.cross_attention = Attention(hidden, heads, config.attention_dropout)
        self.cross_attention_layer_norm = nn.LayerNorm(hidden)
        self.ffn = feed_forward(config, "decoder", index)
        self.ff_layer_norm = nn.LayerNorm(hidden)

    def forward(
        self,
        x: Tensor,
        encoded: Tensor | None,
        mask: Tensor | None,
        source_mask: Tensor | None,
        keep: Tensor | None,
        cache: Cache,
        need_weights: bool = False,
    ) -> tuple[Tensor, Tensor | None, Tensor | None, Routing | None]:
        """x: [batch, time, hidden]; encoded: [sentences, source, hidden], or None once cached."""
        normed = self.self_attn_layer_norm(x)
        key, value = cache.extend(self.index, *self.self_attn.project(normed))
        attended, own = self.self_attn(normed, key, value, mask, need_weights=need_weights)
        x = x + F.dropout(attended, self.dropout, self.training)

        cross = None
        source = cache.source(self.index, self.cross_attention, encoded)
        if source is not None:
            normed = self.cross_attention_layer_norm(x)
            attended, cross = self.cross_attention(normed, *source, source_mask, need_weights=need_weights)
            x = x + F.dropout(attended, self.dropout, self.training)
        x, routing = _feed_forward_block(self, x, keep)
        return x, own, cross, routing


class Encoder(nn.Module):
    """Embeds and encodes source sentences."""

    def __init__(
        self,
        config: NllbConfig,
        embed_tokens: nn.Embedding,
        layer: type[EncoderLayer] = EncoderLayer,
    ) -> None:
        super().__init__()
        self.shape = config
        self.embed_tokens = embed_tokens
        self.positions = SinusoidalPositions(config.d_model)
        self.layers = nn.ModuleList(layer(config, i) for i in range(config.encoder_layers))
        self.layer_norm = nn.LayerNorm(config.d_model)

    def forward(
        self,
        input_ids: Tensor | None,
        keep: Tensor | None,
        trace: Trace | None = None,
        embedded: Tensor | None = None,
        mask: Tensor | None = None,
    ) -> Tensor:
        """input_ids: [batch, time]; keep: boolean [batch, time], False on padding -> [batch, time, hidden].

        `embedded` [batch, time, hidden], already scaled, may stand in for `input_ids`. mask
        [batch, heads, queries, keys], each of the first three perhaps 1: what a query may look at,
        if `keep` doesn't say it all; boolean, or numbers to add to the scores.
        """
        trace = Trace() if trace is None else trace
        keep = unless_all_real(keep)
        x = _embed(self, input_ids, embedded, keep)
        if mask is None and keep is not None:
            mask = keep[:, None, None, :]
        for layer in self.layers:
            trace.keep_hidden(x)
            if _is_dropped(self, self.shape.encoder_layerdrop):
                continue
            x, weights, routing = layer(x, mask, keep, trace.wants_attention)
            _record(trace, weights, None, routing)
        x = self.layer_norm(x)
        trace.keep_hidden(x)
        return x


class Decoder(nn.Module):
    """Continues target sentences, given encoded source sentences."""

    def __init__(
        self,
        config: NllbConfig,
        embed_tokens: nn.Embedding,
        layer: type[DecoderLayer] = DecoderLayer,
    ) -> None:
        super().__init__()
        self.shape = config
        self.embed_tokens = embed_tokens
        self.positions = SinusoidalPositions(config.d_model)
        self.layers = nn.ModuleList(layer(config, i) for i in range(config.decoder_layers))
        self.layer_norm = nn.LayerNorm(config.d_model)

    def forward(
        self,
        input_ids: Tensor | None,
        encoded: Tensor | None,
        source_keep: Tensor | None = None,
        keep: Tensor | None = None,
        cache: Cache | None = None,
        trace: Trace | None = None,
        embedded: Tensor | None = None,
        mask: Tensor | None = None,
        source_mask: Tensor | None = None,
    ) -> Tensor:
        """The hidden states [batch, time, hidden] of the target positions `input_ids` [batch, time].

        encoded: [sentences, source, hidden] (None once the cache has it); source_keep:
        boolean [sentences, source]; keep: boolean [batch, past + time], False on padding. mask and
        source_mask, as the encoder takes them: what a query may look at, instead of what `keep` and
        the order, or `source_keep`, say.
        """
        trace = Trace() if trace is None else trace
        cache = NoCache() if cache is None else cache
        past = cache.length
        keep = unless_all_real(keep)
        x = _embed(self, input_ids, embedded, keep, past)
        if mask is None:
            mask = _own_mask(keep, past, x)
        routed = None if keep is None else keep[:, past:]
        if source_mask is None and source_keep is not None:
            source_mask = source_keep[:, None, None, :]
        return run_decoder(self, x, encoded, mask, source_mask, routed, cache, trace)


class Nllb(nn.Module):
    """NLLB-200 for translation: encoder, decoder and the output layer tied to their embedding."""

    def __init__(self, config: NllbConfig) -> None:
        super().__init__()
        self.config = config
        self.shared = ScaledEmbedding(config)
        self.encoder = Encoder(config, self.shared)
        self.decoder = Decoder(config, self.shared)
        self.lm_head = nn.Linear(config.d_model, config.vocab_size, bias=False)
        self.tie_weights()

    def tie_weights(self) -> None:
        """Make encoder, decoder and output layer use the one shared embedding."""
        self.encoder.embed_tokens = self.decoder.embed_tokens = self.shared
        if self.config.tie_word_embeddings:
            self.lm_head.weight = self.shared.weight

    def forward(
        self,
        input_ids: Tensor,
        decoder_input_ids: Tensor,
        keep: Tensor | None = None,
        decoder_keep: Tensor | None = None,
        encoder_trace: Trace | None = None,
        decoder_trace: Trace | None = None,
    ) -> Tensor:
        """Logits [batch, target, vocabulary] with the target given (teacher forcing).

        keep, decoder_keep: boolean [batch, time], False on padding.
        """
        encoded = self.encoder(input_ids, keep, encoder_trace)
        hidden = self.decoder(decoder_input_ids, encoded, keep, decoder_keep, trace=decoder_trace)
        return self.lm_head(hidden)

    @torch.inference_mode()
    def begin(self, prompt: Prompt) -> NllbState:
        """Encode the sources; the state has one row for each."""
        device = self.decoder.layer_norm.weight.device
        input_ids, keep = (torch.from_numpy(part).to(device) for part in prompt.read())
        return NllbState(len(self.decoder.layers), self.encoder(input_ids, keep), keep)

    @torch.inference_mode()
    def step(self, tokens: np.ndarray, state: NllbState) -> TorchScores:
        """Feed the newest tokens of each row [rows, new]; scores of the next one."""
        past, new = state.cache.length, tokens.shape[1]
        ids = torch.from_numpy(tokens).to(self.decoder.layer_norm.weight.device)
        x = _embed(self.decoder, ids, None, None, past, state.empty())
        mask = state.own_mask(new)
        if new > 1:
            causal = causal_mask(new, past, x.device)
            mask = causal if mask is None else mask & causal
        hidden = run_decoder(
            self.decoder, x, state.encoded, mask, state.source_mask, None, state.cache, Trace()
        )
        state.encoded = None  # projected into the cache by now
        return TorchScores(self.lm_head(hidden[:, -1]))

    def state_bytes(self, source_tokens: int, new_tokens: int, beams: int) -> int:
        """The memory of a sentence's decoding: the source once, new tokens and scores for each beam."""
        positions = source_tokens + beams * (new_tokens + Slots.GROWTH)
        itemsize = self.decoder.layer_norm.weight.dtype.itemsize
        keys = 2 * len(self.decoder.layers) * positions * self.config.d_model
        return (keys + beams * self.config.vocab_size) * itemsize


def run_decoder(
    stack: Decoder,
    x: Tensor,
    encoded: Tensor | None,
    mask: Tensor | None,
    source_mask: Tensor | None,
    keep: Tensor | None,
    cache: Cache,
    trace: Trace,
) -> Tensor:
    """Vectors [batch, time, hidden] through all layers of the decoder and its last norm.

    mask, source_mask: boolean, True where a query may look; keep: boolean [batch, time].
    """
    for layer in stack.layers:
        trace.keep_hidden(x)
        if _is_dropped(stack, stack.shape.decoder_layerdrop):
            continue
        x, own, cross, routing = layer(x, encoded, mask, source_mask, keep, cache, trace.wants_attention)
        _record(trace, own, cross, routing)
    x = stack.layer_norm(x)
    trace.keep_hidden(x)
    return x


def feed_forward(config: NllbConfig, side: str, index: int) -> DenseMLP | SparseMLP:
    """The feed-forward block of a layer of the "encoder" or "decoder", [batch, time, hidden] -> the same."""
    activation, dropout = config.activation_function, config.activation_dropout
    inner: int = getattr(config, f"{side}_ffn_dim")
    if index in config.sparse_layers(side):
        return SparseMLP(config.d_model, inner, config.moe_options(side), activation, dropout)
    return DenseMLP(config.d_model, inner, activation, dropout)


@torch.no_grad()
def initialize_(model: Nllb, seed: int) -> None:
    """Fill the parameters for training from scratch.

    Embeddings N(0, 1/sqrt(hidden)) as in fairseq, so that scaled inputs have unit size;
    matrices Xavier-uniform; router rows small, so that training starts with even routing.
    """
    generator = torch.Generator().manual_seed(seed)
    hidden = model.config.d_model
    for name, parameter in model.named_parameters():
        if name == "shared.weight":
            parameter.normal_(0, hidden**-0.5, generator=generator)
            parameter[model.config.pad_token_id] = 0
        elif name.endswith("router.classifier.weight"):
            parameter.normal_(0, 0.1 * hidden**-0.5, generator=generator)
        elif parameter.dim() == 2:
            nn.init.xavier_uniform_(parameter, generator=generator)
        elif name.endswith("norm.weight"):
            parameter.fill_(1)
        else:
            parameter.zero_()


def _embed(
    stack: Encoder | Decoder,
    input_ids: Tensor | None,
    embedded: Tensor | None,
    keep: Tensor | None,
    past: int = 0,
    padded: Tensor | None = None,
) -> Tensor:
    """Vectors with positions [batch, time, hidden].

    keep: boolean [batch, past + time]; padded: how many of the past are padding, [batch, 1],
    where `keep` doesn't say it.
    """
    if keep is not None and past:
        padded = (~keep[:, :past]).sum(1, keepdim=True)
    if embedded is None:
        assert input_ids is not None
        embedded = stack.embed_tokens(input_ids)
        real = input_ids.ne(stack.shape.pad_token_id)
    elif keep is not None:
        real = keep[:, past:]
    else:
        real = torch.ones(embedded.shape[:2], dtype=torch.bool, device=embedded.device)
    positions = stack.positions(real, past, padded).to(embedded.device, embedded.dtype)
    return F.dropout(embedded + positions, stack.shape.dropout, stack.training)


def _feed_forward_block(
    layer: EncoderLayer | DecoderLayer, x: Tensor, keep: Tensor | None
) -> tuple[Tensor, Routing | None]:
    normed = layer.ff_layer_norm(x)
    routing = None
    if isinstance(layer.ffn, SparseMLP):
        out, routing = layer.ffn(normed, keep)
    else:
        out = layer.ffn(normed)
    x = x + F.dropout(out, layer.dropout, layer.training)
    if x.dtype == torch.float16:
        limit = torch.finfo(x.dtype).max - 1000
        x = x.clamp(-limit, limit)  # fp16 overflows in the deep layers of the large models
    return x, routing


def _own_mask(keep: Tensor | None, past: int, x: Tensor) -> Tensor | None:
    """Where the positions of `x` [batch, time, hidden] may look: at those before them that are real."""
    time = x.shape[1]
    mask = causal_mask(time, past, x.device) if time > 1 else None
    if keep is None:
        return mask
    visible = keep[:, None, None, :]
    mask = visible if mask is None else visible & mask
    # A padded query may see no key at all; let it see itself, or softmax gives NaN.
    return mask | torch.eye(past + time, dtype=torch.bool, device=x.device)[past:]


def _is_dropped(stack: Encoder | Decoder, layerdrop: float) -> bool:
    return stack.training and layerdrop > 0 and float(torch.rand(())) < layerdrop


def _record(trace: Trace, own: Tensor | None, cross: Tensor | None, routing: Routing | None) -> None:
    if own is not None:
        trace.self_attention.append(own)
    if cross is not None:
        trace.cross_attention.append(cross)
    if routing is not None:
        trace.routings.append(routing)
