"""Files of named tensors: found, opened without reading them, and written whole or not at all.

Knows nothing of models. Nothing in a file is ever executed.
"""

import json
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from safetensors import SafetensorError, safe_open

from dragoman.checkpoints.numbers import LONG_NAMES, TYPES, Numbers, nbytes
from dragoman.errors import CheckpointError, Shape
from dragoman.files import read_json, replacing_files, write_json
from dragoman.store.pieces import Extent

SAFETENSORS, SAFETENSORS_INDEX = "model.safetensors", "model.safetensors.index.json"
PICKLE, PICKLE_INDEX = "pytorch_model.bin", "pytorch_model.bin.index.json"
PACKED, PACKED_INDEX = "packed.safetensors", "packed.safetensors.index.json"
"""In the kernels' own layout: no other program takes them for weights that it knows."""
AGAIN = "Download it again, or convert the model anew."

COPIED = (
    "generation_config.json",
    "sentencepiece.bpe.model",
    "vocab.json",
    "tokenizer.json",
    "tokenizer.model",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "chat_template.jinja",
    "chat_template.json",
)
"""Files that go with a model into every folder that is made from it."""
BLOCK = 16_777_216
"""Numbers converted and written at a time."""
HEADER = 8
"""Bytes that say how long the header is."""

Progress = Callable[[int], None]
"""Is told how many more bytes have been written."""


@dataclass(frozen=True)
class Entry:
    """A tensor in a file: its shape, its dtype as the file calls it, and the way to its numbers."""

    shape: Shape
    dtype: str
    read: Callable[[], Numbers]
    extent: Extent | None = None
    """Where its bytes are, if they lie side by side in a file."""

    @property
    def is_plain(self) -> bool:
        """Whether the numbers mean what they say; quantised ones need scales beside them."""
        return self.dtype in LONG_NAMES


@dataclass(frozen=True)
class Pending:
    """A tensor still to be written: its shape, the dtype to store it in, and the way to get it."""

    shape: Shape
    dtype: str
    read: Callable[[], Numbers]

    @classmethod
    def of(cls, numbers: "Numbers | Pending", dtype: str | None = None) -> "Pending":
        """To be stored in `dtype` (None: its own)."""
        if isinstance(numbers, Pending):
            return replace(numbers, dtype=dtype or numbers.dtype)
        return cls(numbers.shape, dtype or numbers.dtype, lambda: numbers)

    @property
    def nbytes(self) -> int:
        """How much room it takes in a file."""
        return nbytes(self.shape, self.dtype)


def find_shards(folder: Path) -> list[Path]:
    """The weight files of `folder`; safetensors where there is a choice."""
    for single, index in ((SAFETENSORS, SAFETENSORS_INDEX), (PICKLE, PICKLE_INDEX)):
        if (folder / single).is_file():
            return [folder / single]
        if (folder / index).is_file():
            return _indexed(folder / index)
    looked = ", ".join((SAFETENSORS, SAFETENSORS_INDEX, PICKLE, PICKLE_INDEX))
    raise CheckpointError(f"{folder} holds no weights; looked for {looked}. Download the model again.")


def find_packed(folder: Path) -> list[Path]:
    """The files of a packed model in `folder`; CheckpointError if there are none."""
    if (folder / PACKED).is_file():
        return [folder / PACKED]
    if (folder / PACKED_INDEX).is_file():
        return _indexed(folder / PACKED_INDEX)
    raise CheckpointError(
        f"{folder} holds no packed weights; looked for {PACKED} and {PACKED_INDEX}. Convert the model anew."
    )


def open_shard(path: Path, writable: bool = True) -> dict[str, Entry]:
    """The tensors of a .safetensors or .bin file by name, none of them read yet.

    writable: whether whoever has a weight may change it, for himself alone; a .bin's always may be.
    Raises CheckpointError if the file is damaged, or a pickle that holds more than tensors.
    """
    try:
        return _open_safetensors(path, writable) if path.suffix == ".safetensors" else _open_pickle(path)
    except (SafetensorError, OSError) as error:
        raise _unreadable(path, error) from error


