"""Dense NLLB-200, M2M-100 or SMaLL-100: which one a folder is, and what it speaks."""

import json
import shutil
from pathlib import Path

import pytest

from dragoman.checkpoints.cards import ModelCard, read_card
from dragoman.checkpoints.catalog import KNOWN, find_card
from dragoman.checkpoints.families import card_of, family_of, has_tokenizer, is_whole
from dragoman.errors import ConfigError
from dragoman.text.tokenizers.m2m100 import M2M100_LANGUAGES


def edit(path: Path, **fields: object) -> None:
    data = json.loads(path.read_text()) if path.is_file() else {}
    path.write_text(json.dumps(data | fields))


@pytest.fixture
def dense(tmp_path: Path) -> Path:
    """A folder that says no more than that its model is dense, with as many layers on both sides."""
    folder = tmp_path / "model"
    folder.mkdir()
    edit(folder / "config.json", model_type="m2m_100", encoder_layers=12, decoder_layers=12)
    return folder


def test_dense_model_without_vocabulary_file_is_nllb(dense: Path) -> None:
    (dense / "sentencepiece.bpe.model").touch()
    assert family_of(dense).name == "NLLB"
    edit(dense / "config.json", decoder_layers=3)
    assert family_of(dense).name == "NLLB"


def test_vocabulary_file_makes_it_m2m100(dense: Path) -> None:
    (dense / "vocab.json").touch()
    assert family_of(dense).name == "M2M-100"


@pytest.mark.parametrize(
    ("name", "family"),
    [("NllbTokenizer", "NLLB"), ("NllbTokenizerFast", "NLLB"), ("M2M100Tokenizer", "M2M-100")],
)
def test_class_of_the_tokenizer_decides(dense: Path, name: str, family: str) -> None:
    edit(dense / "tokenizer_config.json", tokenizer_class=name)
    assert family_of(dense).name == family


def test_class_or_code_of_its_tokenizer_makes_it_small100(dense: Path) -> None:
    edit(dense / "tokenizer_config.json", tokenizer_class="SMALL100Tokenizer")
    assert family_of(dense).name == "SMaLL-100"
    edit(dense / "tokenizer_config.json", tokenizer_class="M2M100Tokenizer")
    (dense / "tokenization_small100.py").touch()
    assert family_of(dense).name == "SMaLL-100"


@pytest.mark.parametrize("where", ["folder", "cache", "config", "tokenizer"])
def test_name_and_small_decoder_make_it_small100(dense: Path, where: str) -> None:
    (dense / "vocab.json").touch()
    edit(dense / "config.json", decoder_layers=3)
    if where == "folder":
        dense = dense.rename(dense.parent / "SMaLL-100-ours")
    elif where == "cache":
        snapshots = dense.parent / "models--alirezamsh--small100" / "snapshots"
        snapshots.mkdir(parents=True)
        dense = dense.rename(snapshots / "0123456789abcdef")
    elif where == "config":
        edit(dense / "config.json", _name_or_path="/checkpoints/fairseq/hf_small100")
    else:
        edit(dense / "tokenizer_config.json", name_or_path="alirezamsh/small100")
    assert family_of(dense).name == "SMaLL-100"


@pytest.mark.parametrize("half", ["name", "shape"])
def test_half_of_the_signs_is_no_guess_but_an_error_until_the_card_decides(dense: Path, half: str) -> None:
    (dense / "vocab.json").touch()
    sign = {"_name_or_path": "alirezamsh/small100"} if half == "name" else {"decoder_layers": 3}
    edit(dense / "config.json", **sign)
    with pytest.raises(
        ConfigError, match=r'dragoman\.json in this folder: {"family": "M2M-100"} or {"family"'
    ):
        family_of(dense)
    for family in ("M2M-100", "SMaLL-100"):
        edit(dense / "dragoman.json", family=family)
        assert family_of(dense).name == family
        assert read_card(dense) is None
        assert card_of(dense, dense).family == family


def test_card_overrules_all_other_signs(dense: Path) -> None:
    edit(dense / "tokenizer_config.json", tokenizer_class="NllbTokenizer")
    edit(dense / "dragoman.json", name="x", languages=["en", "br"], max_source_tokens=9, family="SMaLL-100")
    assert family_of(dense).name == "SMaLL-100"
    wanted = ModelCard("x", ("eng_Latn", "bre_Latn"), 9, family="SMaLL-100")
    assert card_of(dense, dense) == wanted


@pytest.mark.parametrize("family", ["X-ALMA", "M2M", ""])
def test_family_that_cannot_be_is_refused(dense: Path, family: str) -> None:
    edit(dense / "dragoman.json", family=family)
    with pytest.raises(ConfigError, match="can be of these: 'NLLB', 'M2M-100', 'SMaLL-100'"):
        family_of(dense)


def test_family_that_is_no_text_is_refused(dense: Path) -> None:
    edit(dense / "dragoman.json", family=3)
    with pytest.raises(ConfigError, match="family is 3"):
        family_of(dense)


def test_unknown_type_lists_each_known_one_once(dense: Path) -> None:
    edit(dense / "config.json", model_type="bert")
    with pytest.raises(ConfigError, match=r"known: 'm2m_100', 'nllb-moe', 'llama', 'xalma'$"):
        family_of(dense)


def test_m2m100_speaks_a_hundred_languages_under_a_free_licence(m2m100: Path, small100: Path) -> None:
    card = find_card(m2m100)
    assert card.languages == tuple(M2M100_LANGUAGES.values()) == find_card(small100).languages
    assert card.licence == find_card(small100).licence == "MIT (commercial use allowed)"
    assert (card.max_source_tokens, card.pivot, card.family) == (250, None, "M2M-100")
    assert find_card(small100).family == "SMaLL-100"


@pytest.mark.parametrize("absent", ["vocab.json", "sentencepiece.bpe.model", "pytorch_model.bin"])
def test_whole_model_has_both_files_of_its_tokenizer(m2m100: Path, tmp_path: Path, absent: str) -> None:
    folder = Path(shutil.copytree(m2m100, tmp_path / "m2m"))
    edit(folder / "tokenizer_config.json", tokenizer_class="M2M100Tokenizer")
    assert is_whole(folder)
    (folder / absent).unlink()
    assert not is_whole(folder)
    assert has_tokenizer(folder) is (absent == "pytorch_model.bin")


def test_published_models_are_known_with_a_free_licence() -> None:
    free = {model.name: model for model in KNOWN if "commercial use allowed" in model.licence}
    assert {model.repository for model in free.values()} == {
        "facebook/m2m100_418M",
        "facebook/m2m100_1.2B",
        "alirezamsh/small100",
    }
    assert list(free) == ["m2m100_418M", "m2m100_1.2B", "small100"]
