"""Tokenizers that need neither torch nor transformers."""

from dragoman.text.tokenizers.nllb import NllbTokenizer
from dragoman.text.tokenizers.spm_file import to_tokenizer_json

__all__ = ["NllbTokenizer", "to_tokenizer_json"]
