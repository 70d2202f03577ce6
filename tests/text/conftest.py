"""Small SentencePiece models with NLLB's and with Llama-2's settings, trained in milliseconds."""

import json
import warnings
from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from struct import pack
from typing import Any

import pytest
from sentencepiece import SentencePieceTrainer

from dragoman.text.tokenizers import to_tokenizer_json
from dragoman.text.tokenizers.spm_file import NORMAL, SpmFile

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
    """Write a model with Llama-2's settings, to which some characters of the sentences are bytes.

    As in Llama-2's file the runs of spaces score lowest of all, whatever their ids.
    """
    lines = SENTENCES.read_text(encoding="utf-8").splitlines()
    lines += ["[INST] Translate this from German to English: German: English: [/INST]"] * 5
    lines += [f"def f():{' ' * n}return{' ' * 2 * n}x" for n in range(1, 9)] * 3
    train(
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
    content = path.read_bytes()
    for place, (piece, score, kind) in enumerate(SpmFile.read(path).pieces):
        if kind == NORMAL and len(piece) > 1 and not piece.strip("▁"):
            name = piece.encode("utf-8")
            start = b"\x0a" + bytes([len(name)]) + name + b"\x15"
            content = content.replace(start + pack("<f", score), start + pack("<f", -1e6 - place))
    path.write_bytes(content)
    return path


@pytest.fixture(scope="session")
def llama_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with `tokenizer.model` alone."""
    folder = tmp_path_factory.mktemp("llama")
    train_llama(folder / "tokenizer.model")
    return folder


BOS_FIRST = {
    "type": "TemplateProcessing",
    "single": [{"SpecialToken": {"id": "<s>", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}],
    "pair": [{"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 1}}],
    "special_tokens": {"<s>": {"id": "<s>", "ids": [1], "tokens": ["<s>"]}},
}
PREPEND = {
    "type": "Sequence",
    "normalizers": [
        {"type": "Prepend", "prepend": "▁"},
        {"type": "Replace", "pattern": {"String": " "}, "content": "▁"},
    ],
}


def write_llama_json(folder: Path, target: Path, **changes: Any) -> Path:
    """The tokenizer.json of a tokenizer.model; `changes` replace its parts."""
    spm = SpmFile.read(folder / "tokenizer.model")
    names = [piece for piece, _, _ in spm.pieces]
    special = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True}
    model = {
        "type": "BPE",
        "unk_token": "<unk>",
        "fuse_unk": True,
        "byte_fallback": True,
        "vocab": {name: place for place, name in enumerate(names)},
        "merges": [" ".join(pair) for pair in spm.merges()],
    }
    spec = {
        "version": "1.0",
        "added_tokens": [{"id": i, "content": names[i], **special} for i in range(3)],
        "normalizer": PREPEND,
        "pre_tokenizer": None,
        "post_processor": BOS_FIRST,
        "decoder": None,
        "model": {**model, **changes.pop("model", {})},
        **changes,
    }
    target.mkdir(exist_ok=True)
    (target / "tokenizer.json").write_text(json.dumps(spec), encoding="utf-8")
    return target


@pytest.fixture(scope="session")
def write_json() -> Callable[..., Path]:
    return write_llama_json


@pytest.fixture
def theirs_of(llama_folder: Path) -> Callable[..., Any]:
    """Makes transformers' tokenizer of the same model in a folder, with a configuration.

    It reads a tokenizer.json: from a tokenizer.model it would rank merges by id and not by score.
    """
    transformers = pytest.importorskip("transformers")

    def make(folder: Path, **config: Any) -> Any:
        write_llama_json(llama_folder, folder)
        (folder / "tokenizer_config.json").write_text(json.dumps(config), encoding="utf-8")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return transformers.LlamaTokenizer.from_pretrained(str(folder))

    return make
