"""A vocabulary that falls back to bytes: nothing is unknown, and what was cut to bytes comes back whole."""

import random
from pathlib import Path

import pytest

from dragoman.languages import find
from dragoman.text.tokenizers import NllbTokenizer
from dragoman.text.tokenizers.layout import UNK
from dragoman.text.tokenizers.spm_file import to_tokenizer_json
from dragoman.text.vocabulary import target_vocabulary
from dragoman.training.tokenizer import train_tokenizer

TEXTS = [
    "Grüße aus Köln, 1.250,50 €!",
    "{name} | %1$s ~ ^ ` \\ <b>x</b> {{y}} $t(z) a_b@c.de",
    "日本語 и русский, 😀👍🏽, ✓ ½ m² № ™",
    "<0xE6> is no byte here, nor is <0x41>",
    "’n „Zitat“ – «guillemets» …",
]


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory, sentences: list[str]) -> Path:
    folder = tmp_path_factory.mktemp("bytes")
    train_tokenizer(sentences * 3, folder, 1500, byte_fallback=True)
    return folder


@pytest.fixture(scope="module", params=["sentencepiece", "tokenizers"])
def tokenizer(request: pytest.FixtureRequest, trained: Path, tmp_path_factory) -> NllbTokenizer:
    if request.param == "sentencepiece":
        return NllbTokenizer.from_folder(trained, "eng_Latn")
    folder = tmp_path_factory.mktemp("json")
    to_tokenizer_json(trained / "sentencepiece.bpe.model", folder / "tokenizer.json")
    return NllbTokenizer.from_folder(folder, "eng_Latn")


@pytest.mark.parametrize("text", TEXTS)
def test_text_comes_back_as_it_was(text: str, tokenizer: NllbTokenizer) -> None:
    ids = tokenizer.encode(text)
    assert UNK not in ids
    assert tokenizer.decode(ids) == text


def test_only_letters_are_put_together_and_spaces_made_plain(tokenizer: NllbTokenizer) -> None:
    assert (
        tokenizer.decode(tokenizer.encode("e\u0301te\u0301 1\u00a0000\u202f€ soft\u00adhyphen"))
        == "été 1 000 € softhyphen"
    )


def test_both_backends_cut_alike(trained: Path, tmp_path: Path, sentences: list[str]) -> None:
    to_tokenizer_json(trained / "sentencepiece.bpe.model", tmp_path / "tokenizer.json")
    one, other = NllbTokenizer.from_folder(trained), NllbTokenizer.from_folder(tmp_path)
    texts = [*TEXTS, *sentences]
    assert one.encode_pieces(texts) == other.encode_pieces(texts)


def test_digits_stand_alone_and_every_ascii_sign_has_a_piece(tokenizer: NllbTokenizer) -> None:
    names = tokenizer.tokens(tokenizer.encode_pieces(["In 1987 kamen 250"])[0])
    assert [name for name in names if any(c.isdigit() for c in name)] == list("1987250")
    signs = "".join(chr(c) for c in range(0x21, 0x7F))
    assert not set(tokenizer.encode_pieces([signs])[0]) & set(tokenizer.byte_ids)


def test_random_unicode_is_never_unknown(tokenizer: NllbTokenizer) -> None:
    rng = random.Random(0)
    points = [*range(0x20, 0xD800), *range(0xE000, 0x110000)]
    lines = ["".join(map(chr, rng.choices(points, k=12))) for _ in range(10_000)]
    assert not any(UNK in row for row in tokenizer.encode_pieces(lines))


def test_character_that_is_not_complete_is_left_out_at_the_end_alone(tokenizer: NllbTokenizer) -> None:
    ids = tokenizer.encode_pieces(["A 🦑"])[0]
    ends = [tokenizer.decode(ids[:count]) for count in range(1, len(ids) + 1)]
    assert ends[-1] == "A 🦑"
    assert set(ends) == {"A", "A ", "A 🦑"}
    bytes_of_it = [i for i in ids if i in tokenizer.byte_ids]
    assert len(bytes_of_it) == 4
    (letter,) = tokenizer.encode_pieces(["(A"])[0][-1:]
    assert tokenizer.decode([bytes_of_it[0], letter]) == "\ufffdA"
    assert tokenizer.decode([bytes_of_it[1], letter]) == "\ufffdA"


def test_bytes_are_part_of_every_languages_vocabulary(tokenizer: NllbTokenizer) -> None:
    assert len(tokenizer.byte_ids) == 256
    assert set(tokenizer.byte_ids) <= set(target_vocabulary(tokenizer, find("de"), 100))


def test_vocabulary_without_bytes_has_none(spm_folder: Path) -> None:
    assert len(NllbTokenizer.from_folder(spm_folder).byte_ids) == 0
