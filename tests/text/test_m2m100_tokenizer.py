"""M2M-100's tokenizer against transformers' on the same files."""

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from dragoman.errors import CheckpointError, InvalidText, UnknownLanguage
from dragoman.languages import of_code
from dragoman.text.tokenizers.m2m100 import (
    FILLING,
    LANGUAGE_TOKENS,
    M2M100_LANGUAGES,
    M2m100Layout,
    M2m100Tokenizer,
)

SPECIAL_TEXTS = ["</s>", "<s>", "<pad>", "<unk>", "__fr__", "__en__ Hello</s> __fr__", "madeupword0001"]
ODD_TEXTS = ["", " ", "  two  spaces ", "ﬁ ½ Ⅷ", "tab\tand\nline", "龘", "x龘龘y", "🙂 smile", "a" * 300]


@pytest.fixture(scope="module")
def tokenizer(m2m100: Path) -> M2m100Tokenizer:
    return M2m100Tokenizer.from_folder(m2m100, src_lang="en", tgt_lang="fr")


@pytest.fixture(scope="module")
def theirs(m2m100: Path) -> Any:
    transformers = pytest.importorskip("transformers")
    return transformers.M2M100Tokenizer.from_pretrained(str(m2m100))


@pytest.fixture(scope="module")
def texts(sentences: list[str]) -> list[str]:
    """The sentences without special tokens, which to transformers are no text."""
    return [text for text in sentences if not any(name in text for name in ("<s>", "</s>", "<pad>", "<unk>"))]


@pytest.fixture
def copy(m2m100: Path, tmp_path: Path) -> Path:
    """A copy of the tokenizer's files."""
    for name in ("sentencepiece.bpe.model", "vocab.json", "tokenizer_config.json"):
        shutil.copy(m2m100 / name, tmp_path)
    return tmp_path


def edit(path: Path, **fields: object) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | fields))


def test_published_ids_follow_from_128004_pieces() -> None:
    layout = M2m100Layout(128004)
    wanted = {"afr_Latn": 128004, "bre_Latn": 128013, "eng_Latn": 128022, "fra_Latn": 128028}
    wanted |= {"zho_Hans": 128102, "zul_Latn": 128103}
    assert {code: layout.languages[code] for code in wanted} == wanted
    assert (layout.tokens, layout.needed, layout.rows) == (128104, 128104, 128112)
    assert layout.never_generated(128112) == tuple(range(128104, 128112))
    assert layout.piece_ids == range(4, 128004)


def test_languages_are_the_published_hundred_each_with_a_row_of_its_own() -> None:
    published = pytest.importorskip("transformers.models.m2m_100.tokenization_m2m_100")
    assert list(M2M100_LANGUAGES) == published.FAIRSEQ_LANGUAGE_CODES["m2m100"]
    rows = [of_code(code) for code in M2M100_LANGUAGES.values()]
    assert len(set(rows)) == 100
    assert all(row.name != row.nllb for row in rows)
    odd = {"no": "nob_Latn", "ns": "nso_Latn", "ff": "fuv_Latn"}  # Norwegian and what has other codes today
    for code, row in zip(M2M100_LANGUAGES, rows, strict=True):
        assert row.nllb == odd[code] if code in odd else code in (row.iso1, row.iso3)


@pytest.mark.parametrize("code", M2M100_LANGUAGES)
def test_sources_and_targets_have_transformers_ids(
    code: str, tokenizer: M2m100Tokenizer, theirs: Any, texts: list[str]
) -> None:
    theirs.src_lang = theirs.tgt_lang = code
    texts = texts[::5]
    assert tokenizer.encode_batch(texts, code) == theirs(texts).input_ids
    assert tokenizer.encode_batch(texts, code, target=True) == theirs(text_target=texts).input_ids
    assert tokenizer.language_id(code) == theirs.get_lang_id(code)


def test_all_sentences_and_odd_texts_have_transformers_ids(
    tokenizer: M2m100Tokenizer, theirs: Any, texts: list[str]
) -> None:
    theirs.src_lang = "en"
    assert tokenizer.encode_batch(texts + ODD_TEXTS, "en") == theirs(texts + ODD_TEXTS).input_ids
    assert any(tokenizer.unk_id in row for row in tokenizer.encode_pieces(texts))


def test_many_texts_at_once_are_the_same(tokenizer: M2m100Tokenizer, texts: list[str]) -> None:
    many = (texts * 6)[:600]
    assert tokenizer.encode_pieces(many) == [tokenizer.encode_pieces([text])[0] for text in many]


def test_text_comes_back(tokenizer: M2m100Tokenizer, theirs: Any, texts: list[str]) -> None:
    rows = tokenizer.encode_batch(texts, "en")
    assert tokenizer.decode_batch(rows) == [theirs.decode(row[1:], skip_special_tokens=True) for row in rows]
    normal = [text for text in texts if text == theirs.sp_model.normalize(text).replace("▁", " ").strip()]
    known = [text for text in normal if tokenizer.unk_id not in tokenizer.encode(text)]
    assert len(known) > 30
    assert tokenizer.decode_batch(tokenizer.encode_batch(known, "fr")) == known


