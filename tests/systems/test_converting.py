"""A packed model writes what the plain one writes, opens without PyTorch, and knows what it is."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from dragoman.checkpoints.catalog import embedded_folder, find_card
from dragoman.checkpoints.families import is_whole
from dragoman.checkpoints.module_files import extract_base, extract_module, merge
from dragoman.checkpoints.packed_folders import open_packed
from dragoman.errors import CheckpointError, InvalidOption, LanguageModuleError, NotEnoughMemory
from dragoman.kernels.library import kernels
from dragoman.kernels.packing import PRECISIONS
from dragoman.native.nllb import NativeNllb
from dragoman.systems import placement
from dragoman.systems.converting import convert
from dragoman.translation.translator import Translator

pytestmark = [
    pytest.mark.skipif(kernels() is None, reason="there are no native kernels here"),
    pytest.mark.filterwarnings("ignore::dragoman.errors.TranslationWarning"),  # some models are random
]
SHORT = {"max_new_tokens": 10, "beams": 2}


@pytest.fixture(scope="module")
def mini(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The embedded model in int8."""
    output = tmp_path_factory.mktemp("packed") / "mini-int8"
    convert(embedded_folder(), output, "int8", "mini")
    return output


@pytest.mark.parametrize("precision", PRECISIONS)
def test_translations_are_those_of_the_model_it_was_made_from(
    precision: str, mini: Path, tatoeba: dict[str, list[tuple[str, str]]], tmp_path: Path
) -> None:
    folder = mini
    if precision != "int8":
        folder = tmp_path / "packed"
        convert(embedded_folder(), folder, precision, "mini")
    texts = [text for code in ("de", "es", "fr", "nl") for text, _ in tatoeba[code][:5]]
    with Translator.load(folder) as packed, Translator.load(precision=precision, device="cpu") as plain:
        assert isinstance(packed.system.runner, NativeNllb)
        assert packed.system.precision == precision
        assert packed.card == plain.card
        found, expected = packed.translate(texts, target="en"), plain.translate(texts, target="en")
        assert [str(text) for text in found] == [str(text) for text in expected]


