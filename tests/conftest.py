"""Fixtures for all tests: the embedded model, and real sentences."""

import asyncio
import gc
import json
import shutil
import signal
import threading
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path
from queue import SimpleQueue

import numpy as np
import pytest
import sentencepiece

from dragoman.checkpoints.module_layout import GROUPS, PARTS, base_shapes, lora_shapes, projection_sizes
from dragoman.checkpoints.nllb_files import EMBEDDINGS, published_name
from dragoman.checkpoints.numbers import Numbers
from dragoman.checkpoints.weight_files import write_shards
from dragoman.generation.engine import Engine, Job
from dragoman.models.config import NllbConfig
from dragoman.models.llama_config import LlamaConfig
from dragoman.translation.deadline import Deadline
from dragoman.translation.translator import Translator
from tests.server.waiting import wait_until

DATA = Path(__file__).parent / "data"

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    # As in a shell's background, which all programs that tests start would inherit: then Ctrl-C does nothing.
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(autouse=True, scope="session")
def _state(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Jobs of tests are nobody's, and so is what they keep."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DRAGOMAN_CACHE", str(tmp_path_factory.getbasetemp().parent / "dragoman-cache"))
        patch.setenv("DRAGOMAN_STATE", str(tmp_path_factory.mktemp("state")))
        yield


@pytest.fixture(scope="session")
def translator() -> Translator:
    """The embedded model, on the CPU."""
    return Translator.load(device="cpu")


@pytest.fixture
def taken_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Who listens to a translation has taken what came before the model makes its next step."""
    queues: list[SimpleQueue] = []
    next_of, submit = Deadline.next_of, Engine.submit

    def noting(self: Deadline, events: SimpleQueue):
        queues.append(events)
        return next_of(self, events)

    def slowly(self: Engine, job: Job, on_tokens=None, *rest):
        def hear(tokens: list[int]) -> None:
            on_tokens(tokens)
            wait_until(lambda: queues and queues[-1].empty())

        return submit(self, job, None if on_tokens is None else hear, *rest)

    monkeypatch.setattr(Deadline, "next_of", noting)
    monkeypatch.setattr(Engine, "submit", slowly)


@pytest.fixture
def loop() -> Iterator[asyncio.AbstractEventLoop]:
    """An event loop in a thread of its own."""
    made = asyncio.new_event_loop()
    thread = threading.Thread(target=made.run_forever)
    thread.start()
    yield made
    made.call_soon_threadsafe(made.stop)
    thread.join()
    made.close()


@pytest.fixture
def no_collection() -> Iterator[None]:
    """The garbage collector rests: nobody can catch what a signal's handler raises in its callbacks."""
    gc.disable()
    yield
    gc.enable()


@pytest.fixture(scope="session")
def tatoeba() -> dict[str, list[tuple[str, str]]]:
    """Test pairs (text, English) by language code."""
    pairs = {}
    for path in sorted((DATA / "tatoeba").glob("*.tsv")):
        rows = [line.split("\t") for line in path.read_text(encoding="utf-8").splitlines()]
        pairs[path.name[:2]] = [(row[0], row[1]) for row in rows]
    return pairs


@pytest.fixture(scope="session")
def sentences() -> list[str]:
    """120 sentences in about a hundred languages."""
    return (DATA / "multilingual.txt").read_text(encoding="utf-8").splitlines()


@pytest.fixture(scope="session")
def m2m100(sentences: list[str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random M2M-100 of 1,500 pieces, in the files and under the names of the published ones.

    Its vocab.json has the pieces in another order than the SentencePiece file, not quite all of them, and a
    character that this file doesn't know.
    """
    folder = tmp_path_factory.mktemp("hub") / "m2m100_tiny"
    folder.mkdir()
    written = BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(sentences),
        model_writer=written,
        vocab_size=1500,
        model_type="bpe",
        character_coverage=1.0,
        minloglevel=2,
    )
    (folder / "sentencepiece.bpe.model").write_bytes(written.getvalue())
    spm = sentencepiece.SentencePieceProcessor(model_proto=written.getvalue())
    pieces = [spm.id_to_piece(i) for i in range(3, 1500) if i % 97]
    names = ["<s>", "<pad>", "</s>", "<unk>", *reversed(pieces), "龘"]
    (folder / "vocab.json").write_text(json.dumps({name: i for i, name in enumerate(names)}))
    settings = {"src_lang": None, "tgt_lang": None, "name_or_path": "m2m_100_tiny", "model_max_length": 1024}
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    write_m2m100(folder, len(names) + 108, encoder_layers=2, decoder_layers=2)
    return folder


def write_m2m100(folder: Path, rows: int, **layers: int) -> None:
    """Write config.json and pytorch_model.bin of a random model as M2M-100's are."""
    torch = pytest.importorskip("torch")
    from dragoman.models.nllb import Nllb

    shape = {"d_model": 32, "encoder_ffn_dim": 64, "decoder_ffn_dim": 64, "vocab_size": rows, **layers}
    heads = {"encoder_attention_heads": 4, "decoder_attention_heads": 4, "encoder_layerdrop": 0.05}
    config = NllbConfig(model_type="m2m_100", **shape, **heads)
    (folder / "config.json").write_text(json.dumps(config.to_dict()))
    generator = torch.Generator().manual_seed(0)
    tensors = {}
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = Nllb(config)
    for name, parameter in model.named_parameters():
        weight = parameter.detach().clone()
        if weight.dim() == 2:
            weight.normal_(0, 0.3, generator=generator)
        tensors[published_name(name, config)] = weight
    shared = tensors["model.shared.weight"]
    tensors |= {f"model.{name}": shared for name in EMBEDDINGS} | {"lm_head.weight": shared}
    for side in ("encoder", "decoder"):
        tensors[f"model.{side}.embed_positions.weights"] = torch.zeros(1026, 32)
    torch.save(tensors, folder / "pytorch_model.bin")


@pytest.fixture(scope="session")
def small100(m2m100: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same as SMaLL-100: its name, and fewer layers in the decoder."""
    folder = tmp_path_factory.mktemp("hub") / "small100"
    shutil.copytree(m2m100, folder)
    rows = json.loads((folder / "config.json").read_text())["vocab_size"]
    write_m2m100(folder, rows, encoder_layers=3, decoder_layers=1)
    return folder


@pytest.fixture(scope="session")
def combined(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random combined checkpoint with a Llama-2-like tokenizer of 900 pieces."""
    folder = tmp_path_factory.mktemp("hub") / "X-ALMA"
    folder.mkdir()
    lines = (DATA / "multilingual.txt").read_text(encoding="utf-8").splitlines()
    for path in sorted((DATA / "tatoeba").glob("*.tsv")):
        lines += [line.split("\t")[1] for line in path.read_text(encoding="utf-8").splitlines()]
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(lines),
        model_prefix=str(folder / "tokenizer"),
        vocab_size=900,
        model_type="bpe",
        byte_fallback=True,
        unk_id=0,
        bos_id=1,
        eos_id=2,
        pad_id=-1,
        normalization_rule_name="identity",
        remove_extra_whitespaces=False,
        split_digits=True,
        allow_whitespace_only_pieces=True,
        character_coverage=0.98,
        minloglevel=2,
    )
    config = json.loads((DATA / "golden" / "xalma" / "config.json").read_text())
    config |= {"vocab_size": 900, "max_position_embeddings": 1024}
    (folder / "config.json").write_text(json.dumps(config))
    shape = LlamaConfig.from_dict(config)
    base = base_shapes(shape)
    pairs = [(layer, name) for layer in range(shape.num_hidden_layers) for name in PARTS]
    module = lora_shapes(pairs, projection_sizes(base), lambda _: shape.lora_size)
    loras = {name.combined(group): size for group in GROUPS for name, size in module.items()}
    random = np.random.default_rng(0)
    tensors = {
        name: np.float32(0.05) * random.standard_normal(size, np.float32)
        if len(size) == 2
        else np.ones(size, np.float32)
        for name, size in (base | loras).items()
    }
    write_shards(folder, {name: Numbers(data, "F32") for name, data in tensors.items()}, None, 10**9)
    return folder
