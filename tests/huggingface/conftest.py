"""The golden models behind the transformers faces, and a small tokenizer in each published form."""

from collections.abc import Callable
from io import BytesIO
from pathlib import Path

import pytest
from sentencepiece import SentencePieceTrainer
from transformers.utils import logging

from dragoman.huggingface import NllbMoeForConditionalGeneration

DATA = Path(__file__).parents[1] / "data"

logging.disable_progress_bar()


@pytest.fixture(scope="session")
def golden() -> Path:
    """The folder of the golden models; `nllb_moe_base` has the flags of the published release."""
    return DATA / "golden"


@pytest.fixture
def load(golden: Path) -> Callable[..., NllbMoeForConditionalGeneration]:
    """Load a golden model by name, with the options of `from_pretrained`."""

    def load(name: str = "nllb_moe_base", **options: object) -> NllbMoeForConditionalGeneration:
        return NllbMoeForConditionalGeneration.from_pretrained(golden / name, **options)

    return load


@pytest.fixture(scope="session")
def sentences() -> list[str]:
    """120 sentences in about a hundred languages."""
    return (DATA / "multilingual.txt").read_text(encoding="utf-8").splitlines()


@pytest.fixture(scope="session")
def spm_folder(tmp_path_factory: pytest.TempPathFactory, sentences: list[str]) -> Path:
    """A folder with `sentencepiece.bpe.model` alone: NLLB's settings, 1500 pieces."""
    folder = tmp_path_factory.mktemp("spm")
    written = BytesIO()
    SentencePieceTrainer.train(
        sentence_iterator=iter(sentences),
        model_writer=written,
        model_type="bpe",
        vocab_size=1500,
        character_coverage=1.0,
        normalization_rule_name="nmt_nfkc",
        unk_id=0,
        bos_id=1,
        eos_id=2,
        pad_id=-1,
        num_threads=1,
        minloglevel=2,
    )
    (folder / "sentencepiece.bpe.model").write_bytes(written.getvalue())
    return folder
