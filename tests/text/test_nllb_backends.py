"""sentencepiece and tokenizers must give the same ids, and files that can't do so must be refused."""

import copy
import json
import pickle
import unicodedata
from base64 import b64encode
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sentencepiece import SentencePieceProcessor

from dragoman.errors import CheckpointError
from dragoman.text.tokenizers import NllbTokenizer, to_tokenizer_json
from dragoman.text.tokenizers.charsmap import Charsmap
from dragoman.text.tokenizers.spm_file import SpmFile

Train = Callable[..., Path]
Change = Callable[[dict[str, Any]], None]


@pytest.fixture(scope="session")
def pair(spm_folder: Path, json_folder: Path) -> tuple[NllbTokenizer, NllbTokenizer]:
    return NllbTokenizer.from_folder(spm_folder), NllbTokenizer.from_folder(json_folder)


@pytest.fixture
def changed(json_folder: Path, tmp_path: Path) -> Callable[[Change], Path]:
    """A tokenizer.json with a change."""

    def write(change: Change) -> Path:
        data = json.loads((json_folder / "tokenizer.json").read_text(encoding="utf-8"))
        change(data)
        (tmp_path / "tokenizer.json").write_text(json.dumps(data), encoding="utf-8")
        return tmp_path / "tokenizer.json"

    return write


# Equal ids


def test_both_give_the_same_ids(pair: tuple[NllbTokenizer, NllbTokenizer], sentences: list[str]) -> None:
    texts = list(sentences)
    texts += [unicodedata.normalize("NFD", line) for line in sentences]
    texts += [f"  {line.upper()}\u00a0 \n" for line in sentences]
    texts += [f"({a})\t- {b}" for a, b in zip(sentences, sentences[7:], strict=False)]
    assert len(texts) > 400
    spm, fast = pair
    assert fast.encode_pieces(texts) == spm.encode_pieces(texts)


@settings(max_examples=300, deadline=None, database=None)
@given(text=st.text())
def test_both_give_the_same_ids_for_any_text(pair: tuple[NllbTokenizer, NllbTokenizer], text: str) -> None:
    spm, fast = pair
    assert fast.encode_pieces([text]) == spm.encode_pieces([text])


@settings(max_examples=300, deadline=None, database=None)
@given(data=st.data())
def test_both_give_the_same_ids_for_text_of_known_pieces(
    pair: tuple[NllbTokenizer, NllbTokenizer], data: st.DataObject
) -> None:
    spm, fast = pair
    text = "".join(data.draw(st.lists(st.sampled_from(spm.tokens(range(4, 1501))))))
    rows = spm.encode_pieces([text])
    assert fast.encode_pieces([text]) == rows
    # Pieces side by side may compose to a character that is not known.
    if unicodedata.is_normalized("NFKC", text):
        assert spm.decode(rows[0]) == " ".join(text.replace("▁", " ").split())


def test_both_join_repeated_characters_alike(train_sentencepiece: Train, tmp_path: Path) -> None:
    """Where a piece can be made in several ways, the order of the merges matters most."""
    lines = ["a" * n for n in range(1, 20)] + ["ab" * n for n in range(1, 20)] + ["aab" * n for n in range(9)]
    model = train_sentencepiece(
        tmp_path / "a.model", vocab_size=60, hard_vocab_limit=False, sentence_iterator=iter(lines)
    )
    to_tokenizer_json(model, tmp_path / "a.json")
    spm = NllbTokenizer.from_sentencepiece(model)
    fast = NllbTokenizer.from_tokenizer_json(tmp_path / "a.json")
    texts = [f"{n:014b}".replace("0", "a").replace("1", "b") for n in range(0, 1 << 14, 5)]
    assert fast.encode_pieces(texts) == spm.encode_pieces(texts)


def test_decomposed_characters_have_the_ids_of_composed_ones(
    pair: tuple[NllbTokenizer, NllbTokenizer],
) -> None:
    composed = "Trẻ em đang chơi với những chú chó ở Huế"
    decomposed = unicodedata.normalize("NFD", composed)
    assert decomposed != composed
    for tokenizer in pair:
        assert tokenizer.encode_pieces([decomposed]) == tokenizer.encode_pieces([composed])


# Character rules


