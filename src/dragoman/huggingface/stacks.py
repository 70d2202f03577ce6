"""Encoder and decoder as transformers models.

They adopt the children of the plain stacks in `dragoman.models.nllb` and borrow their forward:
parameters have the published names, and nothing is computed here.
"""

import torch
from torch import Tensor, nn
from transformers import Cache, DynamicCache, EncoderDecoderCache, PreTrainedModel
from transformers.modeling_layers import GradientCheckpointingLayer
from transformers.modeling_outputs import MoEModelOutput, MoEModelOutputWithPastAndCrossAttentions

from dragoman.huggingface.cache import CacheAdapter, chosen_cache
from dragoman.huggingface.calls import CACHE_NAMES, cache_field, checked
from dragoman.huggingface.configuration import NllbMoeConfig, plain_config
from dragoman.huggingface.inputs import Sight, shape_of
from dragoman.huggingface.outputs import Wanted
from dragoman.models.nllb import Decoder, DecoderLayer, Encoder, EncoderLayer, ScaledEmbedding, Trace


class NllbMoeEncoderLayer(GradientCheckpointingLayer, EncoderLayer):
    """The plain layer, which can forget its activations and compute them again."""


class NllbMoeDecoderLayer(GradientCheckpointingLayer, DecoderLayer):
    """The plain layer, which can forget its activations and compute them again."""


class NllbMoePreTrainedModel(PreTrainedModel):
    """What all of them share."""

    config: NllbMoeConfig
    base_model_prefix = "model"
    supports_gradient_checkpointing = True
    _supports_sdpa = True
    _no_split_modules = ["NllbMoeEncoderLayer", "NllbMoeDecoderLayer"]  # noqa: RUF012
    # In half precision near-ties between experts would flip.
    _keep_in_fp32_modules_strict = ["router.classifier"]  # noqa: RUF012
    _skip_keys_device_placement = [*CACHE_NAMES]  # noqa: RUF012
    # Old checkpoints store what is computed here, or a bias that is always zero.
    _keys_to_ignore_on_load_unexpected = [  # noqa: RUF012
        r"embed_positions\.(weights|_float_tensor)$",
        r"^final_logits_bias$",
    ]

    def _adopt(self, plain: Encoder | Decoder) -> None:
        """Take over all that the forward of `plain` looks for in itself."""
        self.shape = plain.shape
        for name, child in plain.named_children():
            self.add_module(name, child)


class NllbMoeEncoder(NllbMoePreTrainedModel):
    """Encodes source sentences."""

    def __init__(self, config: NllbMoeConfig) -> None:
        super().__init__(config)
        shape = plain_config(config)
        self._adopt(Encoder(shape, ScaledEmbedding(shape), NllbMoeEncoderLayer))
        self.post_init()

    @checked
    def forward(
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        inputs_embeds: Tensor | None = None,
        output_attentions: bool | None = None,
        output_hidden_states: bool | None = None,
        output_router_logits: bool | None = None,
        return_dict: bool | None = None,
        trace: Trace | None = None,
    ) -> MoEModelOutput | tuple:
        """input_ids: [batch, time], or inputs_embeds: [batch, time, hidden] from `get_input_embeddings()`.

        attention_mask: [batch, time], or [batch, 1, time, time] as `Sight` takes it.
        """
        wanted = Wanted.of(
            self.config, output_attentions, output_hidden_states, output_router_logits, return_dict
        )
        trace = wanted.new_trace() if trace is None else trace
        rows, time = shape_of(input_ids, inputs_embeds)
        sight = Sight.of(attention_mask, "attention_mask", rows, time, time, self.dtype)
        hidden = Encoder.forward(self, input_ids, sight.keep, trace, inputs_embeds, sight.mask)  # type: ignore[arg-type]
        output = MoEModelOutput(
            last_hidden_state=hidden,
            hidden_states=wanted.hidden(trace),
            attentions=wanted.own_attention(trace),
            router_logits=wanted.routers(trace),
        )
        return wanted.form(output)


class NllbMoeDecoder(NllbMoePreTrainedModel):
    """Continues target sentences; without `encoder_hidden_states` it attends to itself alone."""

    layers: nn.ModuleList

    def __init__(self, config: NllbMoeConfig) -> None:
        super().__init__(config)
        shape = plain_config(config)
        self._adopt(Decoder(shape, ScaledEmbedding(shape), NllbMoeDecoderLayer))
        self.post_init()

    @checked
    def forward(
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        encoder_hidden_states: Tensor | None = None,
        encoder_attention_mask: Tensor | None = None,
        past_key_values: Cache | None = None,
        inputs_embeds: Tensor | None = None,
        use_cache: bool | None = None,
        output_attentions: bool | None = None,
        output_hidden_states: bool | None = None,
        output_router_logits: bool | None = None,
        return_dict: bool | None = None,
        trace: Trace | None = None,
    ) -> MoEModelOutputWithPastAndCrossAttentions | tuple:
        """input_ids: [batch, time], the positions that come after those in `past_key_values`.

        attention_mask: [batch, past + time], or [batch, 1, time, past + time], which then says
        where the order counts too; encoder_hidden_states: [batch, source, hidden], its mask
        [batch, source] or [batch, 1, time, source].
        Unless told otherwise, a new cache is made when the model is not training.
        """
        wanted = Wanted.of(
            self.config, output_attentions, output_hidden_states, output_router_logits, return_dict
        )
        trace = wanted.new_trace() if trace is None else trace
        past_key_values = self._cache(past_key_values, use_cache)
        cache = None if past_key_values is None else CacheAdapter(past_key_values)
        past = 0 if cache is None else cache.length
        rows, time = shape_of(input_ids, inputs_embeds, "decoder_")
        sight = Sight.of(attention_mask, "decoder_attention_mask", rows, time, past + time, self.dtype)
        source = Sight()
        if encoder_hidden_states is not None:
            source_rows, source_time = encoder_hidden_states.shape[:2]
            source = Sight.of(
                encoder_attention_mask, "encoder_attention_mask", source_rows, time, source_time, self.dtype
            )
        hidden = Decoder.forward(
            self,  # type: ignore[arg-type]
            input_ids,
            encoder_hidden_states,
            source.keep,
            sight.keep,
            cache,
            trace,
            inputs_embeds,
            sight.mask,
            source.mask,
        )
        output = MoEModelOutputWithPastAndCrossAttentions(
            last_hidden_state=hidden,
            hidden_states=wanted.hidden(trace),
            attentions=wanted.own_attention(trace),
            cross_attentions=wanted.cross_attention(trace),
            router_logits=wanted.routers(trace),
            **cache_field(past_key_values),
        )
        return wanted.form(output)

    def _cache(self, given: Cache | None, wanted: bool | None) -> Cache | None:
        recomputes = any(layer.gradient_checkpointing for layer in self.layers)
        return chosen_cache(
            given,
            wanted,
            default=self.config.use_cache and not self.training,
            recomputes=recomputes and self.training and torch.is_grad_enabled(),
            make=lambda: EncoderDecoderCache(DynamicCache(), DynamicCache()),
        )