def read_metadata(path: Path) -> dict[str, str]:
    """The remarks in the header of a .safetensors file; a .bin has none."""
    if path.suffix != ".safetensors":
        return {}
    try:
        with safe_open(path, framework="numpy") as handle:
            return handle.metadata() or {}
    except (SafetensorError, OSError) as error:
        raise _unreadable(path, error) from error


def write_shards(
    folder: Path,
    tensors: Mapping[str, Numbers] | Mapping[str, Pending],
    dtype: str | None,
    max_shard_bytes: int,
    metadata: Mapping[str, str] | None = None,
    progress: Progress | None = None,
) -> None:
    """Write `tensors` as safetensors in `dtype` (short; None: their own), with an index if one won't do.

    Memory holds one tensor at a time beside those that are there already.
    """
    shards = list(
        _shards({name: Pending.of(tensor, dtype) for name, tensor in tensors.items()}, max_shard_bytes)
    )
    weight_map: dict[str, str] = {}
    for number, shard in enumerate(shards, 1):
        file = SAFETENSORS if len(shards) == 1 else f"model-{number:05}-of-{len(shards):05}.safetensors"
        write_safetensors(folder / file, shard, metadata, progress)
        weight_map |= dict.fromkeys(shard, file)
    if len(shards) > 1:
        total = sum(pending.nbytes for shard in shards for pending in shard.values())
        index = {"metadata": {"total_size": total}, "weight_map": weight_map}
        write_json(folder / SAFETENSORS_INDEX, index)