def test_character_rules_are_applied_as_sentencepiece_applies_them(spm_folder: Path) -> None:
    path = spm_folder / "sentencepiece.bpe.model"
    spm, charsmap = SentencePieceProcessor(model_file=str(path)), Charsmap(SpmFile.read(path).charsmap)
    changing = [chr(i) for i in range(1, 0x30000) if unicodedata.normalize("NFKD", chr(i)) != chr(i)]
    special = [chr(i) for i in [*range(1, 0x20), *range(0x7F, 0xA1), *range(0x2000, 0x2070), 0xFEFF, 0xFFFD]]
    forms = [unicodedata.normalize(form, c) for c in changing for form in ("NFD", "NFKD")]
    assert len(changing) > 16000
    for text in [*changing, *special, *forms, "e\u0302\u0301x", "ﬁ\u0301", "ﻻ\u064e", "\u0344"]:
        # A word on either side, as SentencePiece also tidies spaces at the ends.
        around = f"o{text}\u0323o"
        wanted = spm.normalize(around).removeprefix("▁").replace("▁", " ")
        assert " ".join(filter(None, charsmap.normalize(around).split(" "))) == wanted


def test_character_rules_are_copied_whole(spm_folder: Path) -> None:
    rules = Charsmap(SpmFile.read(spm_folder / "sentencepiece.bpe.model").charsmap)
    for charsmap in (rules, copy.deepcopy(rules), pickle.loads(pickle.dumps(rules))):
        assert charsmap.normalize("plain") == "plain"
        assert charsmap.normalize("plaine\u0301e") == "plainée"
        assert charsmap.normalize("ｗｉｄｅ e") == "wide e"
        assert charsmap.normalize("e") == "e"
        assert charsmap.normalize("") == ""


@pytest.mark.parametrize("blob", [b"", b"abc", b"\4\0\0\0", b"\5\0\0\0abcdefgh", b"\xff\xff\xff\xff1234"])
def test_broken_character_rules_are_an_error(blob: bytes) -> None:
    with pytest.raises(ValueError, match=r"empty|broken|size"):
        Charsmap(blob)


# tokenizer.json


def test_languages_missing_from_a_json_are_pinned(
    changed: Callable[[Change], Path], pair: tuple[NllbTokenizer, NllbTokenizer], sentences: list[str]
) -> None:
    path = changed(lambda data: data.update(added_tokens=[]))
    tokenizer = NllbTokenizer.from_tokenizer_json(path)
    assert tokenizer.tokens(range(1706)) == pair[0].tokens(range(1706))
    assert tokenizer.encode_batch(sentences, "deu_Latn") == pair[0].encode_batch(sentences, "deu_Latn")


def test_a_json_of_an_older_converter_gives_the_same_ids(
    changed: Callable[[Change], Path], pair: tuple[NllbTokenizer, NllbTokenizer]
) -> None:
    """Languages in the vocabulary, no stripping, a post-processor, another order of space rules."""

    def change(data: dict[str, Any]) -> None:
        data["model"]["vocab"].update({token["content"]: token["id"] for token in data["added_tokens"]})
        rules = data["normalizer"]["normalizers"][0]
        space = {"type": "Replace", "pattern": {"Regex": " {2,}"}, "content": "▁"}
        data["normalizer"] = {"type": "Sequence", "normalizers": [rules, space]}
        data["post_processor"] = {
            "type": "TemplateProcessing",
            "single": [
                {"SpecialToken": {"id": "eng_Latn", "type_id": 0}},
                {"Sequence": {"id": "A", "type_id": 0}},
            ],
            "pair": [{"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 0}}],
            "special_tokens": {"eng_Latn": {"id": "eng_Latn", "ids": [1547], "tokens": ["eng_Latn"]}},
        }

    tokenizer = NllbTokenizer.from_tokenizer_json(changed(change))
    texts = ["Trailing space ", "a  b", "fra_Latn</s>", "ở Huế"]
    assert tokenizer.encode_batch(texts, "fra_Latn") == pair[0].encode_batch(texts, "fra_Latn")


def test_an_unfamiliar_normalizer_is_used_as_it_is(
    changed: Callable[[Change], Path], pair: tuple[NllbTokenizer, NllbTokenizer]
) -> None:
    path = changed(lambda data: data.update(normalizer={"type": "Lowercase"}))
    assert NllbTokenizer.from_tokenizer_json(path).encode_pieces(["The  TRAIN "]) == pair[0].encode_pieces(
        ["the train"]
    )


def _mask_first(data: dict[str, Any]) -> None:
    for token in data["added_tokens"][4:]:
        token["id"] = 1501 if token["content"] == "<mask>" else token["id"] + 1
    data["added_tokens"].sort(key=lambda token: token["id"])


def _drop_piece(data: dict[str, Any]) -> None:
    data["added_tokens"] = []
    data["model"]["merges"] = []
    data["model"]["vocab"] = {piece: i for piece, i in data["model"]["vocab"].items() if i != 700}


def _swap_specials(data: dict[str, Any]) -> None:
    data["added_tokens"] = []
    data["model"]["vocab"].update({"<s>": 1, "<pad>": 0})


def _merge_to_special(data: dict[str, Any]) -> None:
    vocabulary = data["model"]["vocab"]
    for piece in ("</", "s>"):
        vocabulary.setdefault(piece, len(vocabulary))
    data["added_tokens"] = []
    data["model"]["merges"] = [["<", "/"], ["s", ">"], ["</", "s>"]]


def _cut_rules(data: dict[str, Any]) -> None:
    data["normalizer"]["normalizers"][0]["precompiled_charsmap"] = "AAAA"


def _break_rules(data: dict[str, Any]) -> None:
    odd = (5).to_bytes(4, "little") + b"12345678"
    data["normalizer"]["normalizers"][0]["precompiled_charsmap"] = b64encode(odd).decode()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (_mask_first, "gives ace_Arab the id 1502, but in NLLB's layout with 1500 pieces it has 1501"),
        (_drop_piece, "gives '.*' the id 701 and leaves out 700"),
        (_swap_specials, "gives <s> the id 1, but"),
        (_merge_to_special, "turns the text 'x?</s>' into a special token"),
        (_cut_rules, "is no tokenizer.json"),
        (_break_rules, "has a broken precompiled_charsmap"),
        (lambda data: data.clear(), "is no tokenizer.json"),
    ],
)
def test_a_json_that_contradicts_the_layout_is_an_error(
    changed: Callable[[Change], Path], change: Change, message: str
) -> None:
    with pytest.raises(CheckpointError, match=message):
        NllbTokenizer.from_tokenizer_json(changed(change))


