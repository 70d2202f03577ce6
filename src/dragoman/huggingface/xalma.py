"""X-ALMA as transformers models, so that `generate`, `Trainer`, PEFT and `device_map` work.

They adopt the children of the plain stack in `dragoman.models.llama` and borrow its forward:
parameters have the names of the combined checkpoint, and nothing is computed here.
"""

import os
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn
from transformers import Cache, DynamicCache, PreTrainedModel
from transformers import initialization as init
from transformers.modeling_outputs import BaseModelOutputWithPast, CausalLMOutputWithPast

from dragoman.errors import LanguageModuleError
from dragoman.huggingface.cache import CacheAdapter, chosen_cache
from dragoman.huggingface.calls import CACHE_NAMES, cache_field, checked
from dragoman.huggingface.inputs import Sight, shape_of
from dragoman.huggingface.outputs import Wanted, warn_of_half_precision
from dragoman.huggingface.xalma_configuration import XALMAConfig, plain_llama_config
from dragoman.huggingface.xalma_generation import XALMAGenerationMixin
from dragoman.layers.llama import Pass
from dragoman.models.llama import LlamaLayer, LlamaStack, recomputes
from dragoman.models.xalma import check_rows, group_of
from dragoman.surgery.language_modules import stack_of

Lang = str | Sequence[str] | None
"""The language other than English: one for all rows, or one for each."""


class XALMADecoderLayer(LlamaLayer):
    """The plain layer, which may be on another device than the one before it."""

    def forward(self, x: Tensor, step: Pass) -> tuple[Tensor, Tensor | None]:
        """[rows, time, hidden] -> the same, and the attention probabilities if asked for."""
        return super().forward(x, step if step.rotation[0].device == x.device else _moved(step, x.device))


def _moved(step: Pass, device: torch.device) -> Pass:
    """The same pass on another device; its cache sees to itself."""
    cos, sin = (part.to(device) for part in step.rotation)
    mask = None if step.mask is None else step.mask.to(device)
    routes = step.routes and replace(step.routes, order=step.routes.order.to(device))
    return replace(step, rotation=(cos, sin), mask=mask, routes=routes)


# Looking a language up is no part of a compiled graph.
_group_of = torch.compiler.assume_constant_result(group_of)


def _groups(lang: Lang, rows: int) -> list[int]:
    """The group of each row, as `row_groups` finds it."""
    if lang is None or isinstance(lang, str):
        return [_group_of(lang)] * rows
    check_rows(lang, rows)
    return [_group_of(each) for each in lang]


class XALMAPreTrainedModel(PreTrainedModel):
    """What all of them share."""

    config: XALMAConfig
    base_model_prefix = "model"
    supports_gradient_checkpointing = True
    _supports_sdpa = True
    _no_split_modules = ["XALMADecoderLayer"]  # noqa: RUF012
    accepts_loss_kwargs = True  # Trainer asks before it passes num_items_in_batch
    _skip_keys_device_placement = [*CACHE_NAMES]  # noqa: RUF012

    def __init__(self, config: XALMAConfig, *args: Any, **kwargs: Any) -> None:
        super().__init__(config, *args, **kwargs)
        # Modules that the config leaves out are left in the file without a word.
        others = "|".join(rf"{group}\." for group in config.groups)
        left_out = rf"_lora_[AB]\.(?!{others})\d" if others else r"_lora_[AB]\.\d"
        self._keys_to_ignore_on_load_unexpected = [left_out, r"rotary_emb\.inv_freq$"]

    def _init_weights(self, module: nn.Module) -> None:
        """Fresh modules change nothing: B is zero. (The authors' have noise in A and B both.)"""
        if getattr(module, "starts_at_zero", False):
            init.zeros_(module.weight)  # type: ignore[arg-type]
        else:
            super()._init_weights(module)

    def save_pretrained(self, save_directory: str | os.PathLike, *args: Any, **kwargs: Any) -> None:
        """As in transformers, with the modules that are attached now.

        Raises LanguageModuleError if one of them is merged into the weights, or has another
        scale than the config's `lora_alpha`: the folder could not say so.
        """
        language = stack_of(self).language
        groups = sorted(language.scales)
        if groups and language.merged is not None:
            raise LanguageModuleError(
                f"group {language.merged} is merged into the weights while modules are attached; unmerge_ "
                "the model before it is saved, or detach_ all modules to save the merged weights alone"
            )
        odd = {group: scale for group, scale in language.scales.items() if scale != self.config.lora_alpha}
        if odd:
            raise LanguageModuleError(
                f"modules have the scales {odd}, but a folder has one for all, lora_alpha = "
                f"{self.config.lora_alpha}; attach_ them with that scale, and multiply their B instead"
            )
        self.config.lora_groups = groups
        self.config.merged_group = language.merged
        super().save_pretrained(save_directory, *args, **kwargs)


