"""Writing what is made of X-ALMA checkpoints: nothing is lost, and an output appears whole or not at all."""

import shutil
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dragoman.checkpoints.families import ADAPTER_CONFIG, ADAPTERS, GROUP_MARK
from dragoman.checkpoints.module_folders import has_weights
from dragoman.checkpoints.numbers import LONG_NAMES, dtype_name
from dragoman.checkpoints.weight_files import COPIED, Pending, replacing, write_safetensors, write_shards
from dragoman.errors import CheckpointError, InvalidOption
from dragoman.files import write_json


@dataclass(frozen=True)
class Saving:
    """How to write an output."""

    dtype: object = None
    """What to store the tensors in, as "bfloat16" or torch.bfloat16; None: as they are."""
    max_shard_bytes: int = 5_000_000_000
    overwrite: bool = False
    """Whether an output of the same kind may be replaced."""
    progress: Callable[[int, int], None] | None = None
    """Is told (bytes written, bytes in all)."""

    def __post_init__(self) -> None:
        _ = self.stored  # raises for what it doesn't know
        if self.max_shard_bytes < 1:
            raise InvalidOption(f"max_shard_bytes is {self.max_shard_bytes}; it must be at least 1")

    @property
    def stored(self) -> str | None:
        """The dtype, as a file calls it."""
        return None if self.dtype is None else dtype_name(self.dtype)


def free_output(
    output: str | Path, sources: Iterable[str | Path], saving: Saving, adapter: bool = False
) -> Path:
    """The folder to write to; InvalidOption if something would be lost by that."""
    output = Path(output).expanduser()
    if output.exists() and not output.is_dir():
        raise InvalidOption(f"the output {output} is a file; give a folder")
    if output.resolve() in [Path(source).expanduser().resolve() for source in sources]:
        raise InvalidOption(f"{output} is read from, so it can't be the output too; give another folder")
    names = sorted(path.name for path in output.iterdir()) if output.is_dir() else []
    if names and not saving.overwrite:
        some = ", ".join(names[:3]) + (", …" if len(names) > 3 else "")
        raise InvalidOption(
            f"the output {output} is not empty ({some}); give another folder, or allow overwriting (--force)"
        )
    # transformers would put an adapter on top of any weights beside it.
    other = has_weights(output) if adapter else (output / ADAPTER_CONFIG).exists()
    if other:
        holds, wanted = ("a model", "an adapter") if adapter else ("an adapter", "a model")
        raise InvalidOption(
            f"the output {output} holds {holds}, so {wanted} can't go there; give another folder"
        )
    return output


def save_model(
    output: Path,
    source: Path,
    config: dict[str, Any],
    tensors: Mapping[str, Pending],
    mark: str | None,
    saving: Saving,
) -> None:
    """Write a model's config and weights, and the tokenizer and its like from `source`.

    mark: the group to note in the files. CheckpointError if they can't be written.
    """
    if saving.stored is not None:
        field = "dtype" if "dtype" in config else "torch_dtype"
        config = config | {field: LONG_NAMES[saving.stored]}
    advance = _counter(output, tensors, saving)
    with replacing(output) as scratch:
        write_json(scratch / "config.json", config)
        for name in COPIED:
            if (source / name).is_file():
                shutil.copyfile(source / name, scratch / name)
        metadata = {GROUP_MARK: mark} if mark else None
        write_shards(scratch, tensors, None, saving.max_shard_bytes, metadata, advance)


def save_adapter(
    output: Path, config: Mapping[str, object], tensors: Mapping[str, Pending], mark: str, saving: Saving
) -> None:
    """Write a PEFT adapter. CheckpointError if it can't be written."""
    advance = _counter(output, tensors, saving)
    with replacing(output) as scratch:
        write_json(scratch / ADAPTER_CONFIG, config)
        write_safetensors(scratch / ADAPTERS[0], tensors, {GROUP_MARK: mark}, advance)


def _counter(output: Path, tensors: Mapping[str, Pending], saving: Saving) -> Callable[[int], None] | None:
    """What to tell the progress to; CheckpointError if the disk hasn't room for the tensors."""
    total = sum(pending.nbytes for pending in tensors.values())
    there = next(folder for folder in (output, *output.resolve().parents) if folder.is_dir())
    free = shutil.disk_usage(there).free
    if free < total:
        raise CheckpointError(
            f"the output takes {total / 1e9:.1f} GB, and {output} has {free / 1e9:.1f} GB left. Make room "
            "there or choose another folder."
        )
    report, written = saving.progress, 0
    if report is None:
        return None

    def advance(more: int) -> None:
        nonlocal written
        written += more
        report(written, total)

    return advance