# sentencepiece.bpe.model


def test_the_file_is_read_as_the_library_reads_it(spm_folder: Path) -> None:
    path = spm_folder / "sentencepiece.bpe.model"
    spm, file = SentencePieceProcessor(model_file=str(path)), SpmFile.read(path)
    assert [piece for piece, _, _ in file.pieces] == [spm.id_to_piece(i) for i in range(1500)]
    assert [score for _, score, _ in file.pieces] == [spm.get_score(i) for i in range(1500)]
    assert [kind for _, _, kind in file.pieces] == [2, 3, 3] + [1] * 1497
    assert file.is_bpe
    assert file.plain_spaces


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"pad_id": 3}, r"the ids \(0, 1, 2, 3\)"),
        ({"unk_id": 3, "bos_id": 0, "eos_id": 2, "pad_id": 1}, r"the ids \(3, 0, 2, 1\)"),
    ],
)
def test_a_model_with_another_layout_is_an_error(
    train_sentencepiece: Train, tmp_path: Path, options: dict[str, Any], message: str
) -> None:
    path = train_sentencepiece(tmp_path / "sentencepiece.bpe.model", **options)
    with pytest.raises(CheckpointError, match=message):
        NllbTokenizer.from_folder(tmp_path)
    with pytest.raises(CheckpointError):
        to_tokenizer_json(path, tmp_path / "tokenizer.json")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"model_type": "unigram", "vocab_size": 1000}, "not a BPE model"),
        ({"user_defined_symbols": ["<br>"]}, "user-defined pieces"),
        ({"control_symbols": ["<ctl>"]}, "control pieces of its own"),
        ({"add_dummy_prefix": False}, "treats spaces in another way"),
        ({"remove_extra_whitespaces": False}, "treats spaces in another way"),
        ({"treat_whitespace_as_suffix": True}, "treats spaces in another way"),
    ],
)
def test_a_model_that_json_cannot_express_is_not_converted(
    train_sentencepiece: Train, tmp_path: Path, options: dict[str, Any], message: str
) -> None:
    path = train_sentencepiece(tmp_path / "a.model", **options)
    with pytest.raises(CheckpointError, match=message):
        to_tokenizer_json(path, tmp_path / "tokenizer.json")
    assert not (tmp_path / "tokenizer.json").exists()


@pytest.mark.parametrize(
    "content", [b"", b"version https://git-lfs", b"\x0a\xff\xff\xff\xff\x0fabc", b"\x0b"]
)
def test_a_file_that_is_no_model_is_an_error(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "sentencepiece.bpe.model"
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match="no SentencePiece model"):
        SpmFile.read(path)
    with pytest.raises(CheckpointError):
        NllbTokenizer.from_sentencepiece(path)
    with pytest.raises(CheckpointError, match=r"is no tokenizer\.json"):
        NllbTokenizer.from_tokenizer_json(path)


def test_a_missing_file_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="can't be read"):
        SpmFile.read(tmp_path / "none")
    with pytest.raises(CheckpointError, match="can't be read"):
        NllbTokenizer.from_sentencepiece(tmp_path / "none")
