"""Fixtures for all tests: the embedded model, and real sentences."""

import json
from pathlib import Path

import pytest
import sentencepiece
import torch

from dragoman.checkpoints.loading import pending
from dragoman.checkpoints.weight_files import write_shards
from dragoman.models.llama import Llama
from dragoman.models.llama_config import LlamaConfig
from dragoman.translation.translator import Translator

DATA = Path(__file__).parent / "data"


@pytest.fixture(scope="session")
def translator() -> Translator:
    """The embedded model, on the CPU."""
    return Translator.load(device="cpu")


@pytest.fixture(scope="session")
def tatoeba() -> dict[str, list[tuple[str, str]]]:
    """Test pairs (text, English) by language code."""
    pairs = {}
    for path in sorted((DATA / "tatoeba").glob("*.tsv")):
        rows = [line.split("\t") for line in path.read_text(encoding="utf-8").splitlines()]
        pairs[path.name[:2]] = [(row[0], row[1]) for row in rows]
    return pairs


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
    model = Llama(LlamaConfig.from_dict(config), groups=range(1, 9))
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() == 2:
                parameter.normal_(0, 0.05, generator=generator)
    write_shards(folder, {name: pending(t) for name, t in model.state_dict().items()}, None, 10**9)
    return folder
