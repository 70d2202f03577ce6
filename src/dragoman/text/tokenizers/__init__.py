"""Tokenizers that need neither torch nor transformers."""

from dragoman.text.tokenizers.llama import LlamaTokenizer
from dragoman.text.tokenizers.nllb import NllbTokenizer
from dragoman.text.tokenizers.spm_file import to_tokenizer_json

__all__ = ["LlamaTokenizer", "NllbTokenizer", "to_tokenizer_json"]
