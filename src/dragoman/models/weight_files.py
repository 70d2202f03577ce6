"""Files of named tensors: found, opened without reading them, and written whole or not at all.

Knows nothing of models. Nothing in a file is ever executed.
"""

import json
import os
import pickle
import re
import shutil
import zipfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from dragoman.errors import CheckpointError, Shape

SAFETENSORS, SAFETENSORS_INDEX = "model.safetensors", "model.safetensors.index.json"
PICKLE, PICKLE_INDEX = "pytorch_model.bin", "pytorch_model.bin.index.json"
AGAIN = "Download it again, or convert the model anew."

DTYPES = (torch.float32, torch.float16, torch.bfloat16, torch.float64)
_PLAIN = frozenset({"F32", "F16", "BF16", "F64", *map(str, DTYPES)})


@dataclass(frozen=True)
class Stored:
    """A tensor in a file: its shape, its dtype as the file calls it, and the way to read it."""

    shape: Shape
    dtype: str
    read: Callable[[], Tensor]

    @property
    def is_plain(self) -> bool:
        """Whether the numbers mean what they say; quantised ones need scales beside them."""
        return self.dtype in _PLAIN


def find_shards(folder: Path) -> list[Path]:
    """The weight files of `folder`; safetensors where there is a choice."""
    for single, index in ((SAFETENSORS, SAFETENSORS_INDEX), (PICKLE, PICKLE_INDEX)):
        if (folder / single).is_file():
            return [folder / single]
        if (folder / index).is_file():
            return _indexed(folder / index)
    looked = ", ".join((SAFETENSORS, SAFETENSORS_INDEX, PICKLE, PICKLE_INDEX))
    raise CheckpointError(f"{folder} holds no weights; looked for {looked}. Download the model again.")


def open_shard(path: Path) -> dict[str, Stored]:
    """The tensors of a .safetensors or .bin file by name, none of them read yet.

    Raises CheckpointError if the file is damaged, or a pickle that holds more than tensors.
    """
    try:
        return _open_safetensors(path) if path.suffix == ".safetensors" else _open_pickle(path)
    except (SafetensorError, OSError) as error:
        raise _unreadable(path, error) from error


def write_shards(
    folder: Path, tensors: Mapping[str, Tensor], dtype: torch.dtype | None, max_shard_bytes: int
) -> None:
    """Write `tensors` as safetensors in `dtype` (None: their own), with an index if one file won't do."""
    shards = list(_shards(tensors, dtype, max_shard_bytes))
    weight_map: dict[str, str] = {}
    total = 0
    for number, shard in enumerate(shards, 1):
        file = SAFETENSORS if len(shards) == 1 else f"model-{number:05}-of-{len(shards):05}.safetensors"
        stored = {
            name: tensor.to("cpu", dtype or tensor.dtype).contiguous() for name, tensor in shard.items()
        }
        # transformers refuses a file without this mark.
        save_file(stored, folder / file, metadata={"format": "pt"})
        weight_map |= dict.fromkeys(shard, file)
        total += sum(tensor.nbytes for tensor in stored.values())
    if len(shards) > 1:
        index = {"metadata": {"total_size": total}, "weight_map": weight_map}
        (folder / SAFETENSORS_INDEX).write_text(json.dumps(index, indent=2) + "\n", encoding="utf-8")


@contextmanager
def replacing(folder: Path) -> Iterator[Path]:
    """A scratch folder for a new checkpoint, which takes its place in `folder` when the block is done.

    Until then, and for good if the block fails, `folder` keeps what it had. Raises
    CheckpointError if it can't be written to.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with TemporaryDirectory(prefix=".saving-", dir=folder) as scratch:
            yield Path(scratch)
            _publish(Path(scratch), folder)
    except (OSError, SafetensorError) as error:
        raise CheckpointError(
            f"the model can't be saved to {folder}: {error}. Make room there or choose another folder."
        ) from error


def _indexed(index: Path) -> list[Path]:
    try:
        weight_map = json.loads(index.read_text(encoding="utf-8"))["weight_map"]
        names = sorted(set(weight_map.values()))
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError, OSError) as error:
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


def _open_safetensors(path: Path) -> dict[str, Stored]:
    handle = safe_open(path, framework="pt", device="cpu")
    parts = {key: handle.get_slice(key) for key in handle.keys()}  # noqa: SIM118 - it is no mapping
    return {
        key: Stored(tuple(part.get_shape()), part.get_dtype(), partial(handle.get_tensor, key))
        for key, part in parts.items()
    }


def _open_pickle(path: Path) -> dict[str, Stored]:
    try:
        # Only torch's zip format can be mapped; files of the format before it are read whole.
        data = torch.load(path, map_location="cpu", weights_only=True, mmap=zipfile.is_zipfile(path))
    except OSError:
        raise
    # A damaged pickle is a random program for torch's interpreter and may fail in any way.
    except Exception as error:
        if isinstance(error, pickle.UnpicklingError) and "GLOBAL" in str(error):
            raise CheckpointError(
                f"{path} asks to run code while it is read, which Dragoman never does; nothing was run. "
                "Get the model as safetensors, or from a source you trust."
            ) from error
        raise _unreadable(path, error) from error
    if not isinstance(data, dict) or not all(isinstance(value, Tensor) for value in data.values()):
        raise CheckpointError(
            f"{path} is not a plain table of tensors; it may be a training state or a fairseq checkpoint. "
            "Convert it to the transformers format first."
        )
    return {str(key): Stored(tuple(t.shape), str(t.dtype), t.detach) for key, t in data.items()}


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


def _shards(
    tensors: Mapping[str, Tensor], dtype: torch.dtype | None, limit: int
) -> Iterator[dict[str, Tensor]]:
    """Split into groups of at most `limit` bytes, or of one tensor that is larger."""
    group: dict[str, Tensor] = {}
    size = 0
    for name, tensor in tensors.items():
        weight_bytes = tensor.numel() * (dtype or tensor.dtype).itemsize
        if group and size + weight_bytes > limit:
            yield group
            group, size = {}, 0
        group[name] = tensor
        size += weight_bytes
    yield group


def _publish(scratch: Path, folder: Path) -> None:
    """Move finished files into place, so that no moment shows a mixture of two checkpoints."""
    # safetensors lets only the owner read its files; a new folder's own rule is the user's.
    (scratch / "mode").touch()
    names = sorted(path.name for path in scratch.iterdir() if path.name != "mode")
    for name in names:
        shutil.copymode(scratch / "mode", scratch / name)
        with (scratch / name).open("rb") as file:
            os.fsync(file.fileno())
    if SAFETENSORS_INDEX in names:
        # New shards may have the names of old ones; without an index neither can be loaded.
        (folder / SAFETENSORS_INDEX).unlink(missing_ok=True)
    for name in names:  # sorted, they come as config, weights, index
        os.replace(scratch / name, folder / name)
    for old in list(folder.iterdir()):
        ours = re.fullmatch(r"model(-\d{5}-of-\d{5})?\.safetensors(\.index\.json)?", old.name)
        if ours and old.name not in names:
            old.unlink()
