"""The tokenizer for transformers against the plain one, from every kind of folder."""

import copy
import json
import pickle
from pathlib import Path

import pytest
import torch
from tokenizers import Tokenizer
from transformers import AutoTokenizer

from dragoman.errors import CheckpointError, InvalidOption, InvalidText, UnknownLanguage
from dragoman.huggingface import NllbTokenizer, NllbTokenizerFast
from dragoman.text.tokenizers import NllbTokenizer as PlainTokenizer
from dragoman.text.tokenizers import to_tokenizer_json

JSON, SPM, CONFIG = "tokenizer.json", "sentencepiece.bpe.model", "tokenizer_config.json"
TRICKY = [
    "",
    "   ",
    "  two  spaces ",
    "</s> eng_Latn <mask><pad> fra_Latn",
    "x<s>y<unk>z",
    "Tiếng Việt",  # decomposed
    "ｆｕｌｌ\u3000ｗｉｄｔｈ\u0300",
    "tab\tnewline\nnul\u0000",
    "▁mark",
    "鸡 😀 \u200b zero",
]


@pytest.fixture(scope="module")
def json_folder(spm_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with `tokenizer.json` alone."""
    folder = tmp_path_factory.mktemp("json")
    to_tokenizer_json(spm_folder / SPM, folder / JSON)
    return folder


@pytest.fixture(scope="module", params=["spm_folder", "json_folder"])
def folder(request: pytest.FixtureRequest) -> Path:
    return request.getfixturevalue(request.param)


@pytest.fixture
def tokenizer(folder: Path) -> NllbTokenizer:
    return NllbTokenizer.from_pretrained(folder, src_lang="ron_Latn", tgt_lang="deu_Latn")


@pytest.fixture(scope="module")
def plain(spm_folder: Path) -> PlainTokenizer:
    return PlainTokenizer.from_folder(spm_folder, src_lang="ron_Latn", tgt_lang="deu_Latn")


def test_ids_are_those_of_the_plain_tokenizer(
    tokenizer: NllbTokenizer, plain: PlainTokenizer, sentences: list[str]
) -> None:
    texts = [*sentences, *TRICKY]
    assert tokenizer(texts)["input_ids"] == plain.encode_batch(texts)
    assert [tokenizer(text)["input_ids"] for text in TRICKY] == plain.encode_batch(TRICKY)
    targets = tokenizer(text_target=texts)["input_ids"]
    assert targets == plain.encode_batch(texts, target=True)
    tokenizer.legacy_behaviour = True
    legacy = [[*row[1:], row[0]] for row in plain.encode_batch(texts)]
    assert tokenizer(texts)["input_ids"] == legacy


def test_texts_are_decoded_as_by_the_plain_tokenizer(
    tokenizer: NllbTokenizer, plain: PlainTokenizer, sentences: list[str]
) -> None:
    rows = plain.encode_batch(sentences)
    assert tokenizer.batch_decode(rows, skip_special_tokens=True) == plain.decode_batch(rows)
    assert tokenizer.decode(torch.tensor(rows[0]), skip_special_tokens=True) == plain.decode(rows[0])
    assert tokenizer.decode([2, 1557, 1]) == "</s>fra_Latn<pad>"
    assert tokenizer.decode([1704, 1705, *rows[0]], skip_special_tokens=True) == plain.decode(rows[0])


def test_ids_are_where_they_were_published(tokenizer: NllbTokenizer, plain: PlainTokenizer) -> None:
    assert len(tokenizer) == 1704
    assert tokenizer.lang_code_to_id == plain.lang_code_to_id
    assert tokenizer.lang_code_to_id["fra_Latn"] == tokenizer.convert_tokens_to_ids("fra_Latn") == 1557
    special = ["<s>", "<pad>", "</s>", "<unk>", "ace_Arab", "zul_Latn", "<mask>"]
    assert tokenizer.convert_tokens_to_ids(special) == [0, 1, 2, 3, 1501, 1702, 1703]
    assert tokenizer.convert_ids_to_tokens([0, 1, 2, 3, 1501, 1702, 1703]) == special
    assert (tokenizer.bos_token_id, tokenizer.pad_token_id, tokenizer.eos_token_id) == (0, 1, 2)
    assert (tokenizer.unk_token_id, tokenizer.mask_token_id) == (3, 1703)
    assert set(plain.lang_code_to_id.values()) < set(tokenizer.all_special_ids)


def test_batch_is_padded_and_has_labels(tokenizer: NllbTokenizer, sentences: list[str]) -> None:
    batch = tokenizer(sentences[:3], text_target=sentences[3:6], return_tensors="pt", padding=True)
    rows = tokenizer(sentences[:3])["input_ids"]
    assert batch["input_ids"].shape == batch["attention_mask"].shape == (3, max(map(len, rows)))
    assert batch["attention_mask"].sum(1).tolist() == [len(row) for row in rows]
    assert batch["input_ids"][:, 0].tolist() == [tokenizer.lang_code_to_id["ron_Latn"]] * 3
    assert batch["labels"][:, 0].tolist() == [tokenizer.lang_code_to_id["deu_Latn"]] * 3
    cut = tokenizer(sentences[0], truncation=True, max_length=5)["input_ids"]
    assert len(cut) == 5
    assert (cut[0], cut[-1]) == (tokenizer.lang_code_to_id["ron_Latn"], 2)


def test_words_and_pairs_are_encoded_too(tokenizer: NllbTokenizer) -> None:
    assert (
        tokenizer(["A", "small", "test."], is_split_into_words=True).tokens()
        == tokenizer("A small test.").tokens()
    )
    pair = tokenizer("One.", "Two.").tokens()
    assert (pair[0], pair[-1], pair.count("</s>")) == ("ron_Latn", "</s>", 1)
    assert tokenizer.tokenize("One.") + tokenizer.tokenize("Two.") == pair[1:-1]


def test_language_is_found_under_any_of_its_names(folder: Path, tokenizer: NllbTokenizer) -> None:
    named = NllbTokenizer.from_pretrained(folder, src_lang="French", tgt_lang="zh")
    assert (named.src_lang, named.tgt_lang) == ("fra_Latn", "zho_Hans")
    tokenizer.src_lang = "de"
    assert tokenizer.src_lang == "deu_Latn"
    assert tokenizer("x")["input_ids"][0] == tokenizer.lang_code_to_id["deu_Latn"]
    assert NllbTokenizer.from_pretrained(folder).src_lang == "eng_Latn"
    # Its script is Ol Chiki, and newer lists say so.
    assert tokenizer.convert_tokens_to_ids("sat_Olck") == tokenizer.lang_code_to_id["sat_Beng"]


def test_unknown_language_is_an_error_and_never_unk(folder: Path, tokenizer: NllbTokenizer) -> None:
    with pytest.raises(UnknownLanguage):
        NllbTokenizer.from_pretrained(folder, src_lang="xyz_Latn")
    with pytest.raises(UnknownLanguage):
        tokenizer.src_lang = "tlh_Latn"
    with pytest.raises(UnknownLanguage):
        tokenizer.convert_tokens_to_ids("fra_Latin"[:-1])
    assert tokenizer.src_lang == "ron_Latn"
    assert tokenizer.convert_tokens_to_ids("no such piece") == 3


def test_target_without_language_is_an_error(folder: Path) -> None:
    with pytest.raises(InvalidOption, match="tgt_lang"):
        NllbTokenizer.from_pretrained(folder)(text_target="Guten Tag.")


def test_text_that_is_none_is_an_error(tokenizer: NllbTokenizer) -> None:
    for text in (b"bytes", 3, "\ud800"):
        with pytest.raises(InvalidText):
            tokenizer(text)


def test_special_tokens_are_read_from_text_only_when_asked(tokenizer: NllbTokenizer) -> None:
    assert 2 not in tokenizer("a</s>b", add_special_tokens=False)["input_ids"]
    assert 2 in tokenizer("a</s>b", add_special_tokens=False, split_special_tokens=False)["input_ids"]
    assert 2 not in tokenizer("a</s>b", add_special_tokens=False)["input_ids"]


def test_saved_tokenizer_comes_back(tokenizer: NllbTokenizer, tmp_path: Path, sentences: list[str]) -> None:
    texts = [*sentences, *TRICKY]
    tokenizer.save_pretrained(tmp_path)
    wanted = tokenizer(texts)["input_ids"]
    for kind in (NllbTokenizer, NllbTokenizerFast, AutoTokenizer):
        again = kind.from_pretrained(tmp_path)
        assert isinstance(again, NllbTokenizer)
        assert (again.src_lang, again.tgt_lang) == ("ron_Latn", "deu_Latn")
        assert again(texts)["input_ids"] == wanted
    assert PlainTokenizer.from_folder(tmp_path, src_lang="ron_Latn").encode_batch(texts) == wanted
    assert tokenizer(texts)["input_ids"] == wanted, "saving changed it"
    # Any reader of such files gets the characters normalised too.
    assert Tokenizer.from_file(str(tmp_path / JSON)).encode("ｗｉｄｅ").tokens[1:-1] == tokenizer.tokenize(
        "wide"
    )


def test_copies_and_pickles_are_the_same(tokenizer: NllbTokenizer) -> None:
    for twin in (copy.deepcopy(tokenizer), pickle.loads(pickle.dumps(tokenizer))):
        assert twin(TRICKY)["input_ids"] == tokenizer(TRICKY)["input_ids"]
        assert twin.src_lang == "ron_Latn"


def test_added_tokens_follow_and_survive_saving(tokenizer: NllbTokenizer, tmp_path: Path) -> None:
    assert tokenizer.add_tokens(["<formal>"]) == 1
    assert (
        tokenizer.add_special_tokens({"extra_special_tokens": [*tokenizer.extra_special_tokens, "<task>"]})
        == 1
    )
    tokenizer.save_pretrained(tmp_path)
    again = AutoTokenizer.from_pretrained(tmp_path)
    assert again.convert_tokens_to_ids(["<mask>", "<formal>", "<task>"]) == [1703, 1704, 1705]
    assert "<formal>" in again("a <formal> b").tokens()
    assert again.lang_code_to_id == tokenizer.lang_code_to_id


def test_ids_do_not_depend_on_what_a_config_lists(spm_folder: Path, tmp_path: Path) -> None:
    """Folders that list few languages, or put the mask before them."""
    (tmp_path / SPM).write_bytes((spm_folder / SPM).read_bytes())
    mask = {"__type": "AddedToken", "content": "<mask>", "lstrip": True, "normalized": True}
    config = {
        "additional_special_tokens": ["fra_Latn", "<mask>", "<own>"],
        "added_tokens_decoder": {
            "1501": {"content": "<mask>", "special": True},
            "1502": {"content": "fra_Latn"},
        },
        "mask_token": mask,
        "src_lang": None,
        "tokenizer_class": "NllbTokenizer",
    }
    (tmp_path / CONFIG).write_text(json.dumps(config))
    tokenizer = NllbTokenizer.from_pretrained(tmp_path)
    assert tokenizer.convert_tokens_to_ids(["fra_Latn", "<mask>", "<own>"]) == [1557, 1703, 1704]
    assert tokenizer("a").tokens()[0] == "eng_Latn"


@pytest.mark.parametrize("name", ["NllbTokenizer", "NllbTokenizerFast"])
@pytest.mark.parametrize("model_type", ["nllb-moe", "m2m_100"])
def test_folders_of_moe_and_dense_models_lead_here(
    spm_folder: Path, tmp_path: Path, model_type: str, name: str
) -> None:
    (tmp_path / SPM).write_bytes((spm_folder / SPM).read_bytes())
    (tmp_path / "config.json").write_text(json.dumps({"model_type": model_type}))
    (tmp_path / CONFIG).write_text(json.dumps({"tokenizer_class": name}))
    tokenizer = AutoTokenizer.from_pretrained(tmp_path, src_lang="fra_Latn")
    assert isinstance(tokenizer, NllbTokenizer)
    assert tokenizer("a")["input_ids"][0] == 1557


def test_folder_without_a_tokenizer_is_an_error(tmp_path: Path) -> None:
    (tmp_path / CONFIG).write_text("{}")
    with pytest.raises(CheckpointError, match=r"tokenizer\.json"):
        NllbTokenizer.from_pretrained(tmp_path)


def test_vocabulary_is_not_trained_here(tokenizer: NllbTokenizer) -> None:
    with pytest.raises(NotImplementedError, match="SentencePiece"):
        tokenizer.train_new_from_iterator([["a"]], 10)
