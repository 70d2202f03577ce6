"""Folders of Llama tokenizers: what is read, saved and refused."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from dragoman.errors import CheckpointError
from dragoman.text.tokenizers import LlamaTokenizer

Train = Callable[..., Path]
WriteJson = Callable[..., Path]

TEXTS = ["", "  two  spaces ", "tab\tline\n\n", "😀 \U0010ffff", "<s>[INST] </s><pad>"]
METASPACE = {"type": "Metaspace", "replacement": "▁", "prepend_scheme": "first", "split": False}


# Folders


def configure(folder: Path, model: Path, **config: Any) -> Path:
    folder.mkdir(exist_ok=True)
    (folder / "tokenizer.model").write_bytes((model / "tokenizer.model").read_bytes())
    (folder / "tokenizer_config.json").write_text(json.dumps(config), encoding="utf-8")
    return folder


ADDED = {"1800": {"content": "<pad>", "special": True}, "1": {"content": "<s>", "special": True}}


def test_added_tokens_are_known_but_never_come_from_text(
    llama_folder: Path, write_json: WriteJson, tmp_path: Path
) -> None:
    configured = configure(tmp_path / "a", llama_folder, pad_token="<pad>", added_tokens_decoder=ADDED)
    added = [{"id": int(place), **token} for place, token in ADDED.items()]
    names = {name: i for i, name in enumerate(LlamaTokenizer.from_folder(llama_folder).tokens(range(1800)))}
    mergeable = {"vocab": {**names, "<pad>": 1800}, "merges": ["p a", "< pa", "d >", "<pa d>", "< s", "<s >"]}
    for token in ("pa", "<pa", "d>", "<s"):
        mergeable["vocab"].setdefault(token, len(mergeable["vocab"]))
    listed = write_json(llama_folder, tmp_path / "b", added_tokens=added)
    merging = write_json(llama_folder, tmp_path / "c", added_tokens=added, model=mergeable)
    for folder in (configured, listed, merging):
        tokenizer = LlamaTokenizer.from_folder(folder)
        assert tokenizer.token_to_id("<pad>") == 1800
        ids = tokenizer.encode("<pad><s>")
        assert ids.count(1) == 1
        assert 1800 not in ids
        assert tokenizer.decode([*ids, 2]) == "<pad><s>"
    tokenizer = LlamaTokenizer.from_folder(configured)
    assert (len(tokenizer), tokenizer.vocabulary, tokenizer.pad_id) == (1801, 1800, 1800)
    assert tokenizer.decode([1800, 1, 1800]) == ""
    assert tokenizer.decode([1800, 1], skip_special=False) == "<pad><s>"


@pytest.mark.parametrize(
    ("stated", "rules", "given", "expected"),
    [
        (None, None, None, True),
        (False, None, None, False),
        (True, "first", None, True),
        (None, "first", None, False),
        (None, "prepend", None, True),
        (None, "always", None, True),
        (False, "prepend", None, False),
        (False, "prepend", True, True),
        (None, "prepend", False, False),
    ],
)
def test_legacy_is_what_is_given_or_configured_or_ruled(
    llama_folder: Path,
    write_json: WriteJson,
    tmp_path: Path,
    stated: bool | None,
    rules: str | None,
    given: bool | None,
    expected: bool,
) -> None:
    spaces = {"normalizer": None, "pre_tokenizer": {**METASPACE, "prepend_scheme": rules}}
    if rules is not None:
        write_json(llama_folder, tmp_path, **({} if rules == "prepend" else spaces))
        (tmp_path / "tokenizer_config.json").write_text(json.dumps({"legacy": stated}), encoding="utf-8")
        assert LlamaTokenizer.from_folder(tmp_path, legacy=given).legacy is expected
    configure(tmp_path, llama_folder, legacy=stated)
    assert LlamaTokenizer.from_folder(tmp_path, legacy=given).legacy is expected


def test_a_saved_tokenizer_opens_the_same(llama_folder: Path, write_json: WriteJson, tmp_path: Path) -> None:
    config = {"pad_token": {"content": "<pad>"}, "added_tokens_decoder": ADDED, "chat_template": "[INST]"}
    source = configure(tmp_path / "a", llama_folder, legacy=False, **config)
    fast = write_json(llama_folder, tmp_path / "b")
    for folder in (source, fast):
        tokenizer = LlamaTokenizer.from_folder(folder)
        tokenizer.save(tmp_path / "new" / folder.name)
        again = LlamaTokenizer.from_folder(tmp_path / "new" / folder.name)
        assert again.encode_batch(TEXTS) == tokenizer.encode_batch(TEXTS)
        assert (again.legacy, again.pad_id, len(again)) == (
            tokenizer.legacy,
            tokenizer.pad_id,
            len(tokenizer),
        )
    saved = json.loads((tmp_path / "new" / "a" / "tokenizer_config.json").read_text(encoding="utf-8"))
    assert saved["chat_template"] == "[INST]"
    assert (saved["legacy"], saved["pad_token"]) == (False, "<pad>")


def test_a_folder_without_tokenizer_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="has no tokenizer"):
        LlamaTokenizer.from_folder(tmp_path)


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ("{", "can't be read"),
        ("[]", "should hold an object, but it holds a list"),
        ('{"add_prefix_space": false}', "add_prefix_space"),
        ('{"added_tokens_decoder": {"x": {}}}', "damaged"),
        ('{"added_tokens_decoder": {"1900": {"content": "<x>"}}}', "has the id 1900, but 1800 is the next"),
        ('{"added_tokens_decoder": {"5": {"content": "<x>"}}}', "has the id 5, but 1800 is the next"),
    ],
)
def test_a_damaged_configuration_is_an_error(
    llama_folder: Path, tmp_path: Path, config: str, message: str
) -> None:
    configure(tmp_path, llama_folder)
    (tmp_path / "tokenizer_config.json").write_text(config, encoding="utf-8")
    with pytest.raises(CheckpointError, match=message):
        LlamaTokenizer.from_folder(tmp_path)


# Files of another kind


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "replaces characters"),
        ({"normalization_rule_name": "identity"}, "treats spaces in another way"),
        ({"model_type": "unigram", "vocab_size": 1000}, "not a BPE model"),
        (
            {"normalization_rule_name": "identity", "remove_extra_whitespaces": False},
            "its pieces are not <unk>, <s>, </s>, the 256 bytes",
        ),
        (
            {
                "normalization_rule_name": "identity",
                "remove_extra_whitespaces": False,
                "byte_fallback": True,
                "vocab_size": 2000,
                "user_defined_symbols": ["<br>"],
            },
            "its pieces are not",
        ),
    ],
)
def test_a_model_of_another_kind_is_an_error(
    train_sentencepiece: Train, tmp_path: Path, options: dict[str, Any], message: str
) -> None:
    train_sentencepiece(tmp_path / "tokenizer.model", **options)
    with pytest.raises(CheckpointError, match=message):
        LlamaTokenizer.from_folder(tmp_path)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"pre_tokenizer": {"type": "ByteLevel"}}, "treats spaces in another way"),
        ({"normalizer": None}, "treats spaces in another way"),
        ({"normalizer": None, "pre_tokenizer": {**METASPACE, "prepend_scheme": "never"}}, "treats spaces"),
        ({"normalizer": {"type": "NFKC"}}, "treats spaces in another way"),
        ({"model": {"byte_fallback": False}}, "doesn't fall back to bytes"),
        ({"model": {"type": "Unigram"}}, "type 'Unigram', not BPE"),
        (
            {"model": {"vocab": {"<unk>": 0, "<s>": 1, "</s>": 2, "a": 3}}},
            "<0x00> the id None, .* has it at 3",
        ),
        ({"model": {"vocab": {"<unk>": 0, "<s>": 2}}}, "gives '<s>' the id 2 where 1 is due"),
        ({"model": {"merges": ["a b c"]}}, r"is no tokenizer\.json"),
        ({"model": {"merges": ["no piece"]}}, r"is no tokenizer\.json"),
        ({"model": {"merges": None}}, r"is no tokenizer\.json"),
    ],
)
def test_a_json_of_another_kind_is_an_error(
    llama_folder: Path, write_json: WriteJson, tmp_path: Path, changes: dict[str, Any], message: str
) -> None:
    write_json(llama_folder, tmp_path, **changes)
    with pytest.raises(CheckpointError, match=message):
        LlamaTokenizer.from_folder(tmp_path)


@pytest.mark.parametrize("content", [b"", b"version https://git-lfs", b"[]", b"\xff\xfe"])
def test_a_damaged_file_is_an_error(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "file").write_bytes(content)
    with pytest.raises(CheckpointError, match="no SentencePiece model"):
        LlamaTokenizer.from_sentencepiece(tmp_path / "file")
    with pytest.raises(CheckpointError, match=r"is no tokenizer\.json"):
        LlamaTokenizer.from_tokenizer_json(tmp_path / "file")
    for missing in (LlamaTokenizer.from_sentencepiece, LlamaTokenizer.from_tokenizer_json):
        with pytest.raises(CheckpointError, match="can't be read"):
            missing(tmp_path / "none")
