import pickle
import subprocess
import sys
from pathlib import Path

import pytest
from sentencepiece import SentencePieceProcessor

from dragoman.errors import CheckpointError, InvalidOption, InvalidText, UnknownLanguage
from dragoman.text.tokenizers import NllbTokenizer
from dragoman.text.tokenizers.layout import NllbLayout

SPECIAL_TEXTS = ["</s>", "<s>", "<pad>", "<unk>", "<mask>", "fra_Latn", "__fra__", "eng_Latn</s> <s>zul_Latn"]


@pytest.fixture(scope="module", params=["spm_folder", "json_folder"])
def folder(request: pytest.FixtureRequest) -> Path:
    return request.getfixturevalue(request.param)


@pytest.fixture
def tokenizer(folder: Path) -> NllbTokenizer:
    return NllbTokenizer.from_folder(folder, src_lang="eng_Latn", tgt_lang="fra_Latn")


@pytest.fixture(scope="module")
def spm(spm_folder: Path) -> SentencePieceProcessor:
    return SentencePieceProcessor(model_file=str(spm_folder / "sentencepiece.bpe.model"))


# Ids


def test_published_ids_follow_from_256000_pieces() -> None:
    layout = NllbLayout(256000)
    wanted = {
        "ace_Arab": 256001,
        "eng_Latn": 256047,
        "fra_Latn": 256057,
        "ron_Latn": 256145,
        "sat_Beng": 256150,
        "zul_Latn": 256202,
    }
    assert {code: layout.languages[code] for code in wanted} == wanted
    assert layout.mask == 256203
    assert layout.rows == 256206
    assert layout.never_generated(256206) == (256203, 256204, 256205)


def test_small_model_has_the_same_layout(tokenizer: NllbTokenizer, spm: SentencePieceProcessor) -> None:
    assert tokenizer.vocabulary == spm.get_piece_size() == 1500
    assert len(tokenizer) == 1704
    assert [tokenizer.bos_id, tokenizer.pad_id, tokenizer.eos_id, tokenizer.unk_id] == [0, 1, 2, 3]
    assert tokenizer.mask_id == 1703
    assert tokenizer.never_generated == (1703, 1704, 1705)
    assert list(tokenizer.lang_code_to_id.values()) == list(range(1501, 1703))
    assert tokenizer.language_id("eng_Latn") == 1547
    assert tokenizer.tokens(range(4)) == ["<s>", "<pad>", "</s>", "<unk>"]
    assert tokenizer.tokens(range(4, 1501)) == [spm.id_to_piece(i) for i in range(3, 1500)]
    assert tokenizer.tokens([1501, 1702, 1703]) == ["ace_Arab", "zul_Latn", "<mask>"]


def test_pieces_are_those_of_sentencepiece_one_higher(
    tokenizer: NllbTokenizer, spm: SentencePieceProcessor, sentences: list[str]
) -> None:
    assert tokenizer.encode_pieces(sentences) == [[i + 1 for i in spm.encode(line)] for line in sentences]


def test_every_token_and_id_name_each_other(tokenizer: NllbTokenizer) -> None:
    for token_id in range(tokenizer.layout.rows):
        assert tokenizer.token_to_id(tokenizer.id_to_token(token_id)) == token_id
    assert tokenizer.token_to_id("no such piece") is None
    assert tokenizer.token_to_id("sat_Olck") is None


def test_languages_are_202_and_aliases_resolve(tokenizer: NllbTokenizer) -> None:
    assert len(tokenizer.lang_code_to_id) == 202
    assert tokenizer.language_id("sat_Olck") == tokenizer.language_id("sat_Beng")
    assert tokenizer.language_id("fr") == tokenizer.language_id("French") == tokenizer.language_id("fra_Latn")


@pytest.mark.parametrize("code", ["xx_Latn", "tlh", "", "<unk>"])
def test_unknown_language_is_an_error_everywhere(tokenizer: NllbTokenizer, code: str) -> None:
    with pytest.raises(UnknownLanguage):
        tokenizer.language_id(code)
    with pytest.raises(UnknownLanguage):
        tokenizer.encode("Hello", code)
    with pytest.raises(UnknownLanguage):
        tokenizer.encode_batch(["Hello", "Hello"], ["eng_Latn", code])
    with pytest.raises(UnknownLanguage):
        tokenizer.src_lang = code
    with pytest.raises(UnknownLanguage):
        tokenizer.tgt_lang = code
    assert (tokenizer.src_lang, tokenizer.tgt_lang) == ("eng_Latn", "fra_Latn")


# Text to ids