def write_safetensors(
    path: Path,
    tensors: Mapping[str, Pending],
    metadata: Mapping[str, str] | None = None,
    progress: Progress | None = None,
) -> None:
    """Write one .safetensors file, reading each tensor only when its turn comes.

    The format: eight bytes for the length of the header, the header as JSON, the numbers.
    """
    # Wide numbers first: readers view the bytes as numbers where they lie, which takes alignment.
    ordered = sorted(tensors.items(), key=lambda item: -TYPES[item[1].dtype].itemsize)
    # transformers refuses a file without this mark.
    header: dict[str, object] = {"__metadata__": {"format": "pt", **(metadata or {})}}
    end = 0
    for name, pending in ordered:
        start, end = end, end + pending.nbytes
        header[name] = {
            "dtype": pending.dtype,
            "shape": list(pending.shape),
            "data_offsets": [start, end],
        }
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    with path.open("wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        for name, pending in ordered:
            numbers = pending.read()
            assert numbers.shape == pending.shape, f"{name} is {numbers.shape}, announced {pending.shape}"
            _write(file, numbers, pending.dtype, progress)
            del numbers  # before the next is read


@contextmanager
def replacing(folder: Path) -> Iterator[Path]:
    """A scratch folder for a new checkpoint, which takes its place in `folder` when the block is done.

    Until then, and for good if the block fails, `folder` keeps what it had. Raises
    CheckpointError if it can't be written to.
    """
    try:
        # New shards may have the names of old ones; without an index neither can be loaded.
        with replacing_files(folder, seal=SAFETENSORS_INDEX, is_stale=_is_weights) as scratch:
            yield scratch
    except (OSError, SafetensorError) as error:
        raise CheckpointError(
            f"the model can't be saved to {folder}: {error}. Make room there or choose another folder."
        ) from error


def _is_weights(name: str) -> bool:
    return bool(re.fullmatch(r"model(-\d{5}-of-\d{5})?\.safetensors(\.index\.json)?", name))


def _indexed(index: Path) -> list[Path]:
    try:
        names = sorted(set(read_json(index, CheckpointError)["weight_map"].values()))
    except (CheckpointError, FileNotFoundError, KeyError, TypeError, AttributeError) as error:
        raise CheckpointError(f"{index} is no index of weight files ({error!r}). {AGAIN}") from error
    if not names:
        raise CheckpointError(f"{index} lists no weight files. {AGAIN}")
    for name in names:
        # An index is foreign data: it may point nowhere but beside itself.
        if not isinstance(name, str) or not re.fullmatch(r"\w[\w.-]*", name):
            raise CheckpointError(f"{index} lists {name!r}, which is no plain file name. {AGAIN}")
    gone = [name for name in names if not (index.parent / name).is_file()]
    if gone:
        raise CheckpointError(
            f"{index} lists {len(names)} files, of which {len(gone)} are not there: {', '.join(gone)}. "
            "Download them into the same folder."
        )
    return [index.parent / name for name in names]


def _open_safetensors(path: Path, writable: bool) -> dict[str, Entry]:
    with safe_open(path, framework="numpy"):
        pass  # whatever its header says is sound now
    with path.open("rb") as file:
        length = int.from_bytes(file.read(HEADER), "little")
        header = json.loads(file.read(length))
    header.pop("__metadata__", None)
    # Copied on write: whoever changes a weight has a page of his own. None is read before it is looked at.
    content = (
        np.asarray(np.memmap(path, np.uint8, "c" if writable else "r")) if header else np.empty(0, np.uint8)
    )
    found = {}
    for key, entry in header.items():
        start, end = (HEADER + length + offset for offset in entry["data_offsets"])
        shape = tuple(entry["shape"])
        read = partial(_numbers, content[start:end], entry["dtype"], shape)
        found[key] = Entry(shape, entry["dtype"], read, Extent(path, start, end))
    return found


def _numbers(content: Any, dtype: str, shape: Shape) -> Numbers:
    data = content.view(TYPES[dtype]).reshape(shape)
    return Numbers(data if data.flags.aligned else data.copy(), dtype)


def _open_pickle(path: Path) -> dict[str, Entry]:
    try:
        from dragoman.checkpoints.pickles import open_pickle
    except ImportError:
        raise CheckpointError(
            f"{path} is in PyTorch's own format, which takes PyTorch to read: pip install 'dragoman[torch]', "
            "or get the model's .safetensors files"
        ) from None
    try:
        return open_pickle(path)
    except (OSError, CheckpointError):
        raise
    except Exception as error:
        raise _unreadable(path, error) from error


def _unreadable(path: Path, error: Exception) -> CheckpointError:
    """Say what is wrong with a weight file in words that help more than the parser's."""
    if isinstance(error, OSError) and error.strerror:
        return CheckpointError(f"{path} can't be read: {error.strerror}")
    with path.open("rb") as file:
        start = file.read(20)
    if not start:
        reason = "is empty"
    elif start.startswith(b"version https://git"):
        reason = "is only a Git LFS pointer to the weights (git lfs pull gets them)"
    else:
        # torch's own words for this suggest to read the file without protection.
        detail = f" ({error})" if isinstance(error, SafetensorError) else ""
        reason = f"is truncated or damaged{detail}"
    return CheckpointError(f"{path} {reason}. {AGAIN}")


def _shards(tensors: Mapping[str, Pending], limit: int) -> Iterator[dict[str, Pending]]:
    """Split into groups of at most `limit` bytes, or of one tensor that is larger."""
    group: dict[str, Pending] = {}
    size = 0
    for name, pending in tensors.items():
        if group and size + pending.nbytes > limit:
            yield group
            group, size = {}, 0
        group[name] = pending
        size += pending.nbytes
    yield group


def _write(file: BinaryIO, numbers: Numbers, dtype: str, progress: Progress | None) -> None:
    flat = numbers.data.reshape(-1)
    for first in range(0, len(flat), BLOCK):
        block = Numbers(flat[first : first + BLOCK], numbers.dtype).to(dtype).data
        file.write(np.ascontiguousarray(block, TYPES[dtype]).view(np.uint8).data)
        if progress is not None:
            progress(block.nbytes)
