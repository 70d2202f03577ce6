"""The faces for transformers. Importing this package makes the Auto classes use them.

`AutoModelForSeq2SeqLM` and `AutoTokenizer` then load NLLB-MoE as published, in place of
transformers' own classes: those of version 5 send every token to experts 0 and 1.
"""

from dragoman.huggingface.configuration import NllbMoeConfig
from dragoman.huggingface.moe import NllbMoeSparseMLP, NllbMoeTop2Router
from dragoman.huggingface.nllb_moe import (
    NllbMoeDecoder,
    NllbMoeEncoder,
    NllbMoeForConditionalGeneration,
    NllbMoeModel,
    NllbMoePreTrainedModel,
)