@pytest.mark.parametrize("text", SPECIAL_TEXTS)
def test_special_tokens_in_text_are_text(tokenizer: M2m100Tokenizer, text: str) -> None:
    pieces = tokenizer.encode_pieces([text])[0]
    assert all(i == tokenizer.unk_id or i in tokenizer.layout.piece_ids for i in pieces)
    assert tokenizer.encode(text) == [tokenizer.language_id("en"), *pieces, tokenizer.eos_id]


def test_special_token_that_sentencepiece_does_not_know_is_unknown_text(
    copy: Path, train_sentencepiece: Any
) -> None:
    """Of a text that a file knows nothing of, the piece is the text itself."""
    train_sentencepiece(
        copy / "sentencepiece.bpe.model", sentence_iterator=iter(["мир миру"] * 9), vocab_size=12
    )
    tokenizer = M2m100Tokenizer.from_folder(copy, "en")
    space = tokenizer.token_to_id("▁")
    assert tokenizer.encode_pieces(["</s>", "__fr__"]) == [[space, 3], [space, 3]]


def test_every_row_has_a_name(tokenizer: M2m100Tokenizer) -> None:
    names = tokenizer.tokens(range(tokenizer.layout.rows))
    assert names[:4] == ["<s>", "<pad>", "</s>", "<unk>"]
    assert tuple(names[-108:]) == LANGUAGE_TOKENS + FILLING
    assert [tokenizer.token_to_id(name) for name in names] == list(range(len(names)))
    assert len(tokenizer) == len(names) - 8
    with pytest.raises(InvalidText, match="no token id"):
        tokenizer.tokens([len(names)])


def test_languages_have_many_spellings(tokenizer: M2m100Tokenizer) -> None:
    assert tokenizer.language_id("Breton") == tokenizer.language_id("br") == tokenizer.language_id("br-FR")
    assert tokenizer.language_id("fy") == tokenizer.language_id("fry_Latn")
    assert tokenizer.language_id("ns") == tokenizer.language_id("Northern Sotho")
    assert tokenizer.language_id("zh-CN") == tokenizer.lang_code_to_id["zho_Hans"]
    for strange in ("zho_Hant", "mt", "tyv_Cyrl"):
        with pytest.raises(UnknownLanguage):
            tokenizer.language_id(strange)


def test_saved_tokenizer_opens_again(
    tokenizer: M2m100Tokenizer, theirs: Any, tmp_path: Path, texts: list[str]
) -> None:
    tokenizer.save(tmp_path / "ours")
    theirs.save_pretrained(tmp_path / "theirs")
    for name in ("ours", "theirs"):
        again = M2m100Tokenizer.from_folder(tmp_path / name)
        assert again.encode_batch(texts, "fr") == tokenizer.encode_batch(texts, "fr")
        assert again.tokens(range(again.layout.rows)) == tokenizer.tokens(range(again.layout.rows))


@pytest.mark.parametrize("name", ["sentencepiece.bpe.model", "vocab.json"])
def test_missing_file_is_named(copy: Path, name: str) -> None:
    (copy / name).unlink()
    with pytest.raises(CheckpointError, match=name):
        M2m100Tokenizer.from_folder(copy)


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"a": 10**6}, "without gaps"),
        ({"a": "4"}, "without gaps"),
        ({"a": None}, "without gaps"),
        ({"<s>": 1, "<pad>": 0}, "begins with <pad>, <s>"),
    ],
)
def test_other_numbering_is_refused(copy: Path, change: dict[str, object], problem: str) -> None:
    edit(copy / "vocab.json", **change)
    with pytest.raises(CheckpointError, match=problem):
        M2m100Tokenizer.from_folder(copy)


def test_language_among_the_pieces_is_refused(copy: Path) -> None:
    count = len(json.loads((copy / "vocab.json").read_text()))
    edit(copy / "vocab.json", __fr__=count)
    with pytest.raises(CheckpointError, match="__fr__"):
        M2m100Tokenizer.from_folder(copy)


@pytest.mark.parametrize(
    ("fields", "problem"),
    [
        ({"language_codes": "wmt21"}, "wmt21.*hundred languages"),
        ({"additional_special_tokens": ["__fr__", "__liv__"]}, "__liv__"),
        ({"added_tokens_decoder": {"4": {"content": "<formal>"}}}, "<formal>"),
        ({"added_tokens_decoder": {"5": {"content": "__af__"}}}, "__af__"),
    ],
)
def test_added_tokens_and_other_languages_are_refused(copy: Path, fields: Any, problem: str) -> None:
    edit(copy / "tokenizer_config.json", **fields)
    with pytest.raises(CheckpointError, match=problem):
        M2m100Tokenizer.from_folder(copy)


def test_neither_torch_nor_transformers_nor_numpy_is_imported(m2m100: Path) -> None:
    program = (
        "import sys; from dragoman.text.tokenizers import M2m100Tokenizer; "
        f"M2m100Tokenizer.from_folder({str(m2m100)!r}).encode('Hello', 'en'); "
        "print([name for name in ('torch', 'transformers', 'numpy') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
