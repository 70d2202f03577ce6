"""The face of a tokenizer that falls back to bytes cuts and decodes as the plain one."""

from pathlib import Path

import pytest

from dragoman.huggingface import NllbTokenizer as Face
from dragoman.text.tokenizers import NllbTokenizer
from dragoman.training.tokenizer import train_tokenizer


@pytest.mark.parametrize("text", ["Hello {name}, 1,234.50 € 🦑 日本語.", "Grüße!", "🦑"])
def test_face_and_plain_tokenizer_agree(text: str, tmp_path: Path, sentences: list[str]) -> None:
    train_tokenizer(sentences, tmp_path, 1500, byte_fallback=True)
    plain = NllbTokenizer.from_folder(tmp_path, "eng_Latn")
    face = Face.from_pretrained(tmp_path, src_lang="eng_Latn")
    ids = plain.encode(text)
    assert face(text)["input_ids"] == ids
    assert face.decode(ids, skip_special_tokens=True) == plain.decode(ids) == text