def test_source_and_target_layouts(tokenizer: NllbTokenizer) -> None:
    [pieces] = tokenizer.encode_pieces(["The train"])
    english, french, german = map(tokenizer.language_id, ("eng_Latn", "fra_Latn", "deu_Latn"))
    assert pieces
    assert tokenizer.encode("The train") == [english, *pieces, 2]
    assert tokenizer.encode("The train", target=True) == [french, *pieces, 2]
    assert tokenizer.encode("The train", "deu_Latn", target=True) == [german, *pieces, 2]
    tokenizer.legacy = True
    assert tokenizer.encode("The train") == [*pieces, 2, english]
    assert tokenizer.encode("The train", target=True) == [*pieces, 2, french]


def test_legacy_can_be_asked_for_on_opening(folder: Path) -> None:
    row = NllbTokenizer.from_folder(folder, src_lang="eng_Latn", legacy=True).encode("")
    assert row == [2, 1547]


def test_languages_are_read_back_as_nllb_codes(tokenizer: NllbTokenizer) -> None:
    tokenizer.src_lang, tokenizer.tgt_lang = "fr", "sat_Olck"
    assert (tokenizer.src_lang, tokenizer.tgt_lang) == ("fra_Latn", "sat_Beng")
    assert tokenizer.encode("")[0] == tokenizer.language_id("fra_Latn")


def test_missing_language_is_an_error(folder: Path) -> None:
    tokenizer = NllbTokenizer.from_folder(folder)
    with pytest.raises(InvalidOption, match="set src_lang"):
        tokenizer.encode("Hello")
    with pytest.raises(InvalidOption, match="set tgt_lang"):
        tokenizer.encode_batch(["Hello"], target=True)


def test_batch_equals_single_texts(tokenizer: NllbTokenizer) -> None:
    texts, languages = ["Der Zug", "", "Le train"], ["deu_Latn", "eng_Latn", "fra_Latn"]
    singles = [tokenizer.encode(text, code) for text, code in zip(texts, languages, strict=True)]
    assert tokenizer.encode_batch(texts, languages) == singles
    assert tokenizer.encode_batch(texts, "deu_Latn") == [tokenizer.encode(text, "deu_Latn") for text in texts]
    assert tokenizer.encode_batch(texts) == [tokenizer.encode(text) for text in texts]
    assert tokenizer.encode_batch([]) == []
    with pytest.raises(InvalidOption, match="3 texts came with 2 languages"):
        tokenizer.encode_batch(texts, languages[:2])


def test_a_large_batch_equals_single_texts(tokenizer: NllbTokenizer, sentences: list[str]) -> None:
    texts = sentences * 6
    assert tokenizer.encode_pieces(texts) == [tokenizer.encode_pieces([text])[0] for text in texts]


def test_padding_fills_up_at_the_right(tokenizer: NllbTokenizer) -> None:
    ids, keep = tokenizer.pad([[5, 2], [], [7, 8, 9]])
    assert ids == [[5, 2, 1], [1, 1, 1], [7, 8, 9]]
    assert keep == [[True, True, False], [False, False, False], [True, True, True]]
    assert tokenizer.pad([]) == ([], [])


@pytest.mark.parametrize("text", SPECIAL_TEXTS)
def test_special_tokens_in_a_text_stay_text(tokenizer: NllbTokenizer, text: str) -> None:
    for around in (text, f"x{text}y", f"The {text} train"):
        [pieces] = tokenizer.encode_pieces([around])
        assert all(4 <= i <= tokenizer.vocabulary for i in pieces)
        assert tokenizer.decode(pieces) == around
        assert tokenizer.encode(around) == [1547, *pieces, 2]


@pytest.mark.parametrize("text", ["", " ", "\t\n\r\n", "\u3000\u00a0", "\0", "▁", "\u200b"])
def test_text_without_content_has_no_pieces(tokenizer: NllbTokenizer, text: str) -> None:
    assert tokenizer.encode(text) == [1547, 2]


@pytest.mark.parametrize("control", ["\0", "\x01", "\x0b", "\x0c", "\x1f", "\t", "\n", "\r", "▁"])
def test_control_characters_and_the_space_mark_are_spaces(tokenizer: NllbTokenizer, control: str) -> None:
    assert tokenizer.encode(f"The{control}train{control}") == tokenizer.encode("The train")
    assert tokenizer.encode(f"{control}Züge{control}") == tokenizer.encode("Züge")


def test_lone_surrogate_is_an_error_with_its_place(tokenizer: NllbTokenizer) -> None:
    with pytest.raises(InvalidText, match=r"^the text has a lone surrogate U\+D83D at position 3"):
        tokenizer.encode("abc\ud83d")
    with pytest.raises(InvalidText, match=r"^text 1 of the batch .* U\+DE00 at position 0"):
        tokenizer.encode_batch(["fine", "\ude00"])


