"""X-ALMA with heads that classify: texts, tokens, and where an answer lies in a text."""

from typing import Any

import torch
from torch import Tensor, nn
from transformers import Cache
from transformers.modeling_outputs import (
    QuestionAnsweringModelOutput,
    SequenceClassifierOutputWithPast,
    TokenClassifierOutput,
)

from dragoman.errors import ConfigError
from dragoman.huggingface.calls import cache_field, cache_of, checked
from dragoman.huggingface.inputs import seen_keys
from dragoman.huggingface.xalma import Lang, XALMAModel, XALMAPreTrainedModel
from dragoman.huggingface.xalma_configuration import XALMAConfig


class XALMAForSequenceClassification(XALMAPreTrainedModel):
    """Classifies texts by the state of their last token; padding may be on either side."""

    def __init__(self, config: XALMAConfig) -> None:
        super().__init__(config)
        self.num_labels = config.num_labels or 0
        self.model = XALMAModel(config)
        self.score = nn.Linear(config.hidden_size, self.num_labels, bias=False)
        self.post_init()

    @checked
    def forward(
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        position_ids: Tensor | None = None,
        past_key_values: Cache | None = None,
        inputs_embeds: Tensor | None = None,
        labels: Tensor | None = None,
        use_cache: bool | None = None,
        output_attentions: bool | None = None,
        output_hidden_states: bool | None = None,
        return_dict: bool | None = None,
        lang: Lang = None,
        num_items_in_batch: Tensor | int | None = None,
    ) -> SequenceClassifierOutputWithPast | tuple:
        """Logits [batch, labels]. labels: [batch], or [batch, labels] for numbers or several at once.

        Without an attention mask what equals the config's pad_token_id is padding.
        """
        output = self.model(
            input_ids=input_ids,
            attention_mask=attention_mask,
            position_ids=position_ids,
            past_key_values=past_key_values,
            inputs_embeds=inputs_embeds,
            use_cache=use_cache,
            output_attentions=output_attentions,
            output_hidden_states=output_hidden_states,
            return_dict=True,
            lang=lang,
        )
        states = output.last_hidden_state
        last = self._last_tokens(states, input_ids, attention_mask)
        logits = self.score(states[torch.arange(states.shape[0], device=states.device), last])
        loss = None
        if labels is not None:
            loss = self.loss_function(
                logits=logits,
                labels=labels,
                pooled_logits=logits,
                config=self.config,
                num_items_in_batch=num_items_in_batch,
            )
        found = SequenceClassifierOutputWithPast(
            loss=loss,
            logits=logits,
            hidden_states=output.hidden_states,
            attentions=output.attentions,
            **cache_field(cache_of(output)),
        )
        return found if _as_dict(self.config, return_dict) else found.to_tuple()

    def _last_tokens(self, states: Tensor, ids: Tensor | None, mask: Tensor | None) -> Tensor:
        """Where the last real token of each row is among `states`, [batch]."""
        rows, time = states.shape[:2]
        padding = self.config.pad_token_id
        if mask is not None:
            real = (seen_keys(mask).expand(rows, -1) if mask.dim() == 4 else mask.bool())[:, -time:]
        elif ids is not None and padding is not None:
            real = ids != padding
        elif rows == 1 or ids is None:
            return torch.full((rows,), time - 1, device=states.device)
        else:
            raise ConfigError(
                "several rows, and nothing says what is padding: pass an attention_mask, or set pad_token_id"
            )
        # The place of the largest index that is real, whichever side the padding is on.
        return (real.to(states.device) * torch.arange(time, device=states.device)).argmax(1)


