"""A small SentencePiece model with NLLB's settings, trained in milliseconds."""

from collections.abc import Callable
from io import BytesIO
from pathlib import Path

import pytest
from sentencepiece import SentencePieceTrainer

from dragoman.text.tokenizers import to_tokenizer_json

SENTENCES = Path(__file__).parent.parent / "data" / "multilingual.txt"


def train(path: Path, **options: object) -> Path:
    """Write a model of about 1500 pieces to `path`; `options` override NLLB's settings."""
    written = BytesIO()
    settings: dict[str, object] = {
        "model_type": "bpe",
        "vocab_size": 1500,
        "character_coverage": 1.0,
        "normalization_rule_name": "nmt_nfkc",
        "unk_id": 0,
        "bos_id": 1,
        "eos_id": 2,
        "pad_id": -1,
        "num_threads": 1,
        "minloglevel": 2,
    }
    lines = SENTENCES.read_text(encoding="utf-8").splitlines()
    settings["sentence_iterator"] = iter(lines)
    SentencePieceTrainer.train(model_writer=written, **{**settings, **options})
    path.write_bytes(written.getvalue())
    return path


@pytest.fixture(scope="session")
def train_sentencepiece() -> Callable[..., Path]:
    return train


@pytest.fixture(scope="session")
def sentences() -> list[str]:
    """120 sentences in about a hundred languages."""
    return SENTENCES.read_text(encoding="utf-8").splitlines()


@pytest.fixture(scope="session")
def spm_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with `sentencepiece.bpe.model` alone."""
    folder = tmp_path_factory.mktemp("spm")
    train(folder / "sentencepiece.bpe.model")
    return folder


@pytest.fixture(scope="session")
def json_folder(spm_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the `tokenizer.json` made of the same model."""
    folder = tmp_path_factory.mktemp("json")
    to_tokenizer_json(spm_folder / "sentencepiece.bpe.model", folder / "tokenizer.json")
    return folder


def train_llama(path: Path) -> Path:
    """Write a model with Llama-2's settings, to which some characters of the sentences are bytes."""
    lines = SENTENCES.read_text(encoding="utf-8").splitlines()
    lines += ["[INST] Translate this from German to English: German: English: [/INST]"] * 5
    lines += [f"def f():{' ' * n}return{' ' * 2 * n}x" for n in range(1, 9)] * 3
    return train(
        path,
        vocab_size=1800,
        character_coverage=0.985,
        normalization_rule_name="identity",
        byte_fallback=True,
        remove_extra_whitespaces=False,
        split_digits=True,
        allow_whitespace_only_pieces=True,
        sentence_iterator=iter(lines),
    )


@pytest.fixture(scope="session")
def llama_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with `tokenizer.model` alone."""
    folder = tmp_path_factory.mktemp("llama")
    train_llama(folder / "tokenizer.model")
    return folder
