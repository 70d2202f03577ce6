"""NLLB-MoE as transformers models, so that `generate`, `Trainer`, PEFT and `device_map` work.

These classes adopt the children of the plain modules in `dragoman.models.nllb` and borrow their
forward: parameters have the published names, and nothing is computed here.
"""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import Cache, DynamicCache, EncoderDecoderCache, GenerationMixin, PreTrainedModel
from transformers.modeling_layers import GradientCheckpointingLayer
from transformers.modeling_outputs import (
    MoEModelOutput,
    MoEModelOutputWithPastAndCrossAttentions,
    Seq2SeqMoEModelOutput,
    Seq2SeqMoEOutput,
)
from transformers.utils import ModelOutput, logging

from dragoman.huggingface.cache import CacheAdapter
from dragoman.huggingface.configuration import NllbMoeConfig, plain_config
from dragoman.huggingface.outputs import RouterLosses, Wanted, encoder_output, length_of, real_tokens
from dragoman.models.nllb import Decoder, DecoderLayer, Encoder, EncoderLayer, ScaledEmbedding, Trace

logger = logging.get_logger(__name__)


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
    _skip_keys_device_placement = ["past_key_values"]  # noqa: RUF012
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
        **kwargs: Any,
    ) -> MoEModelOutput | tuple:
        """input_ids: [batch, time], or inputs_embeds: [batch, time, hidden] from `get_input_embeddings()`."""
        wanted = Wanted.of(
            self.config, output_attentions, output_hidden_states, output_router_logits, return_dict
        )
        trace = wanted.new_trace() if trace is None else trace
        keep = real_tokens(attention_mask, "attention_mask", length_of(input_ids, inputs_embeds))
        hidden = Encoder.forward(self, input_ids, keep, trace, inputs_embeds)  # type: ignore[arg-type]
        output = MoEModelOutput(
            last_hidden_state=hidden,
            hidden_states=wanted.hidden(trace),
            attentions=wanted.own_attention(trace),
            router_logits=wanted.routers(trace),
        )
        return wanted.form(output)


class NllbMoeDecoder(NllbMoePreTrainedModel):
    """Continues target sentences; without `encoder_hidden_states` it attends to itself alone."""

    def __init__(self, config: NllbMoeConfig) -> None:
        super().__init__(config)
        shape = plain_config(config)
        self._adopt(Decoder(shape, ScaledEmbedding(shape), NllbMoeDecoderLayer))
        self.post_init()

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
        **kwargs: Any,
    ) -> MoEModelOutputWithPastAndCrossAttentions | tuple:
        """input_ids: [batch, time], the positions that come after those in `past_key_values`.

        attention_mask: [batch, past + time]; encoder_hidden_states: [batch, source, hidden].
        Unless told otherwise, a new cache is made when the model is not training.
        """
        wanted = Wanted.of(
            self.config, output_attentions, output_hidden_states, output_router_logits, return_dict
        )
        trace = wanted.new_trace() if trace is None else trace
        past_key_values = self._cache(past_key_values, use_cache)
        cache = None if past_key_values is None else CacheAdapter(past_key_values)
        past = 0 if cache is None else cache.length
        length = past + length_of(input_ids, inputs_embeds, "decoder_")
        keep = real_tokens(attention_mask, "decoder_attention_mask", length)
        source_keep = None
        if encoder_hidden_states is not None:
            source_length = encoder_hidden_states.shape[1]
            source_keep = real_tokens(encoder_attention_mask, "encoder_attention_mask", source_length)
        hidden = Decoder.forward(
            self,  # type: ignore[arg-type]
            input_ids,
            encoder_hidden_states,
            source_keep,
            keep,
            cache,
            trace,
            inputs_embeds,
        )
        output = MoEModelOutputWithPastAndCrossAttentions(
            last_hidden_state=hidden,
            past_key_values=past_key_values,
            hidden_states=wanted.hidden(trace),
            attentions=wanted.own_attention(trace),
            cross_attentions=wanted.cross_attention(trace),
            router_logits=wanted.routers(trace),
        )
        return wanted.form(output)

    def _cache(self, given: Cache | None, wanted: bool | None) -> Cache | None:
        """The cache to use: the given one, or a new one if it is wanted."""
        if self.training and any(layer.gradient_checkpointing for layer in self.layers):
            if given is not None or wanted:
                # Layers that run twice would enter their keys twice.
                logger.warning_once("there is no cache while gradients are checkpointed; none is used")
            return None
        if given is not None:
            return given
        if wanted is None:
            wanted = self.config.use_cache and not self.training
        return EncoderDecoderCache(DynamicCache(), DynamicCache()) if wanted else None


