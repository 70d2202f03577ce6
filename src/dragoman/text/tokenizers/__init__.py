"""Tokenizers that need neither torch nor transformers."""

from dragoman.text.tokenizers.llama import LlamaTokenizer
from dragoman.text.tokenizers.m2m100 import M2m100Tokenizer
from dragoman.text.tokenizers.multilingual import MultilingualTokenizer
from dragoman.text.tokenizers.nllb import NllbTokenizer
from dragoman.text.tokenizers.spm_file import to_tokenizer_json

__all__ = ["LlamaTokenizer", "M2m100Tokenizer", "MultilingualTokenizer", "NllbTokenizer", "to_tokenizer_json"]
