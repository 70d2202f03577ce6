"""NLLB-MoE as transformers models, so that `generate`, `Trainer`, PEFT and `device_map` work."""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import Cache
from transformers.modeling_outputs import Seq2SeqMoEModelOutput, Seq2SeqMoEOutput
from transformers.utils import ModelOutput

from dragoman.errors import ConfigError
from dragoman.huggingface.calls import FaceGenerationMixin, cache_field, cache_of, checked
from dragoman.huggingface.configuration import NllbMoeConfig, plain_config
from dragoman.huggingface.inputs import seen_keys
from dragoman.huggingface.outputs import RouterLosses, Wanted, encoder_output, warn_of_half_precision
from dragoman.huggingface.stacks import NllbMoeDecoder, NllbMoeEncoder, NllbMoePreTrainedModel
from dragoman.models.nllb import ScaledEmbedding, Trace


class NllbMoeModel(NllbMoePreTrainedModel):
    """Encoder and decoder, without output layer."""

    shared: nn.Module
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

    @checked
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
    ) -> Seq2SeqMoEModelOutput | tuple:
        """Masks: 1 for tokens, 0 for padding, [batch, time]; the decoder's covers its cache too.

        Or of four dimensions, for every pair of query and key, as `Sight` takes them.

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
        # Which source token looks at which says nothing to the decoder, but what nobody sees is padding.
        has_pairs = attention_mask is not None and attention_mask.dim() == 4
        source_mask = seen_keys(attention_mask) if has_pairs else attention_mask  # type: ignore[arg-type]
        decoded = self.decoder(
            input_ids=decoder_input_ids,
            attention_mask=decoder_attention_mask,
            encoder_hidden_states=encoded.last_hidden_state,
            encoder_attention_mask=source_mask,
            past_key_values=past_key_values,
            inputs_embeds=decoder_inputs_embeds,
            use_cache=use_cache,
            trace=decoder_trace,
            **flags,
        )
        output = Seq2SeqMoEModelOutput(
            last_hidden_state=decoded.last_hidden_state,
            decoder_hidden_states=decoded.hidden_states,
            decoder_attentions=decoded.attentions,
            decoder_router_logits=decoded.router_logits,
            cross_attentions=decoded.cross_attentions,
            encoder_last_hidden_state=encoded.last_hidden_state,
            encoder_hidden_states=encoded.hidden_states,
            encoder_attentions=encoded.attentions,
            encoder_router_logits=encoded.router_logits,
            **cache_field(cache_of(decoded)),
        )
        return wanted.form(output)


class NllbMoeForConditionalGeneration(NllbMoePreTrainedModel, FaceGenerationMixin):
    """The translation model: encoder, decoder and the output layer tied to their embedding."""

    _tied_weights_keys = {"lm_head.weight": "model.shared.weight"}  # noqa: RUF012
    accepts_loss_kwargs = True  # Trainer asks before it passes num_items_in_batch

    def __init__(self, config: NllbMoeConfig) -> None:
        super().__init__(config)
        self.model = NllbMoeModel(config)
        self.lm_head = nn.Linear(config.d_model, config.vocab_size, bias=False)
        self.post_init()

    def prepare_decoder_input_ids_from_labels(self, labels: Tensor) -> Tensor:
        """Labels [batch, time] shifted right behind the start token, with padding for -100."""
        start, padding = self.config.decoder_start_token_id, self.config.pad_token_id
        if start is None or padding is None:
            raise ConfigError(
                "labels can't be shifted: set decoder_start_token_id and pad_token_id in the config"
            )
        shifted = torch.cat([labels.new_full((len(labels), 1), start), labels[:, :-1]], 1)
        return shifted.masked_fill(shifted == -100, padding)

    @checked
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
        if labels is not None:
            if decoder_input_ids is None and decoder_inputs_embeds is None:
                decoder_input_ids = self.prepare_decoder_input_ids_from_labels(labels)
            if decoder_attention_mask is None and past_key_values is None:
                # Behind the last label there is nothing to predict, so nothing to route or to balance.
                decoder_attention_mask = (labels != -100).flip(1).cumsum(1).flip(1) > 0
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
        losses: dict[str, Any] = {}
        if labels is not None:
            warn_of_half_precision(self, self.lm_head)
            traces = (encoder_trace, decoder_trace) if wanted.router_logits else None
            losses = self._losses(logits, labels, num_items_in_batch, traces)
        others: dict[str, Any] = {
            name: value for name, value in output.items() if name != "last_hidden_state"
        }
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
        found: dict[str, Tensor] = {}
        for stack, trace in zip(("encoder", "decoder"), traces or (), strict=False):
            losses = RouterLosses.of(trace.routings)
            if losses is not None:
                found |= {f"{stack}_aux_loss": losses.balance, f"{stack}_z_loss": losses.z}
                loss = loss + losses.weighted(self.config).to(loss.device)
        if items is not None:
            loss = loss * (count / torch.as_tensor(items, device=loss.device))
        return {"loss": loss, **found}
