"""Where a model's name leads; the hub is a folder in the hub's layout."""

import json
import shutil
from pathlib import Path

import huggingface_hub.constants
import huggingface_hub.errors
import pytest

from dragoman.checkpoints.cards import NLLB_LICENCE, read_card
from dragoman.checkpoints.catalog import KNOWN, embedded_folder, find_card, locate
from dragoman.checkpoints.families import nllb_card
from dragoman.errors import CheckpointError, ConfigError
from dragoman.languages import nllb_codes

GOLDEN = Path(__file__).parents[1] / "data" / "golden"
REVISION = "0123456789abcdef0123456789abcdef01234567"


@pytest.fixture
def hub(tmp_path, monkeypatch):
    """An empty hub cache, and no network."""
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)

    def put(repository: str, source: Path, *more: str) -> Path:
        folder = tmp_path / ("models--" + repository.replace("/", "--"))
        (folder / "refs").mkdir(parents=True)
        (folder / "refs" / "main").write_text(REVISION)
        snapshot = Path(shutil.copytree(source, folder / "snapshots" / REVISION))
        for name in more:
            (snapshot / name).touch()
        return snapshot

    return put


def test_embedded_model_is_inside_the_package():
    assert locate("mini") == embedded_folder()
    assert (embedded_folder() / "config.json").is_file()


def test_folder_is_taken_as_it_is(tmp_path):
    assert locate(tmp_path) == tmp_path


@pytest.mark.parametrize("name", ["nllb-moe-54b", "facebook/nllb-moe-54b"])
def test_cached_repository_is_used_without_network(hub, name):
    folder = hub("facebook/nllb-moe-54b", GOLDEN / "nllb_moe_base", "sentencepiece.bpe.model")
    assert locate(name) == folder


@pytest.mark.parametrize("name", ["X-ALMA", "haoranxu/X-ALMA"])
def test_cached_xalma_is_used_without_network(hub, name):
    folder = hub("haoranxu/X-ALMA", GOLDEN / "xalma", "tokenizer.model")
    assert locate(name) == locate(name, download=False) == folder


def test_cached_adapter_is_used_without_network(hub):
    folder = hub("somebody/module", GOLDEN / "xalma_group6" / "adapter")
    assert locate("somebody/module") == folder


def test_repository_that_is_not_cached_says_how_to_get_it(hub):
    with pytest.raises(CheckpointError, match=r"facebook/nllb-200-3\.3B is not in the local cache"):
        locate("nllb-200-3.3B")
    with pytest.raises(CheckpointError, match=r"X-ALMA is not in the local cache; download it \(hf download"):
        locate("X-ALMA", download=False)


@pytest.mark.parametrize("absent", ["model.safetensors", "config.json", "sentencepiece.bpe.model"])
def test_half_a_download_does_not_count(hub, absent):
    folder = hub("facebook/nllb-moe-54b", GOLDEN / "nllb_moe_base", "sentencepiece.bpe.model")
    (folder / absent).unlink()
    with pytest.raises(CheckpointError, match="not in the local cache"):
        locate("nllb-moe-54b")


def test_languages_are_those_of_the_family(hub, tmp_path):
    xalma = hub("haoranxu/X-ALMA", GOLDEN / "xalma", "tokenizer.model")
    assert len(find_card(xalma).languages) == len(find_card("X-ALMA").languages) == 50
    assert find_card("mini").languages == read_card(embedded_folder()).languages
    assert find_card(GOLDEN / "nllb_moe_base").languages == nllb_codes()


def test_description_alone_says_the_languages(hub):
    """As when of a repository only the small files were fetched."""
    folder = hub("haoranxu/X-ALMA-13B-Group6", GOLDEN / "xalma_group6" / "base")
    for path in folder.glob("*.safetensors"):
        path.unlink()
    assert "jpn_Jpan" in find_card(folder).languages
    assert len(find_card(folder).languages) == 7


def test_only_descriptions_are_fetched_to_list_languages(hub, monkeypatch, tmp_path):
    asked = []

    def fetch(repository, allow_patterns=None, local_files_only=False):
        if local_files_only:
            raise huggingface_hub.errors.LocalEntryNotFoundError("not there")
        asked.append((repository, allow_patterns))
        return str(GOLDEN / "xalma")

    monkeypatch.setattr(huggingface_hub, "snapshot_download", fetch)
    assert len(find_card("X-ALMA").languages) == 50
    ((repository, patterns),) = asked
    assert repository == "haoranxu/X-ALMA"
    assert all(pattern.endswith(".json") and "*" not in pattern for pattern in patterns)


def test_taught_languages_are_listed(tmp_path):
    shutil.copytree(GOLDEN / "nllb_moe_base", tmp_path, dirs_exist_ok=True)
    listed = {"added_tokens_decoder": {"256204": {"content": "tyv_Cyrl"}, "256205": {"content": "<formal>"}}}
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(listed))
    assert find_card(tmp_path).languages == (*nllb_codes(), "tyv_Cyrl")


@pytest.mark.parametrize("name", ["nllb", "a/b/c", "./nowhere/x", "~/x"])
def test_name_that_is_nothing_lists_the_models(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(CheckpointError, match="nllb-200-distilled-600M"):
        locate(name)


def test_published_folder_needs_no_card(tmp_path):
    assert read_card(tmp_path) is None
    card = nllb_card(tmp_path, {"model_type": "nllb-moe", "max_position_embeddings": 1024})
    assert card.languages == nllb_codes()
    assert card.max_source_tokens == 510
    assert card.pivot is None
    assert card.licence == NLLB_LICENCE


def test_card_of_a_folder_is_read(tmp_path):
    data = {"name": "x", "languages": ["eng_Latn", "fra_Latn"], "max_source_tokens": 40, "pivot": "eng_Latn"}
    (tmp_path / "dragoman.json").write_text(json.dumps(data))
    card = read_card(tmp_path)
    assert (card.languages, card.max_source_tokens, card.pivot) == (("eng_Latn", "fra_Latn"), 40, "eng_Latn")
    assert card.generation == {}


def test_a_card_may_say_how_its_model_generates(tmp_path):
    data = {"name": "x", "languages": ["eng_Latn"], "max_source_tokens": 40, "generation": {"beams": 5}}
    (tmp_path / "dragoman.json").write_text(json.dumps(data))
    assert read_card(tmp_path).generation == {"beams": 5}
    (tmp_path / "dragoman.json").write_text(json.dumps({**data, "generation": 3}))
    with pytest.raises(ConfigError, match="options by name"):
        read_card(tmp_path)


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"name": 1}'])
def test_broken_card_is_an_error(tmp_path, text):
    (tmp_path / "dragoman.json").write_text(text)
    with pytest.raises(ConfigError, match="no model card"):
        read_card(tmp_path)


def test_every_published_model_names_its_licence():
    assert all("NC" in model.licence for model in KNOWN if "nllb" in model.name)
    assert all(model.licence for model in KNOWN)