@pytest.mark.parametrize("text", [b"bytes", None, 3, ["nested"]])
def test_what_is_no_str_is_an_error(tokenizer: NllbTokenizer, text: object) -> None:
    with pytest.raises(InvalidText, match=f"of type {type(text).__name__}"):
        tokenizer.encode(text)  # type: ignore[arg-type]
    with pytest.raises(InvalidText, match="text 1 of the batch"):
        tokenizer.encode_pieces(["fine", text])  # type: ignore[list-item]


def test_a_single_str_is_no_batch(tokenizer: NllbTokenizer) -> None:
    with pytest.raises(InvalidText, match="put it in a list"):
        tokenizer.encode_pieces("Hello")


# Ids to text


def test_decoding_gives_back_the_normalised_text(
    tokenizer: NllbTokenizer, spm: SentencePieceProcessor, sentences: list[str]
) -> None:
    rows = tokenizer.encode_batch(sentences)
    wanted = [spm.normalize(line).replace("▁", " ").strip() for line in sentences]
    assert tokenizer.decode_batch(rows) == wanted
    # Most of the sentences are in normal form already.
    assert sum(a == b for a, b in zip(wanted, sentences, strict=True)) > 100


def test_decoding_agrees_with_sentencepiece(
    tokenizer: NllbTokenizer, spm: SentencePieceProcessor, sentences: list[str]
) -> None:
    space = tokenizer.token_to_id("▁")
    assert space is not None
    for row in tokenizer.encode_pieces(sentences):
        odd = [space, space, *row[::-1], space]
        assert tokenizer.decode(odd) == spm.decode([i - 1 for i in odd])


def test_special_tokens_are_left_out_or_shown(tokenizer: NllbTokenizer) -> None:
    [pieces] = tokenizer.encode_pieces(["The train"])
    ids = [2, 1557, *pieces, 3, 2, 1, 1703, 1704, 1705]
    assert tokenizer.decode(ids) == "The train"
    assert tokenizer.decode(ids, skip_special=False) == (
        "</s>fra_Latn The train<unk></s><pad><mask><MMT_BT_DATA><SMT_BT_DATA>"
    )
    assert tokenizer.decode([]) == ""


@pytest.mark.parametrize("wrong", [-1, -100, 1706, 10**9])
def test_id_out_of_range_is_an_error(tokenizer: NllbTokenizer, wrong: int) -> None:
    with pytest.raises(InvalidText, match=f"^{wrong} is no token id .* from 0 to 1705"):
        tokenizer.decode([4, wrong])
    with pytest.raises(InvalidText, match=f"^{wrong} "):
        tokenizer.id_to_token(wrong)


def test_id_that_is_no_integer_is_an_error(tokenizer: NllbTokenizer) -> None:
    with pytest.raises(InvalidText, match="must be integers"):
        tokenizer.decode([4.5])  # type: ignore[list-item]


# Files


def test_a_saved_tokenizer_opens_again(
    tokenizer: NllbTokenizer, sentences: list[str], tmp_path: Path
) -> None:
    tokenizer.save(tmp_path / "new")
    again = NllbTokenizer.from_folder(tmp_path / "new", src_lang="eng_Latn")
    assert again.encode_batch(sentences) == tokenizer.encode_batch(sentences)
    assert again.tokens(range(1706)) == tokenizer.tokens(range(1706))


def test_a_tokenizer_goes_to_another_process(tokenizer: NllbTokenizer, sentences: list[str]) -> None:
    again = pickle.loads(pickle.dumps(tokenizer))
    assert again.encode_batch(sentences) == tokenizer.encode_batch(sentences)
    assert again.src_lang == "eng_Latn"


def test_a_folder_without_tokenizer_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"neither tokenizer\.json nor sentencepiece\.bpe\.model"):
        NllbTokenizer.from_folder(tmp_path)


def test_libraries_are_imported_when_a_file_needs_them(spm_folder: Path, json_folder: Path) -> None:
    code = (
        "import sys; from dragoman.text.tokenizers import NllbTokenizer; "
        "assert not {'tokenizers', 'sentencepiece'} & set(sys.modules); "
        "NllbTokenizer.from_folder(sys.argv[1], src_lang='eng_Latn').encode('Hello'); "
        "assert not {'torch', 'transformers', 'numpy', sys.argv[2]} & set(sys.modules), sorted(sys.modules)"
    )
    # A tokenizer.json needs both: its character rules are SentencePiece's.
    for folder, unwanted in ((spm_folder, "tokenizers"), (json_folder, "numpy")):
        subprocess.run([sys.executable, "-c", code, str(folder), unwanted], check=True)
