"""Tokens that were added to NLLB's: new languages, and marks that are found in text."""

import json
from collections.abc import Callable
from pathlib import Path
from shutil import copyfile
from typing import Any

import pytest

from dragoman.errors import CheckpointError, UnknownLanguage
from dragoman.text.tokenizers import NllbTokenizer
from dragoman.text.tokenizers.added import AddedToken, Finder
from dragoman.text.tokenizers.layout import MASK, NllbLayout, tail_of

SPM, JSON, CONFIG = "sentencepiece.bpe.model", "tokenizer.json", "tokenizer_config.json"
ADDED = {1704: {"content": "tyv_Cyrl", "special": True}, 1705: {"content": "<formal>", "special": True}}
LONG = {"content": "<formal>+", "special": False}


@pytest.fixture(params=["json", "sentencepiece", "both"])
def taught(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[..., NllbTokenizer]:
    """Opens a tokenizer with added tokens by id, as each kind of folder lists them."""

    def make(added: dict[int, dict[str, Any]] = ADDED) -> NllbTokenizer:
        if request.param != "json":
            copyfile(request.getfixturevalue("spm_folder") / SPM, tmp_path / SPM)
        if request.param == "sentencepiece":
            config = {"added_tokens_decoder": {str(i): token for i, token in added.items()}}
            (tmp_path / CONFIG).write_text(json.dumps(config))
        else:
            data = json.loads((request.getfixturevalue("json_folder") / JSON).read_text(encoding="utf-8"))
            like = data["added_tokens"][-1]
            kept = [token for token in data["added_tokens"] if token["id"] not in added]
            data["added_tokens"] = [*kept, *({**like, **token, "id": i} for i, token in added.items())]
            (tmp_path / JSON).write_text(json.dumps(data), encoding="utf-8")
        return NllbTokenizer.from_folder(tmp_path)

    return make


def test_added_language_is_one_of_the_tokenizers(taught: Callable[..., NllbTokenizer]) -> None:
    tokenizer = taught()
    assert tokenizer.layout.tail == (MASK, "tyv_Cyrl", "<formal>")
    assert (len(tokenizer), tokenizer.mask_id, tokenizer.layout.taught) == (1706, 1703, ("tyv_Cyrl",))
    assert tokenizer.language_id("tyv_Cyrl") == tokenizer.language_id("tyv-cyrl") == 1704
    assert tokenizer.token_to_id("tyv_Cyrl") == 1704
    assert tokenizer.language_id("fr") == 1557
    assert tokenizer.encode("Hello", "tyv_Cyrl")[0] == 1704
    tokenizer.src_lang = "tyv_Cyrl"
    assert tokenizer.src_lang == "tyv_Cyrl"
    with pytest.raises(UnknownLanguage):
        tokenizer.language_id("tlh_Latn")


def test_added_token_is_found_in_text_but_no_language_code(taught: Callable[..., NllbTokenizer]) -> None:
    tokenizer = taught()
    row = tokenizer.encode_pieces(["Hello <formal> there tyv_Cyrl </s>"])[0]
    assert row.count(1705) == 1
    assert not {1704, 2, 1703} & set(row)
    place = row.index(1705)
    assert tokenizer.tokens(row)[place - 1 : place + 1] == ["▁", "<formal>"]
    assert row[: place - 1] == tokenizer.encode_pieces(["Hello"])[0]
    assert row[place + 1 :] == tokenizer.encode_pieces(["there tyv_Cyrl </s>"])[0]
    assert tokenizer.encode_pieces(["<formal>", " <formal> "]) == [[1705], [1705]]
    assert tokenizer.decode(row, skip_special=False).startswith("Hello <formal> there")
    assert "<formal>" not in tokenizer.decode(row)


def test_longest_added_token_wins_and_plain_ones_are_decoded(taught: Callable[..., NllbTokenizer]) -> None:
    tokenizer = taught({**ADDED, 1706: LONG})
    row = tokenizer.encode_pieces(["a<formal>+<formal>b"])[0]
    assert [i for i in row if i > 1700] == [1706, 1705]
    assert "<formal>+" in tokenizer.decode(row)


def test_new_language_may_have_the_masks_place(taught: Callable[..., NllbTokenizer]) -> None:
    tokenizer = taught({1703: {"content": "tyv_Cyrl"}, 1704: {"content": MASK}})
    assert (tokenizer.language_id("tyv_Cyrl"), tokenizer.mask_id, len(tokenizer)) == (1703, 1704, 1705)
    assert tokenizer.token_to_id(MASK) == 1704


def test_saved_tokenizer_keeps_what_was_added(taught: Callable[..., NllbTokenizer], tmp_path: Path) -> None:
    tokenizer = taught()
    tokenizer.save(tmp_path / "again")
    again = NllbTokenizer.from_folder(tmp_path / "again")
    assert again.layout == tokenizer.layout
    assert again.encode("Hello <formal>", "tyv_Cyrl") == tokenizer.encode("Hello <formal>", "tyv_Cyrl")


def test_rows_without_a_token_are_never_generated() -> None:
    published, taught = NllbLayout(256000), NllbLayout(256000, (MASK, "tyv_Cyrl", "<formal>", "<x>"))
    assert (published.tokens, published.needed, published.rows) == (256204, 256203, 256206)
    assert published.never_generated(256203) == ()
    assert published.never_generated(256256)[-1] == 256255
    assert (taught.tokens, taught.needed, taught.rows) == (256207, 256207, 256207)
    assert taught.never_generated(256208) == (256203, 256207)
    assert taught.names == taught.tail


def test_ids_between_added_tokens_can_not_be_free(spm_folder: Path, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="'<a>' the id 1705 and leaves out 1704"):
        tail_of({1705: "<a>"}, 1703, "it")
    copyfile(spm_folder / SPM, tmp_path / SPM)
    (tmp_path / CONFIG).write_text(json.dumps({"added_tokens_decoder": {"1709": {"content": "<a>"}}}))
    with pytest.raises(CheckpointError, match="'<a>' the id 1709 and leaves out 1704"):
        NllbTokenizer.from_folder(tmp_path)


def test_finder_minds_words_and_white_space() -> None:
    tokens = {7: AddedToken("ab", single_word=True), 8: AddedToken("<x>", lstrip=True, rstrip=True)}
    assert list(Finder(tokens).split("ab cab a <x>  ab")) == [7, " cab a", 8, 7]
    assert not Finder({7: AddedToken("tyv_Cyrl"), 1: AddedToken("<pad>")})