class XALMAForTokenClassification(XALMAPreTrainedModel):
    """Classifies every token."""

    def __init__(self, config: XALMAConfig) -> None:
        super().__init__(config)
        self.num_labels = config.num_labels or 0
        self.model = XALMAModel(config)
        dropout = getattr(config, "classifier_dropout", None)
        if dropout is None:
            dropout = getattr(config, "hidden_dropout", None)
        self.dropout = nn.Dropout(0.1 if dropout is None else dropout)
        self.score = nn.Linear(config.hidden_size, self.num_labels)
        self.post_init()

    @checked
    def forward(
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        position_ids: Tensor | None = None,
        past_key_values: Cache | None = None,
        inputs_embeds: Tensor | None = None,
        labels: Tensor | None = None,
        use_cache: bool | None = None,
        output_attentions: bool | None = None,
        output_hidden_states: bool | None = None,
        return_dict: bool | None = None,
        lang: Lang = None,
        num_items_in_batch: Tensor | int | None = None,
    ) -> TokenClassifierOutput | tuple:
        """Logits [batch, time, labels]. labels: [batch, time], -100 where there is none."""
        output = self.model(
            input_ids=input_ids,
            attention_mask=attention_mask,
            position_ids=position_ids,
            past_key_values=past_key_values,
            inputs_embeds=inputs_embeds,
            use_cache=use_cache,
            output_attentions=output_attentions,
            output_hidden_states=output_hidden_states,
            return_dict=True,
            lang=lang,
        )
        logits = self.score(self.dropout(output.last_hidden_state))
        loss = None
        if labels is not None:
            loss = self.loss_function(logits, labels, self.config, num_items_in_batch=num_items_in_batch)
        found = TokenClassifierOutput(
            loss=loss, logits=logits, hidden_states=output.hidden_states, attentions=output.attentions
        )
        return found if _as_dict(self.config, return_dict) else found.to_tuple()


class XALMAForQuestionAnswering(XALMAPreTrainedModel):
    """Finds where the answer begins and ends. Its decoder is called `transformer`, as by the authors."""

    base_model_prefix = "transformer"

    def __init__(self, config: XALMAConfig) -> None:
        super().__init__(config)
        self.transformer = XALMAModel(config)
        self.qa_outputs = nn.Linear(config.hidden_size, 2)
        self.post_init()

    @classmethod
    def from_pretrained(cls, *args: Any, **kwargs: Any) -> "XALMAForQuestionAnswering":
        """As in transformers, from the weights of a translation model too, where it is called `model`."""
        names = {r"^model\.": "transformer.", **(kwargs.pop("key_mapping", None) or {})}
        return super().from_pretrained(*args, key_mapping=names, **kwargs)

    @checked
    def forward(
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        position_ids: Tensor | None = None,
        past_key_values: Cache | None = None,
        inputs_embeds: Tensor | None = None,
        start_positions: Tensor | None = None,
        end_positions: Tensor | None = None,
        output_attentions: bool | None = None,
        output_hidden_states: bool | None = None,
        return_dict: bool | None = None,
        lang: Lang = None,
        num_items_in_batch: Tensor | int | None = None,
    ) -> QuestionAnsweringModelOutput | tuple:
        """Start and end logits, [batch, time] each. start_positions, end_positions: [batch].

        Positions beyond the text don't count in the loss.
        """
        output = self.transformer(
            input_ids=input_ids,
            attention_mask=attention_mask,
            position_ids=position_ids,
            past_key_values=past_key_values,
            inputs_embeds=inputs_embeds,
            output_attentions=output_attentions,
            output_hidden_states=output_hidden_states,
            return_dict=True,
            lang=lang,
        )
        start, end = (part.contiguous() for part in self.qa_outputs(output.last_hidden_state).unbind(-1))
        loss = None
        if start_positions is not None and end_positions is not None:
            loss = self.loss_function(
                start, end, start_positions, end_positions, num_items_in_batch=num_items_in_batch
            )
        found = QuestionAnsweringModelOutput(
            loss=loss,
            start_logits=start,
            end_logits=end,
            hidden_states=output.hidden_states,
            attentions=output.attentions,
        )
        return found if _as_dict(self.config, return_dict) else found.to_tuple()


def _as_dict(config: XALMAConfig, asked: bool | None) -> bool:
    return bool(config.return_dict if asked is None else asked)
