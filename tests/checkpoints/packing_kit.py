"""What the tests of packed folders share."""

import shutil
from pathlib import Path
from typing import Any

from dragoman.checkpoints.llama_files import open_llama
from dragoman.checkpoints.nllb_files import open_nllb
from dragoman.checkpoints.packing import Parts, pack_llama, pack_nllb
from dragoman.checkpoints.part_forms import take_apart
from dragoman.models.config import read_config
from dragoman.systems.converting import convert

GOLDEN = Path(__file__).parents[1] / "data" / "golden"
NLLB = ("nllb_dense", "nllb_moe_base")


def with_tokenizer(name: str, folder: Path) -> Path:
    """A golden model with a file where converting looks for a tokenizer."""
    shutil.copytree(GOLDEN / name, folder)
    for file in ("sentencepiece.bpe.model", "tokenizer.model"):
        (folder / file).write_bytes(b"pieces")
    return folder


def converted(name: str, tmp_path: Path, precision: str, **options: Any) -> Path:
    """A golden model, packed."""
    source = with_tokenizer(name, tmp_path / name)
    convert(source, tmp_path / "packed", precision, **options)
    return tmp_path / "packed"


def parts_of(folder: Path, precision: str) -> Parts:
    """The parts that a checkpoint has in memory."""
    if read_config(folder)["model_type"] in ("llama", "xalma"):
        return pack_llama(open_llama(folder), precision)
    return pack_nllb(open_nllb(folder), precision)


def content(folder: Path) -> dict[str, bytes]:
    """All files of a folder."""
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


def same(one: Any, other: Any) -> bool:
    """Whether two parts are the same bits, and say the same of them."""
    (kind, arrays, facts), (kind2, arrays2, facts2) = take_apart(one), take_apart(other)
    return (kind, facts, arrays.keys()) == (kind2, facts2, arrays2.keys()) and all(
        (array.dtype, array.shape) == (arrays2[name].dtype, arrays2[name].shape)
        and array.data.tobytes() == arrays2[name].data.tobytes()
        for name, array in arrays.items()
    )
