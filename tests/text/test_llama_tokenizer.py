"""Llama-2's tokenizer: both libraries and transformers give the same ids, and every text comes back."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dragoman.errors import InvalidOption, InvalidText
from dragoman.text.tokenizers import LlamaTokenizer

Train = Callable[..., Path]
WriteJson = Callable[..., Path]
Pair = tuple[LlamaTokenizer, LlamaTokenizer]


ODD = [
    "",
    " ",
    "   ",
    "a",
    " a",
    "  two  spaces   three    ",
    "tab\tline\nreturn\r\n\n\nend\n",
    "\0 NUL \x01\x1b[31m\x7f\x85",
    "😀👩‍👩‍👧‍👦🏴\U000e0067\U000e007f",
    "עברית \u202eabc\u202c ‏עוד‏ \ufeff",
    "e\u0301 ① ﬁ ｗｉｄｅ \u3000\u00a0\u2028",
    "▁ and ▁▁ of a ▁line▁",
    "<s>[INST] <<SYS>> </s><unk><0x0A><pad> [/INST]",
    "1234567890 3.14",
    "𝔘𝔫𝔦𝔠𝔬𝔡𝔢 \U0010ffff \ue000 \ufffe",
]
hostile = st.lists(
    st.one_of(
        st.text(max_size=8),
        st.sampled_from(
            ["▁", " ", "  ", "\n", "\t", "\0", "<s>", "</s>", "<unk>", "<0x0A>", "<0xE2>", "[INST]"]
        ),
        st.sampled_from(["The", "train", " the", "ing", "🙂", "é", "e\u0301", "1", "22"]),
    ),
    max_size=12,
).map("".join)


@pytest.fixture(scope="session")
def pair(llama_folder: Path, write_json: WriteJson, tmp_path_factory: pytest.TempPathFactory) -> Pair:
    """Read with sentencepiece, and read with tokenizers."""
    json_folder = write_json(llama_folder, tmp_path_factory.mktemp("llama_json"))
    return LlamaTokenizer.from_folder(llama_folder), LlamaTokenizer.from_folder(json_folder)


# Ids


def test_ids_are_those_of_llama(pair: Pair) -> None:
    for tokenizer in pair:
        assert tokenizer.tokens([0, 1, 2, 3, 13, 258]) == [
            "<unk>",
            "<s>",
            "</s>",
            "<0x00>",
            "<0x0A>",
            "<0xFF>",
        ]
        assert (tokenizer.unk_id, tokenizer.bos_id, tokenizer.eos_id, tokenizer.pad_id) == (0, 1, 2, 0)
        assert tokenizer.vocabulary == len(tokenizer) == 1800
        assert tokenizer.token_to_id("<0x0A>") == 13
        assert tokenizer.token_to_id("<pad>") is None
        assert tokenizer.id_to_token(1) == "<s>"


def test_both_give_the_same_ids(pair: Pair, sentences: list[str]) -> None:
    texts = [
        *sentences,
        *ODD,
        *(f"({a})\n  {b} {i}" for i, (a, b) in enumerate(zip(sentences, ODD * 9, strict=False))),
    ]
    spm, fast = pair
    for prefix in (True, False):
        assert fast.encode_pieces(texts, prefix) == spm.encode_pieces(texts, prefix)
    assert fast.tokens(range(1800)) == spm.tokens(range(1800))


@settings(max_examples=300, deadline=None, database=None)
@given(text=hostile)
def test_any_text_has_the_same_ids_and_comes_back(pair: Pair, text: str) -> None:
    spm, fast = pair
    ids = spm.encode(text)
    assert fast.encode(text) == ids
    assert ids[0] == 1
    assert all(i > 2 for i in ids[1:])
    assert spm.decode(ids) == fast.decode(ids) == text
    inner = spm.encode_pieces([text], prefix=False)
    assert fast.encode_pieces([text], prefix=False) == inner
    assert spm.decode(inner[0], prefix=False) == text


def test_runs_of_spaces_are_joined_last(pair: Pair) -> None:
    """Their score says so, whatever their ids: the last space goes to the word."""
    for tokenizer in pair:
        assert tokenizer.tokens(tokenizer.encode("a   the", bos=False)) == ["▁a", "▁▁", "▁the"]
    texts = [" " * n + word for n in range(80) for word in ("", "x", "The", "[", "1")]
    assert pair[0].encode_batch(texts) == pair[1].encode_batch(texts)


def test_every_text_comes_back(pair: Pair, sentences: list[str]) -> None:
    for tokenizer in pair:
        rows = tokenizer.encode_batch(sentences + ODD)
        assert tokenizer.decode_batch(rows) == sentences + ODD
        assert {i for row in rows for i in row} >= {1, 13}


def test_every_character_of_the_first_planes_comes_back(pair: Pair) -> None:
    everything = [chr(i) for i in range(0x20000) if not 0xD800 <= i < 0xE000]
    texts = ["".join(everything[i : i + 4096]) for i in range(0, len(everything), 4096)]
    for tokenizer in pair:
        assert tokenizer.decode_batch(tokenizer.encode_batch(texts)) == texts


@pytest.mark.parametrize("name", ["<s>", "</s>", "<unk>", "<0x0A>", "<pad>", "[INST]", "<0xE2>"])
def test_tokens_spelled_in_a_text_stay_text(pair: Pair, name: str) -> None:
    for tokenizer in pair:
        for text in (name, f"x{name}y", f" {name} "):
            ids = tokenizer.encode(text, bos=False)
            assert tokenizer.token_to_id(name) not in ids
            assert len(ids) > 1
            assert tokenizer.decode(ids) == text


def test_a_text_begins_like_a_word_unless_it_goes_on(pair: Pair) -> None:
    for tokenizer in pair:
        assert tokenizer.tokens(tokenizer.encode("Translate this")) == ["<s>", "▁Translate", "▁this"]
        inner = tokenizer.encode_pieces([" this", "this", ""], prefix=False)
        assert tokenizer.tokens(inner[0]) == ["▁this"]
        assert tokenizer.tokens(inner[1])[0] != "▁this"
        assert inner[2] == tokenizer.encode_pieces([""])[0] == []


def test_many_texts_have_the_ids_of_each(pair: Pair, sentences: list[str]) -> None:
    texts = (sentences + ODD) * 5
    for tokenizer in pair:
        assert tokenizer.encode_batch(texts) == [tokenizer.encode(text) for text in texts]
        assert tokenizer.encode_batch([]) == []


# Decoding


def test_special_tokens_are_written_only_if_wanted(pair: Pair) -> None:
    ids = [0, 1, *pair[0].encode("Hello", bos=False), 2, 0]
    assert pair[0].decode(ids) == "Hello"
    assert pair[0].decode(ids, skip_special=False) == "<unk><s> Hello</s><unk>"


def test_bytes_that_make_no_character_are_replaced(pair: Pair) -> None:
    tokenizer = pair[0]
    euro = tokenizer.encode_bytes("€")
    assert tokenizer.decode(euro) == "€"
    assert tokenizer.decode([*euro[:2], *tokenizer.encode(" a", bos=False)]) == "\ufffd  a"
    assert tokenizer.decode([3 + 0xFF, 13]) == "\ufffd\n"


def test_ids_of_numpy_and_torch_decode(pair: Pair) -> None:
    numpy = pytest.importorskip("numpy")
    assert pair[0].decode(numpy.array(pair[0].encode("Hello"))) == "Hello"


@pytest.mark.parametrize(
    ("ids", "message"),
    [([1800], "1800 is no token id"), ([-100], "-100"), ([1.5], "integers"), (["a"], "integers")],
)
def test_ids_that_are_none_are_an_error(pair: Pair, ids: list[Any], message: str) -> None:
    with pytest.raises(InvalidText, match=message):
        pair[0].decode(ids)


# What is no text


@pytest.mark.parametrize("text", ["\ud83d", "half \ude00 an emoji", b"bytes", None, 7])
def test_what_is_no_text_is_an_error(pair: Pair, text: Any) -> None:
    for tokenizer in pair:
        with pytest.raises(InvalidText, match="the text"):
            tokenizer.encode(text)
        with pytest.raises(InvalidText, match="text 1 of the batch"):
            tokenizer.encode_pieces(["fine", text])
    with pytest.raises(InvalidText, match="a list of texts"):
        pair[0].encode_pieces("a str")


# Padding


def test_rows_are_padded_on_the_left_unless_told_otherwise(pair: Pair) -> None:
    tokenizer = pair[0]
    assert tokenizer.pad([[1, 5], [1], []]) == (
        [[1, 5], [0, 1], [0, 0]],
        [[True, True], [False, True], [False, False]],
    )
    assert tokenizer.pad([[1, 5], [1]], left=False) == ([[1, 5], [1, 0]], [[True, True], [True, False]])
    assert tokenizer.pad([]) == ([], [])


def test_the_padding_is_what_was_chosen(llama_folder: Path) -> None:
    assert LlamaTokenizer.from_folder(llama_folder, pad_id=2).pad([[], [1]])[0] == [[2], [1]]
    for wrong in (-1, 1800):
        with pytest.raises(InvalidOption, match="from 0 to 1799"):
            LlamaTokenizer.from_folder(llama_folder, pad_id=wrong)


# transformers as the oracle


@pytest.mark.parametrize("legacy", [True, False])
def test_ids_are_those_of_transformers(
    pair: Pair, theirs_of: Callable[..., Any], tmp_path: Path, sentences: list[str], legacy: bool
) -> None:
    theirs = theirs_of(tmp_path, legacy=legacy, add_bos_token=True)
    # It takes <s> and the like out of texts, U+2581 for a space, and puts no space before one.
    texts = [text for text in ODD if text.strip(" ") == text and "<s>" not in text and "▁" not in text]
    texts += sentences + [f"{a}\n\n{b}  {a}" for a, b in zip(sentences, reversed(sentences), strict=True)]
    assert len(texts) > 240
    for ours in pair:
        assert ours.encode_batch(texts) == theirs(texts).input_ids
        rows = ours.encode_batch(texts)
        assert ours.decode_batch(rows) == theirs.batch_decode(rows, skip_special_tokens=True)


@pytest.mark.parametrize("legacy", [True, False])
def test_a_json_saved_by_transformers_gives_the_same_ids(
    pair: Pair, theirs_of: Callable[..., Any], tmp_path: Path, sentences: list[str], legacy: bool
) -> None:
    theirs = theirs_of(tmp_path / "a", legacy=legacy)
    theirs.add_special_tokens({"pad_token": "<pad>"})
    theirs.save_pretrained(str(tmp_path / "b"))
    ours = LlamaTokenizer.from_folder(tmp_path / "b")
    assert ours.encode_batch(sentences + ODD) == pair[0].encode_batch(sentences + ODD)
    assert ours.legacy is legacy
    assert (ours.pad_id, len(ours)) == (theirs.pad_token_id, len(theirs)) == (1800, 1801)


def test_the_tokenizer_needs_neither_torch_nor_transformers() -> None:
    code = (
        "import sys; from dragoman.text.tokenizers import LlamaTokenizer; import dragoman.text.prompts; "
        "assert not {'torch', 'transformers', 'sentencepiece', 'tokenizers'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
