"""Where a model's name leads; the hub is a folder in the hub's layout."""

import json
import shutil
from pathlib import Path

import huggingface_hub.constants
import pytest

from dragoman.checkpoints.catalog import KNOWN, NLLB_LICENCE, ModelCard, embedded_folder, locate
from dragoman.errors import CheckpointError, ConfigError
from dragoman.languages import nllb_codes

GOLDEN = Path(__file__).parents[1] / "data" / "golden"
REVISION = "0123456789abcdef0123456789abcdef01234567"


@pytest.fixture
def hub(tmp_path, monkeypatch):
    """An empty hub cache, and no network."""
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)

    def put(repository: str, source: Path) -> Path:
        folder = tmp_path / ("models--" + repository.replace("/", "--"))
        (folder / "refs").mkdir(parents=True)
        (folder / "refs" / "main").write_text(REVISION)
        return Path(shutil.copytree(source, folder / "snapshots" / REVISION))

    return put


def test_embedded_model_is_inside_the_package():
    assert locate("mini") == embedded_folder()
    assert (embedded_folder() / "config.json").is_file()


def test_folder_is_taken_as_it_is(tmp_path):
    assert locate(tmp_path) == tmp_path


@pytest.mark.parametrize("name", ["nllb-moe-54b", "facebook/nllb-moe-54b"])
def test_cached_repository_is_used_without_network(hub, name):
    folder = hub("facebook/nllb-moe-54b", GOLDEN / "nllb_moe_base")
    assert locate(name) == folder


def test_repository_that_is_not_cached_says_how_to_get_it(hub):
    with pytest.raises(CheckpointError, match=r"facebook/nllb-200-3\.3B is not in the local cache"):
        locate("nllb-200-3.3B")


def test_half_a_download_does_not_count(hub):
    folder = hub("facebook/nllb-moe-54b", GOLDEN / "nllb_moe_base")
    (folder / "model.safetensors").unlink()
    with pytest.raises(CheckpointError, match="not in the local cache"):
        locate("nllb-moe-54b")


@pytest.mark.parametrize("name", ["nllb", "a/b/c", "./nowhere/x", "~/x"])
def test_name_that_is_nothing_lists_the_models(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(CheckpointError, match="nllb-200-distilled-600M"):
        locate(name)


def test_published_folder_needs_no_card(tmp_path):
    card = ModelCard.from_folder(tmp_path, 1024)
    assert card.languages == nllb_codes()
    assert card.max_source_tokens == 510
    assert card.pivot is None
    assert card.licence == NLLB_LICENCE


def test_card_of_a_folder_is_read(tmp_path):
    data = {"name": "x", "languages": ["eng_Latn", "fra_Latn"], "max_source_tokens": 40, "pivot": "eng_Latn"}
    (tmp_path / "dragoman.json").write_text(json.dumps(data))
    card = ModelCard.from_folder(tmp_path, 1024)
    assert (card.languages, card.max_source_tokens, card.pivot) == (("eng_Latn", "fra_Latn"), 40, "eng_Latn")
    assert card.generation == {}


def test_a_card_may_say_how_its_model_generates(tmp_path):
    data = {"name": "x", "languages": ["eng_Latn"], "max_source_tokens": 40, "generation": {"beams": 5}}
    (tmp_path / "dragoman.json").write_text(json.dumps(data))
    assert ModelCard.from_folder(tmp_path, 1024).generation == {"beams": 5}
    (tmp_path / "dragoman.json").write_text(json.dumps({**data, "generation": 3}))
    with pytest.raises(ConfigError, match="options by name"):
        ModelCard.from_folder(tmp_path, 1024)


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"name": 1}'])
def test_broken_card_is_an_error(tmp_path, text):
    (tmp_path / "dragoman.json").write_text(text)
    with pytest.raises(ConfigError, match="no model card"):
        ModelCard.from_folder(tmp_path, 1024)


def test_every_published_model_names_its_licence():
    assert all("NC" in model.licence for model in KNOWN if "nllb" in model.name)
    assert all(model.licence for model in KNOWN)
