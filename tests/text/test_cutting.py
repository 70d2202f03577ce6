"""Tokenizers with fewer pieces cut what needs no other piece as before, and spell the rest."""

import json
import random
from itertools import chain
from pathlib import Path

import pytest
from tokenizers import Tokenizer

from dragoman.checkpoints.catalog import embedded_folder
from dragoman.errors import CheckpointError
from dragoman.languages import find
from dragoman.text.tokenizers import MultilingualTokenizer, NllbTokenizer
from dragoman.text.tokenizers.cutting import CutTokenizer, cut_tokenizer
from dragoman.text.tokenizers.m2m100 import M2m100Tokenizer
from dragoman.text.tokenizers.spm_file import to_tokenizer_json
from dragoman.text.vocabulary import target_vocabulary

SPM, JSON = "sentencepiece.bpe.model", "tokenizer.json"


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The embedded model's tokenizer in both kinds of files, with those that lie beside published ones."""
    folder = tmp_path_factory.mktemp("whole")
    (folder / SPM).write_bytes((embedded_folder() / SPM).read_bytes())
    to_tokenizer_json(folder / SPM, folder / JSON)
    french = NllbTokenizer.from_folder(folder).language_id("fr")
    data = json.loads((folder / JSON).read_text(encoding="utf-8"))
    template = {"eng_Latn": {"id": "eng_Latn", "ids": [french - 1], "tokens": ["eng_Latn"]}}
    own = {"Sequence": {"id": "A", "type_id": 0}}
    data["post_processor"] = {
        "type": "TemplateProcessing",
        "single": [{"SpecialToken": {"id": "eng_Latn", "type_id": 0}}, own],
        "pair": [own, {"Sequence": {"id": "B", "type_id": 0}}],
        "special_tokens": template,
    }
    (folder / JSON).write_text(json.dumps(data), encoding="utf-8")
    settings = {"max_length": 200, "eos_token_id": 2, "forced_bos_token_id": french, "bad_words_ids": None}
    (folder / "generation_config.json").write_text(json.dumps(settings))
    return folder


def opened(cut: CutTokenizer, folder: Path, *names: str) -> Path:
    folder.mkdir()
    for name, content in cut.files.items():
        if not names or name in names:
            (folder / name).write_bytes(content)
    return folder


def cut_for(tokenizer: MultilingualTokenizer, folder: Path, lines: list[str]) -> CutTokenizer:
    return cut_tokenizer(tokenizer, folder, set(chain(*tokenizer.encode_pieces(lines))))


@pytest.mark.parametrize("kind", [SPM, JSON])
def test_text_is_cut_as_before(kind: str, published: Path, sentences: list[str], tmp_path: Path) -> None:
    whole = NllbTokenizer.from_folder(published)
    kept, others = sentences[::2], sentences[1::2]
    cut = cut_for(whole, published, kept)
    fewer = NllbTokenizer.from_folder(opened(cut, tmp_path / "cut", kind))
    assert len(cut.ids.kept) + 4 == fewer.vocabulary + 1 < whole.vocabulary
    for one, other in zip(whole.encode_pieces(kept), fewer.encode_pieces(kept), strict=True):
        assert fewer.tokens(other) == whole.tokens(one)
        assert other == [cut.ids(i) for i in one]
    spelled = fewer.encode_pieces(others)
    assert spelled != [[cut.ids(i) for i in row] for row in whole.encode_pieces(others)]
    assert fewer.decode_batch(spelled) == whole.decode_batch(whole.encode_pieces(others))


def test_both_kinds_of_files_are_cut_alike(published: Path, sentences: list[str], tmp_path: Path) -> None:
    cut = cut_for(NllbTokenizer.from_folder(published), published, sentences[::3])
    one = NllbTokenizer.from_folder(opened(cut, tmp_path / "spm", SPM))
    other = NllbTokenizer.from_folder(opened(cut, tmp_path / "json", JSON))
    assert one.tokens(range(len(one))) == other.tokens(range(len(other)))
    assert one.encode_pieces(sentences) == other.encode_pieces(sentences)
    shuffled = random.Random(1).sample("".join(sentences), 2000)
    assert one.encode("".join(shuffled), "en") == other.encode("".join(shuffled), "en")