class NllbMoeModel(NllbMoePreTrainedModel):
    """Encoder and decoder, without output layer."""

    _input_embed_layer = "shared"
    _tied_weights_keys = {  # noqa: RUF012
        "encoder.embed_tokens.weight": "shared.weight",
        "decoder.embed_tokens.weight": "shared.weight",
    }

    def __init__(self, config: NllbMoeConfig) -> None:
        super().__init__(config)
        self.shared = ScaledEmbedding(plain_config(config))
        self.encoder = NllbMoeEncoder(config)
        self.decoder = NllbMoeDecoder(config)
        self.post_init()

    def set_input_embeddings(self, value: nn.Module) -> None:
        """Replace the embedding of encoder and decoder."""
        self.shared = self.encoder.embed_tokens = self.decoder.embed_tokens = value

    def forward(
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        decoder_input_ids: Tensor | None = None,
        decoder_attention_mask: Tensor | None = None,
        encoder_outputs: ModelOutput | tuple | None = None,
        past_key_values: Cache | None = None,
        inputs_embeds: Tensor | None = None,
        decoder_inputs_embeds: Tensor | None = None,
        use_cache: bool | None = None,
        output_attentions: bool | None = None,
        output_hidden_states: bool | None = None,
        output_router_logits: bool | None = None,
        return_dict: bool | None = None,
        encoder_trace: Trace | None = None,
        decoder_trace: Trace | None = None,
        **kwargs: Any,
    ) -> Seq2SeqMoEModelOutput | tuple:
        """Masks: 1 for tokens, 0 for padding, [batch, time]; the decoder's covers its cache too.

        The router logits of the output are, for each sparse layer, the combining weights after
        dropping [tokens, experts] and the first choices [tokens].
        """
        wanted = Wanted.of(
            self.config, output_attentions, output_hidden_states, output_router_logits, return_dict
        )
        flags = {
            "output_attentions": wanted.attentions,
            "output_hidden_states": wanted.hidden_states,
            "output_router_logits": wanted.router_logits,
            "return_dict": True,
        }
        if encoder_outputs is None:
            encoder_outputs = self.encoder(
                input_ids=input_ids,
                attention_mask=attention_mask,
                inputs_embeds=inputs_embeds,
                trace=encoder_trace,
                **flags,
            )
        encoded = encoder_output(encoder_outputs)
        decoded = self.decoder(
            input_ids=decoder_input_ids,
            attention_mask=decoder_attention_mask,
            encoder_hidden_states=encoded.last_hidden_state,
            encoder_attention_mask=attention_mask,
            past_key_values=past_key_values,
            inputs_embeds=decoder_inputs_embeds,
            use_cache=use_cache,
            trace=decoder_trace,
            **flags,
        )
        output = Seq2SeqMoEModelOutput(
            last_hidden_state=decoded.last_hidden_state,
            past_key_values=decoded.past_key_values,
            decoder_hidden_states=decoded.hidden_states,
            decoder_attentions=decoded.attentions,
            decoder_router_logits=decoded.router_logits,
            cross_attentions=decoded.cross_attentions,
            encoder_last_hidden_state=encoded.last_hidden_state,
            encoder_hidden_states=encoded.hidden_states,
            encoder_attentions=encoded.attentions,
            encoder_router_logits=encoded.router_logits,
        )
        return wanted.form(output)


