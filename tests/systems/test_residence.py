"""Whatever of a packed model is in memory, it writes the same; what is damaged is named."""

import os
import pickle
import re
import threading
from pathlib import Path

import numpy as np
import pytest

from dragoman.checkpoints.catalog import embedded_folder
from dragoman.checkpoints.packed_folders import PackedModel, open_packed
from dragoman.errors import CheckpointError, NotEnoughMemory
from dragoman.generation.engine import Engine
from dragoman.generation.hypotheses import Array
from dragoman.generation.scores import log_softmax
from dragoman.kernels.library import kernels
from dragoman.models.config import NllbConfig
from dragoman.models.prompt import Prompt
from dragoman.native.nllb import NativeNllb
from dragoman.store import pieces
from dragoman.systems.converting import convert
from dragoman.systems.placement import place_packed
from dragoman.systems.residence import SIDES, FolderWeights, share_slots
from dragoman.translation.translator import Translator

pytestmark = pytest.mark.skipif(kernels() is None, reason="there are no native kernels here")
SHARES = (1.0, 0.5, 0.2, 0.05)
SPARSE = NllbConfig.from_folder(embedded_folder()).sparse_layers("decoder")
DAMAGED = f"decoder.layers.{SPARSE[-1]}.ffn.experts.expert_0"
"""One that the first token of every sentence visits."""


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The embedded model in two precisions."""
    base = tmp_path_factory.mktemp("packed")
    for precision in ("int8", "fp32"):
        convert(embedded_folder(), base / precision, precision, "mini")
    return {precision: base / precision for precision in ("int8", "fp32")}


@pytest.fixture
def damaged(folders: dict[str, Path], tmp_path: Path) -> Path:
    """With a bit of an expert turned over."""
    folder = tmp_path / "damaged"
    folder.mkdir()
    for file in folders["int8"].iterdir():
        (folder / file.name).write_bytes(file.read_bytes())
    packed = open_packed(folder)
    extent = packed.tensors[f"{DAMAGED}.fc2.data"].extent
    assert extent is not None
    with extent.file.open("r+b") as file:
        file.seek(extent.start + 1000)
        byte = file.read(1)[0]
        file.seek(extent.start + 1000)
        file.write(bytes([byte ^ 4]))
    return folder


def expert_bytes(packed: PackedModel) -> int:
    names = [names for side in SIDES for names in packed.experts(side).values()]
    return sum(packed.piece(each).bytes for each in names)


def scarce(folder: Path) -> int:
    """Memory for a sentence, all but the experts, and a third of these."""
    packed = open_packed(folder)
    least = place_packed(packed.config, "int8", packed.bytes(), "cpu").budget.least
    return packed.bytes() - packed.expert_bytes() * 2 // 3 + least


def model(folder: Path, share: float | None) -> NativeNllb:
    packed = open_packed(folder)
    room = None if share is None else int(share * expert_bytes(packed))
    return NativeNllb(packed.config, FolderWeights(packed, room))


def decode(model: NativeNllb) -> list[Array]:
    """Log-probabilities of a few steps of several sentences."""
    rng = np.random.default_rng(3)
    pieces = model.config.vocab_size - 206
    keep = np.arange(11) < np.array([11, 4, 7, 2, 9])[:, None]
    ids = np.where(keep, rng.integers(4, pieces, (5, 11)), 1)
    state = model.begin(Prompt(ids, keep))
    found = []
    language = np.array([[2, pieces + 5]] * 5)
    for tokens in (language, rng.integers(4, pieces, (5, 1)), rng.integers(4, pieces, (5, 1))):
        found.append(log_softmax(model.step(tokens, state).logits()))
    return found


@pytest.mark.parametrize("precision", ["int8", "fp32"])
def test_scores_are_the_same_bits_however_many_experts_are_in_memory(
    folders: dict[str, Path], precision: str
) -> None:
    expected = decode(model(folders[precision], None))
    for share in SHARES:
        stored = model(folders[precision], share)
        for _ in range(2):
            for ours, reference in zip(decode(stored), expected, strict=True):
                assert np.array_equal(ours, reference)
        store = stored.weights.store  # type: ignore[attr-defined]
        few = [len(shelf.slots) < len(shelf.pieces) for shelf in store.shelves]
        assert any(few) == (share < 1)
        assert all(shelf.tally.evictions for shelf, is_few in zip(store.shelves, few, strict=True) if is_few)


def test_translations_are_the_same_within_any_memory(
    folders: dict[str, Path], tatoeba: dict[str, list[tuple[str, str]]]
) -> None:
    texts = [text for code in ("de", "es", "fr", "nl") for text, _ in tatoeba[code][:8]]
    with Translator.load(folders["int8"]) as mapped:
        assert mapped.system.runner.weights.room is None
        expected = [str(text) for text in mapped.translate(texts, target="en")]
    with Translator.load(folders["int8"], memory=scarce(folders["int8"])) as stored:
        assert stored.system.runner.weights.room is not None
        assert [str(text) for text in stored.translate(texts, target="en")] == expected


@pytest.mark.slow
def test_five_hundred_sentences_are_the_same_with_any_share_of_the_experts(
    folders: dict[str, Path], tatoeba: dict[str, list[tuple[str, str]]]
) -> None:
    texts = [text for code in ("de", "es", "fr", "nl") for text, _ in tatoeba[code][:125]]
    with Translator.load(folders["int8"]) as translator:
        system = translator.system
        expected = [str(text) for text in translator.translate(texts, target="en")]
        for share in SHARES:
            runner = model(folders["int8"], share)
            system.engine = Engine(runner, pad=system.tokenizer.pad_id, eos=system.tokenizer.eos_id)
            assert [str(text) for text in translator.translate(texts, target="en")] == expected
            system.engine.close()


def test_passes_from_several_threads_take_turns(folders: dict[str, Path]) -> None:
    stored = model(folders["int8"], 0.2)
    expected = decode(model(folders["int8"], None))
    results: list[list[Array]] = []
    threads = [threading.Thread(target=lambda: results.append(decode(stored))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(results) == 4
    for found in results:
        assert all(np.array_equal(*pair) for pair in zip(found, expected, strict=True))


def test_a_pickled_model_opens_its_folder_again(folders: dict[str, Path]) -> None:
    stored = model(folders["int8"], 0.2)
    again = pickle.loads(pickle.dumps(stored))
    assert again.weights.room == stored.weights.room  # type: ignore[attr-defined]
    assert all(np.array_equal(*pair) for pair in zip(decode(again), decode(stored), strict=True))


@pytest.mark.parametrize("kind", ["mapped", "stored"])
def test_a_damaged_expert_is_named_and_nothing_wrong_is_written(
    damaged: Path, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pieces, "PAUSES", (0.0,))
    texts = ["Where is the station?", "Good night.", "I have time."] * 4
    named = pytest.raises(CheckpointError, match=f"{re.escape(DAMAGED)}.*checksum")
    memory = scarce(damaged) if kind == "stored" else None
    with Translator.load(damaged, memory=memory) as translator, named:
        translator.translate(texts, "en", "fr")


def test_after_an_expert_could_not_be_read_the_others_are_still_themselves(
    damaged: Path, folders: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pieces, "PAUSES", (0.0,))
    expected = decode(model(folders["int8"], None))
    for share in (0.5, 0.2):
        stored = model(damaged, share)
        for _ in range(3):
            with pytest.raises(CheckpointError, match="expert_0"):
                decode(stored)
        whole = (folders["int8"] / "packed.safetensors").read_bytes()
        broken = (damaged / "packed.safetensors").read_bytes()
        with (damaged / "packed.safetensors").open("r+b") as file:  # in place: it is open
            file.write(whole)
        for ours, reference in zip(decode(stored), expected, strict=True):
            assert np.array_equal(ours, reference)
        with (damaged / "packed.safetensors").open("r+b") as file:
            file.write(broken)


def test_a_file_that_was_cut_off_is_refused_when_it_is_opened(damaged: Path) -> None:
    file = damaged / "packed.safetensors"
    os.truncate(file, file.stat().st_size - 1)
    with pytest.raises(CheckpointError, match=r"packed\.safetensors.*truncated or damaged"):
        open_packed(damaged)


def test_experts_that_do_not_fit_get_what_the_rest_leaves(folders: dict[str, Path]) -> None:
    packed = open_packed(folders["int8"])
    experts = packed.expert_bytes(), sum(len(packed.experts(side)) for side in SIDES)
    rest, little = packed.bytes() - experts[0], scarce(folders["int8"])
    assert place_packed(packed.config, "int8", packed.bytes(), "cpu", experts=experts).experts is None
    placed = place_packed(packed.config, "int8", packed.bytes(), "cpu", memory=little, experts=experts)
    assert placed.experts is not None
    assert rest + placed.experts + placed.budget.least <= little
    assert placed.budget.weights == rest + placed.experts
    least = rest + placed.budget.least
    with pytest.raises(NotEnoughMemory, match=r"two experts \d.*MB.*lower precision"):
        place_packed(packed.config, "int8", packed.bytes(), "cpu", memory=least, experts=experts)


@pytest.mark.parametrize(
    ("room", "decoder", "encoder"),
    [(1000, 8, 16), (200, 8, 12), (160, 8, 8), (150, 8, 7), (80, 6, 2), (20, 1, 1)],
)
def test_a_decoder_keeps_its_experts_if_the_encoder_gets_some(room: int, decoder: int, encoder: int) -> None:
    found = share_slots(room, {"encoder": (16, 10), "decoder": (8, 10)})
    assert found == {"decoder": decoder, "encoder": encoder}
