"""The faces for transformers. Importing this package makes the Auto classes use them.

`AutoModelForSeq2SeqLM` and `AutoTokenizer` then load NLLB-MoE as published, in place of
transformers' own classes: those of version 5 send every token to experts 0 and 1, and load a
folder that has only `sentencepiece.bpe.model` without its languages.
"""

import transformers

from dragoman.huggingface.configuration import NllbMoeConfig
from dragoman.huggingface.moe import NllbMoeSparseMLP, NllbMoeTop2Router
from dragoman.huggingface.nllb_moe import NllbMoeForConditionalGeneration, NllbMoeModel
from dragoman.huggingface.releases import warn_of_untried_release
from dragoman.huggingface.stacks import NllbMoeDecoder, NllbMoeEncoder, NllbMoePreTrainedModel
from dragoman.huggingface.tokenizer import NllbTokenizer, NllbTokenizerFast
from dragoman.huggingface.xalma import XALMAForCausalLM, XALMAModel, XALMAPreTrainedModel
from dragoman.huggingface.xalma_configuration import XALMAConfig
from dragoman.huggingface.xalma_heads import (
    XALMAForQuestionAnswering,
    XALMAForSequenceClassification,
    XALMAForTokenClassification,
)

__all__ = [
    "NllbMoeConfig",
    "NllbMoeDecoder",
    "NllbMoeEncoder",
    "NllbMoeForConditionalGeneration",
    "NllbMoeModel",
    "NllbMoePreTrainedModel",
    "NllbMoeSparseMLP",
    "NllbMoeTop2Router",
    "NllbTokenizer",
    "NllbTokenizerFast",
    "XALMAConfig",
    "XALMAForCausalLM",
    "XALMAForQuestionAnswering",
    "XALMAForSequenceClassification",
    "XALMAForTokenClassification",
    "XALMAModel",
    "XALMAPreTrainedModel",
    "register",
]


def register() -> None:
    """Enter the faces into the Auto classes; done on import, and harmless to do again.

    The tokenizer also stands for the class name NllbTokenizer in folders of dense NLLB models.
    """
    transformers.AutoConfig.register("nllb-moe", NllbMoeConfig, exist_ok=True)
    # A config made with transformers' own class leads to these models too.
    for config in (NllbMoeConfig, transformers.NllbMoeConfig):
        transformers.AutoModel.register(config, NllbMoeModel, exist_ok=True)
        for auto in (transformers.AutoModelForSeq2SeqLM, transformers.AutoModelForPreTraining):
            auto.register(config, NllbMoeForConditionalGeneration, exist_ok=True)
        transformers.AutoTokenizer.register(
            config, tokenizer_class=NllbTokenizer, fast_tokenizer_class=NllbTokenizerFast, exist_ok=True
        )
    _register_xalma()


def _register_xalma() -> None:
    transformers.AutoConfig.register("xalma", XALMAConfig, exist_ok=True)
    models = (
        (transformers.AutoModel, XALMAModel),
        (transformers.AutoModelForCausalLM, XALMAForCausalLM),
        (transformers.AutoModelForPreTraining, XALMAForCausalLM),
        (transformers.AutoModelForSequenceClassification, XALMAForSequenceClassification),
        (transformers.AutoModelForQuestionAnswering, XALMAForQuestionAnswering),
        (transformers.AutoModelForTokenClassification, XALMAForTokenClassification),
    )
    for auto, model in models:
        auto.register(XALMAConfig, model, exist_ok=True)
    transformers.AutoTokenizer.register(
        XALMAConfig, tokenizer_class=transformers.LlamaTokenizer, exist_ok=True
    )


warn_of_untried_release()
register()