class NllbMoeForConditionalGeneration(NllbMoePreTrainedModel, GenerationMixin):
    """The translation model: encoder, decoder and the output layer tied to their embedding."""

    _tied_weights_keys = {"lm_head.weight": "model.shared.weight"}  # noqa: RUF012

    def __init__(self, config: NllbMoeConfig) -> None:
        super().__init__(config)
        self.model = NllbMoeModel(config)
        self.lm_head = nn.Linear(config.d_model, config.vocab_size, bias=False)
        self.post_init()

    def prepare_decoder_input_ids_from_labels(self, labels: Tensor) -> Tensor:
        """Labels [batch, time] shifted right behind the start token, with padding for -100."""
        start = labels.new_full((len(labels), 1), self.config.decoder_start_token_id)
        shifted = torch.cat([start, labels[:, :-1]], 1)
        return shifted.masked_fill(shifted == -100, self.config.pad_token_id)

    @staticmethod
    def create_masks_for_generate(attention_mask: Tensor | None = None, **kwargs: Any) -> Tensor | None:
        """Leave the mask as it is when `generate` uses a static cache; ours says where it ends."""
        return attention_mask

    def forward(
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        decoder_input_ids: Tensor | None = None,
        decoder_attention_mask: Tensor | None = None,
        encoder_outputs: ModelOutput | tuple | None = None,
        past_key_values: Cache | None = None,
        inputs_embeds: Tensor | None = None,
        decoder_inputs_embeds: Tensor | None = None,
        labels: Tensor | None = None,
        use_cache: bool | None = None,
        output_attentions: bool | None = None,
        output_hidden_states: bool | None = None,
        output_router_logits: bool | None = None,
        return_dict: bool | None = None,
        num_items_in_batch: Tensor | int | None = None,
        **kwargs: Any,
    ) -> Seq2SeqMoEOutput | tuple:
        """Logits [batch, time, vocabulary]; with `labels` [batch, time] the loss as well.

        The loss is the mean cross-entropy of all labels but -100 (padding has to be that), or
        its sum divided by `num_items_in_batch`, which `Trainer` passes when it accumulates
        gradients. If `output_router_logits`, the auxiliary losses are added, each with its
        coefficient in the config: see `RouterLosses` for what they are.
        """
        wanted = Wanted.of(
            self.config, output_attentions, output_hidden_states, output_router_logits, return_dict
        )
        if labels is not None and decoder_input_ids is None and decoder_inputs_embeds is None:
            decoder_input_ids = self.prepare_decoder_input_ids_from_labels(labels)
            if decoder_attention_mask is None:
                # Where -100 was shifted to there is no token to route or to balance.
                decoder_attention_mask = F.pad(labels[:, :-1] != -100, (1, 0), value=True)
        encoder_trace, decoder_trace = wanted.new_trace(), wanted.new_trace()
        output = self.model(
            input_ids=input_ids,
            attention_mask=attention_mask,
            decoder_input_ids=decoder_input_ids,
            decoder_attention_mask=decoder_attention_mask,
            encoder_outputs=encoder_outputs,
            past_key_values=past_key_values,
            inputs_embeds=inputs_embeds,
            decoder_inputs_embeds=decoder_inputs_embeds,
            use_cache=use_cache,
            output_attentions=wanted.attentions,
            output_hidden_states=wanted.hidden_states,
            output_router_logits=wanted.router_logits,
            return_dict=True,
            encoder_trace=encoder_trace,
            decoder_trace=decoder_trace,
        )
        logits = self.lm_head(output.last_hidden_state)
        losses = {}
        if labels is not None:
            traces = (encoder_trace, decoder_trace) if wanted.router_logits else None
            losses = self._losses(logits, labels, num_items_in_batch, traces)
        others = {name: value for name, value in output.items() if name != "last_hidden_state"}
        return wanted.form(Seq2SeqMoEOutput(logits=logits, **losses, **others))

    def _losses(
        self,
        logits: Tensor,
        labels: Tensor,
        items: Tensor | int | None,
        traces: tuple[Trace, Trace] | None,
    ) -> dict[str, Tensor]:
        """The fields of the output that are losses; with `traces` of encoder and decoder the routers' too."""
        labels = labels.to(logits.device)
        count = (labels != -100).sum()
        loss = F.cross_entropy(logits.flatten(0, 1).float(), labels.flatten(), reduction="sum")
        loss = loss / count.clamp(min=1)
        found = {}
        for stack, trace in zip(("encoder", "decoder"), traces or (), strict=False):
            losses = RouterLosses.of(trace.routings)
            if losses is not None:
                found |= {f"{stack}_aux_loss": losses.balance, f"{stack}_z_loss": losses.z}
                loss = loss + losses.weighted(self.config).to(loss.device)
        if items is not None:
            loss = loss * (count / torch.as_tensor(items, device=loss.device))
        return {"loss": loss, **found}