def test_a_packed_model_is_opened_and_used_without_pytorch(mini: Path) -> None:
    code = (
        "import sys; from dragoman import Translator; "
        f"print(Translator.load({str(mini)!r}).translate('Good night.', 'en', 'fr')); "
        "assert 'torch' not in sys.modules"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert found.returncode == 0, found.stderr
    assert found.stdout.strip()


def test_a_packed_folder_is_a_model_like_others(mini: Path) -> None:
    assert is_whole(mini)
    assert find_card(mini) == find_card("mini")
    (broken := mini.parent / "broken").mkdir()
    for path in mini.iterdir():
        if path.suffix != ".safetensors":
            shutil.copy(path, broken)
    assert not is_whole(broken)


def test_the_vocabulary_can_be_restricted(mini: Path) -> None:
    with Translator.load(mini, vocabulary=2000) as translator:
        assert translator.translate("Good night.", "en", "de").strip()


def test_another_precision_is_refused(mini: Path) -> None:
    with pytest.raises(InvalidOption, match=r"packed in int8; convert the model anew"):
        Translator.load(mini, precision="int4")
    assert Translator.load(mini, precision="int8").system.precision == "int8"


def test_without_kernels_there_is_a_word_on_what_to_install(
    mini: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dragoman.kernels.library.kernels", lambda: None)
    with pytest.raises(InvalidOption, match=r"compiled kernels are needed.*C compiler"):
        Translator.load(mini)


def test_other_devices_are_refused(mini: Path) -> None:
    with pytest.raises(InvalidOption, match="runs on the CPU alone"):
        placement.place_packed(open_packed(mini).config, "int8", 1, "cuda")


def test_weights_count_towards_the_memory(mini: Path) -> None:
    packed = open_packed(mini)
    size = packed.bytes()
    assert 0.8 < size / (mini / "packed.safetensors").stat().st_size < 1
    placed = placement.place_packed(packed.config, "int8", size, "cpu")
    assert placed.budget.weights == size
    with pytest.raises(NotEnoughMemory, match=r"take .* in int8.*lower precision"):
        Translator.load(mini, memory="15MB")


def answers(folder: Path, adapter: bool = False) -> list[str]:
    with Translator.load(folder, device="cpu", precision="int8") as translator:
        pairs = [("Good night.", "en", "zh"), ("Good day.", "en", "ja" if adapter else "de")]
        return [str(translator.translate(*pair, **SHORT)) for pair in pairs]


def test_modules_of_a_combined_checkpoint_are_attached_when_needed(combined: Path, tmp_path: Path) -> None:
    convert(combined, tmp_path / "packed", "int8", "X-ALMA")
    packed = open_packed(tmp_path / "packed")
    assert sorted(packed.scales) == list(range(1, 9))
    with Translator.load(tmp_path / "packed") as translator:
        assert len(translator.languages) == 50
        assert translator.system.modules.groups() == ()
        translator.translate("Good night.", "en", "zh", **SHORT)
        assert translator.system.modules.groups() == (6,)
        used = translator.system.runner.weights.parts._made
        assert {name.rpartition(".")[2] for name in used if "_lora_" in name} == {"6"}
        assert translator.system.style == "chat"
        assert translator.ask("Why?", "de", max_new_tokens=5) is not None
    assert answers(tmp_path / "packed") == answers(combined)


def test_modules_that_the_config_does_not_know_are_refused(combined: Path, tmp_path: Path) -> None:
    convert(combined, tmp_path / "packed", "int4", "X-ALMA")
    path = tmp_path / "packed" / "config.json"
    config = json.loads(path.read_text())
    config["dragoman"]["modules"].pop("3")
    path.write_text(json.dumps(config))
    with pytest.raises(CheckpointError, match=r"of the groups \[1, 2, 3, .*by its config\.json of \[1, 2, 4"):
        Translator.load(tmp_path / "packed")


def test_modules_count_towards_the_memory(combined: Path, tmp_path: Path) -> None:
    convert(combined, tmp_path / "packed", "int8", "X-ALMA")
    with Translator.load(tmp_path / "packed") as translator:
        system = translator.system
        translator.translate("Good night.", "en", "zh", **SHORT)
        assert system.modules._budget.modules == open_packed(tmp_path / "packed").bytes(6) > 0


@pytest.mark.parametrize("is_packed", [False, True])
def test_modules_come_and_go_where_memory_is_short(combined: Path, tmp_path: Path, is_packed: bool) -> None:
    folder = combined
    if is_packed:
        convert(combined, folder := tmp_path / "packed", "int8", "X-ALMA")
    targets = ["zh", "de", "ja", "zh", "fr"]
    with Translator.load(folder, device="cpu", precision="int8") as whole:
        expected = [str(whole.translate("Good night.", "en", target, **SHORT)) for target in targets]
    with Translator.load(folder, device="cpu", precision="int8") as translator:
        budget = translator.system.modules._budget
        translator.translate("Good night.", "en", "zh", **SHORT)
        budget.most = budget.usual = budget.weights + budget.least + budget.modules
        for target, wanted in zip(targets, expected, strict=True):
            assert str(translator.translate("Good night.", "en", target, **SHORT)) == wanted
            assert len(translator.system.modules.groups()) == 1


def test_merged_weights_stay_those_of_their_group(combined: Path, tmp_path: Path) -> None:
    merge(combined, tmp_path / "merged", 6)
    convert(tmp_path / "merged", tmp_path / "packed", "int8")
    assert open_packed(tmp_path / "packed").merged == 6
    assert answers(tmp_path / "packed", adapter=True)[0] == answers(tmp_path / "merged", adapter=True)[0]
    with Translator.load(tmp_path / "packed") as translator:
        assert [each.short_code for each in translator.languages] == [
            each.short_code for each in Translator.load(tmp_path / "merged", device="cpu").languages
        ]
        with pytest.raises(LanguageModuleError, match="group 6 is merged"):
            translator.system.runner.language.check([1])


def test_an_adapter_is_packed_with_its_base(combined: Path, tmp_path: Path) -> None:
    extract_base(combined, tmp_path / "base")
    extract_module(combined, 6, tmp_path / "adapter", str(tmp_path / "base"))
    convert(tmp_path / "adapter", tmp_path / "packed", "int8")
    packed = open_packed(tmp_path / "packed")
    assert list(packed.scales) == [6]
    with Translator.load(tmp_path / "packed") as translator:
        found = str(translator.translate("Good night.", "en", "zh", **SHORT))
    with Translator.load(tmp_path / "adapter", device="cpu", precision="int8") as plain:
        assert found == str(plain.translate("Good night.", "en", "zh", **SHORT))
    with (
        Translator.load(tmp_path / "packed") as translator,
        pytest.raises(LanguageModuleError, match=r"holds no module of group 1; groups there: 6"),
    ):
        translator.system.modules.require(1)


def test_an_adapter_of_nllb_is_applied(tmp_path: Path) -> None:
    base = tmp_path / "base"
    shutil.copytree(embedded_folder(), base)
    weight = "encoder.layers.0.self_attn.q_proj.weight"
    stored = load_file(base / "model.safetensors")
    key = next(name for name in stored if name.endswith(weight))
    outputs, inputs = stored[key].shape
    generator = torch.Generator().manual_seed(0)
    name = f"base_model.model.{key.removesuffix('.weight')}"
    save = {
        f"{name}.lora_A.weight": torch.randn(2, inputs, generator=generator),
        f"{name}.lora_B.weight": torch.randn(outputs, 2, generator=generator),
    }
    adapter = tmp_path / "adapter"
    adapter.mkdir()
    save_file(save, adapter / "adapter_model.safetensors")
    config = {"peft_type": "LORA", "task_type": "SEQ_2_SEQ_LM", "r": 2, "lora_alpha": 2}
    config |= {"target_modules": ["q_proj"], "base_model_name_or_path": str(base)}
    config["target_modules"] = [name.removeprefix("base_model.model.")]
    (adapter / "adapter_config.json").write_text(json.dumps(config))
    convert(adapter, tmp_path / "packed", "int8")
    convert(base, tmp_path / "plain", "int8")
    changed, plain = open_packed(tmp_path / "packed"), open_packed(tmp_path / "plain")
    part = weight.removesuffix(".weight")
    assert changed.keys() == plain.keys()
    assert not (changed[part].packed.data == plain[part].packed.data).all()
    with Translator.load(tmp_path / "packed") as one, Translator.load(adapter, precision="int8") as other:
        text = "Where is the station?"
        assert one.translate(text, "en", "fr") == other.translate(text, "en", "fr")


@pytest.mark.parametrize("kind", ["m2m100", "small100"])
def test_a_bin_of_another_family_stays_of_it(
    kind: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    folder = request.getfixturevalue(kind)
    convert(folder, tmp_path / "packed", "fp32")
    with Translator.load(tmp_path / "packed") as one, Translator.load(folder, device="cpu") as other:
        assert type(one.system) is type(other.system)
        pair = ("Good night.", "en", "br")
        assert str(one.translate(*pair, **SHORT)) == str(other.translate(*pair, **SHORT))


def test_what_the_kernels_lack_is_refused(tmp_path: Path) -> None:
    folder = tmp_path / "model"
    shutil.copytree(embedded_folder(), folder)
    config = json.loads((folder / "config.json").read_text())
    config["second_expert_policy"] = "random"
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(InvalidOption, match="kernels don't know"):
        convert(folder, tmp_path / "packed", "int8")