def test_all_that_has_an_id_has_its_new_one(published: Path, sentences: list[str], tmp_path: Path) -> None:
    whole = NllbTokenizer.from_folder(published)
    cut = cut_for(whole, published, sentences[:50])
    folder = opened(cut, tmp_path / "cut")
    fewer = NllbTokenizer.from_folder(folder)
    assert list(fewer.lang_code_to_id) == list(whole.lang_code_to_id)
    rows = cut.ids.rows(whole.layout.rows)
    assert [rows[i] for i in fewer.lang_code_to_id.values()] == list(whole.lang_code_to_id.values())
    assert (rows[fewer.mask_id], len(rows)) == (whole.mask_id, fewer.layout.rows)
    settings = json.loads((folder / "generation_config.json").read_text())
    assert settings == {
        "max_length": 200,
        "eos_token_id": 2,
        "forced_bos_token_id": fewer.language_id("fr"),
        "bad_words_ids": None,
    }
    ready = Tokenizer.from_file(str(folder / JSON)).encode(sentences[0]).ids
    assert ready == [fewer.language_id("fr") - 1, *fewer.encode_pieces([sentences[0]])[0]]
    gone = next(i for i in whole.layout.piece_ids if i not in cut.ids.kept)
    assert cut.ids.settings({"suppress_tokens": [2, gone], "pad_token_id": 1}) == {"pad_token_id": 1}


def test_what_was_added_stays(published: Path, sentences: list[str], tmp_path: Path) -> None:
    model = tmp_path / "taught"
    model.mkdir()
    (model / SPM).write_bytes((published / SPM).read_bytes())
    first = NllbTokenizer.from_folder(published).layout.first_free
    added = {str(first): {"content": "bre_Latn", "special": True}, str(first + 1): {"content": "<formal>"}}
    (model / "tokenizer_config.json").write_text(json.dumps({"added_tokens_decoder": added}))
    whole = NllbTokenizer.from_folder(model)
    cut = cut_for(whole, model, sentences[:50])
    fewer = NllbTokenizer.from_folder(opened(cut, tmp_path / "cut"))
    assert fewer.language_id("bre_Latn") == cut.ids(first)
    text = f"<formal> {sentences[0]}"
    assert fewer.encode(text, "br") == [cut.ids(i) for i in whole.encode(text, "br")]


def test_m2m100s_files_are_cut_too(m2m100: Path, sentences: list[str], tmp_path: Path) -> None:
    whole = M2m100Tokenizer.from_folder(m2m100)
    cut = cut_for(whole, m2m100, sentences[:60])
    fewer = M2m100Tokenizer.from_folder(opened(cut, tmp_path / "cut"))
    assert fewer.vocabulary == len(cut.ids.kept) + 4 < whole.vocabulary
    for text in sentences[:60]:
        assert fewer.encode(text, "de") == [cut.ids(i) for i in whole.encode(text, "de")]
    # Its vocab.json lacks some of the characters that SentencePiece knows.
    spelled = {text: row for text in sentences[60:] if fewer.unk_id not in (row := fewer.encode(text, "de"))}
    assert len(spelled) > 40
    assert all(fewer.decode(row) == whole.decode(whole.encode(text, "de")) for text, row in spelled.items())


def test_a_languages_tokens_hold_its_text(published: Path, tatoeba: dict[str, list[tuple[str, str]]]) -> None:
    whole = NllbTokenizer.from_folder(published)
    cut = cut_tokenizer(whole, published, target_vocabulary(whole, find("fr"), 4000))
    tokens = [i for row in whole.encode_pieces([text for text, _ in tatoeba["fr"]]) for i in row]
    assert sum(cut.ids(i) is not None for i in tokens) > 0.97 * len(tokens)


def test_damaged_files_are_named(published: Path, tmp_path: Path) -> None:
    whole = NllbTokenizer.from_folder(published)
    (tmp_path / SPM).write_bytes(b"nonsense")
    with pytest.raises(CheckpointError, match=r"sentencepiece\.bpe\.model is no SentencePiece model"):
        cut_tokenizer(whole, tmp_path, [5])