class XALMAModel(XALMAPreTrainedModel):
    """The decoder without an output layer."""

    # One forward serves the plain stack and this, and looks for it here.
    gradient_checkpointing = False

    def __init__(self, config: XALMAConfig) -> None:
        super().__init__(config)
        shape = plain_llama_config(config)
        plain = LlamaStack(shape, config.groups)
        for name, child in plain.named_children():
            self.add_module(name, child)
        self.layers = nn.ModuleList(
            XALMADecoderLayer(shape, index, config.groups) for index in range(shape.num_hidden_layers)
        )
        self.shape, self.rotary, self.language = plain.shape, plain.rotary, plain.language
        self.language.merged = config.merged_group
        for name, module in self.named_modules():
            if "_lora_B." in name:
                module.starts_at_zero = True
        self.post_init()

    @checked
    def forward(
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        position_ids: Tensor | None = None,
        past_key_values: Cache | None = None,
        inputs_embeds: Tensor | None = None,
        use_cache: bool | None = None,
        output_attentions: bool | None = None,
        output_hidden_states: bool | None = None,
        return_dict: bool | None = None,
        lang: Lang = None,
    ) -> BaseModelOutputWithPast | tuple:
        """input_ids: [batch, time], the positions that come after those in `past_key_values`.

        attention_mask: [batch, past + time], 1 for tokens, 0 for padding on either side, or
        [batch, 1, time, past + time], as `Sight` takes it. lang: the language other than English,
        one for all rows or one for each. Without position_ids the positions are counted, padding
        left out. Raises UnknownLanguage, with the choices, if
        lang has no module or is missing; LanguageModuleError if its module is not loaded.
        """
        wanted = Wanted.of(self.config, output_attentions, output_hidden_states, False, return_dict)
        trace = wanted.new_trace()
        rows, time = shape_of(input_ids, inputs_embeds)
        groups = _groups(lang, rows)
        past_key_values = self._cache(past_key_values, use_cache)
        cache = None if past_key_values is None else CacheAdapter(past_key_values)
        past = 0 if cache is None else cache.length
        sight = Sight.of(attention_mask, "attention_mask", rows, time, past + time, self.dtype)
        hidden = LlamaStack.forward(
            self,  # type: ignore[arg-type]
            input_ids,
            sight.keep,
            groups,
            position_ids,
            cache,
            trace,
            inputs_embeds,
            sight.mask,
        )
        output = BaseModelOutputWithPast(
            last_hidden_state=hidden,
            hidden_states=wanted.hidden(trace),
            attentions=wanted.own_attention(trace),
            **cache_field(past_key_values),
        )
        return wanted.form(output)

    def _cache(self, given: Cache | None, wanted: bool | None) -> Cache | None:
        return chosen_cache(
            given,
            wanted,
            default=self.config.use_cache and not self.training,
            recomputes=recomputes(self),  # type: ignore[arg-type]
            make=DynamicCache,
        )


class XALMAForCausalLM(XALMAPreTrainedModel, XALMAGenerationMixin):
    """The translation model. `generate` takes `lang` too."""

    _tied_weights_keys = {"lm_head.weight": "model.embed_tokens.weight"}  # noqa: RUF012

    def __init__(self, config: XALMAConfig) -> None:
        super().__init__(config)
        self.model = XALMAModel(config)
        self.lm_head = nn.Linear(config.hidden_size, config.vocab_size, bias=False)
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
        logits_to_keep: int | Tensor = 0,
        lang: Lang = None,
        num_items_in_batch: Tensor | int | None = None,
    ) -> CausalLMOutputWithPast | tuple:
        """Logits [batch, time, vocabulary]; with `labels` [batch, time] the loss as well.

        labels are the input_ids themselves, -100 where nothing is to be learnt (padding has to be
        that): they are shifted here. logits_to_keep: so many last positions, or which ones; 0
        means all. The other arguments are those of `XALMAModel`.
        """
        wanted = Wanted.of(self.config, output_attentions, output_hidden_states, False, return_dict)
        output = self.model(
            input_ids=input_ids,
            attention_mask=attention_mask,
            position_ids=position_ids,
            past_key_values=past_key_values,
            inputs_embeds=inputs_embeds,
            use_cache=use_cache,
            output_attentions=wanted.attentions,
            output_hidden_states=wanted.hidden_states,
            return_dict=True,
            lang=lang,
        )
        kept = slice(-logits_to_keep, None) if isinstance(logits_to_keep, int) else logits_to_keep
        logits = self.lm_head(output.last_hidden_state[:, kept])
        loss = None
        if labels is not None:
            warn_of_half_precision(self, self.lm_head)
            loss = self.loss_function(
                logits, labels, vocab_size=self.config.vocab_size, num_items_in_batch=num_items_in_batch
            )
        others: dict[str, Any] = {
            name: value for name, value in output.items() if name != "last_hidden_state"
        }
        return wanted.form(CausalLMOutputWithPast(loss=loss, logits=logits, **others))
