"""What X-ALMA needs of transformers' `generate` beside the forward pass."""

from typing import Any

import torch
from torch import Tensor
from transformers.utils import ModelOutput

from dragoman.huggingface.calls import FaceGenerationMixin
from dragoman.models.xalma_rows import row_groups


class XALMAGenerationMixin(FaceGenerationMixin):
    """`generate` with a language for all rows, or one for each."""

    def _expand_inputs_for_generation(  # type: ignore[override]
        self,
        expand_size: int = 1,
        is_encoder_decoder: bool = False,
        input_ids: Tensor | None = None,
        **model_kwargs: Any,
    ) -> tuple[Tensor, dict[str, Any]]:
        """Give every beam or sample the language of its row."""
        lang = model_kwargs.pop("lang", None)
        rows = model_kwargs.get("inputs_embeds") if input_ids is None else input_ids
        if rows is not None:
            row_groups(lang, len(rows))  # errors tell of the rows as they were given
        if lang is not None and not isinstance(lang, str):
            lang = [each for each in lang for _ in range(expand_size)]
        generic: Any = super()
        ids, expanded = generic._expand_inputs_for_generation(
            expand_size, is_encoder_decoder, input_ids, **model_kwargs
        )
        return ids, {**expanded, "lang": lang}

    def _beam_search(  # type: ignore[override]
        self, input_ids: Tensor, *args: Any, **kwargs: Any
    ) -> ModelOutput | Tensor:
        """As in transformers, which forgets that a padding token may have the id 0 as Llama's has.

        It then writes the end token behind the end, again and again.
        """
        generic: Any = super()
        output = generic._beam_search(input_ids, *args, **kwargs)
        config = kwargs["generation_config"]
        ends, padding = config._eos_token_tensor, config._pad_token_tensor
        if ends is not None and padding is not None:
            sequences = output if isinstance(output, Tensor) else output.sequences
            new = sequences[:, input_ids.shape[1] :]
            ended = torch.isin(new, ends.to(new.device)).int().cumsum(1)
            # All that comes after the first end.
            behind = ended.roll(1, 1).bool()
            behind[:, :1] = False
            new.masked_fill_(behind, padding.to(new.device))
        return output
