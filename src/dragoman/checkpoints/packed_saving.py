"""Writing a packed model: whole or not at all, and going on where an earlier attempt was cut off."""

import contextlib
import json
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from dragoman.checkpoints.cards import CARD, ModelCard, write_card
from dragoman.checkpoints.families import ADAPTER_CONFIG
from dragoman.checkpoints.module_folders import has_weights
from dragoman.checkpoints.packed_facts import is_packed
from dragoman.checkpoints.packed_shards import LAYOUT, ShardWriter, checksum
from dragoman.checkpoints.packing import Recipe
from dragoman.checkpoints.weight_files import COPIED, PACKED
from dragoman.errors import CheckpointError, DragomanError, InvalidOption
from dragoman.files import read_json, replacing_file, sync, write_json

SCRATCH = ".converting"
DONE = "done.json"
CONFIG = "config.json"
"""Arrives last: a folder without it is no model."""


@dataclass(frozen=True)
class Plan:
    """What a packed model is to hold."""

    recipes: tuple[Recipe, ...]
    size: int
    """About the bytes that they take."""
    config: Mapping[str, Any]
    """config.json."""
    card: ModelCard
    copied: Mapping[str, Path]
    """The files to copy, by name."""
    metadata: Mapping[str, str]
    """Remarks for the shards."""
    sources: Iterable[Path]
    """The files that are read."""
    written: Mapping[str, bytes] = field(default_factory=dict)
    """Small files by name, which go before those to copy."""


def copied_from(*folders: Path) -> dict[str, Path]:
    """The files that go with a model; earlier folders go before later ones."""
    return {
        name: folder / name for folder in reversed(folders) for name in COPIED if (folder / name).is_file()
    }


def check_output(output: Path, source: Path, force: bool) -> None:
    """InvalidOption if something would be lost by writing a packed model to `output`.

    force: whether another packed model may be replaced.
    """
    if output.exists() and not output.is_dir():
        raise InvalidOption(f"the output {output} is a file; give a folder")
    if output.resolve() == source.resolve():
        raise InvalidOption(f"{output} is read from, so it can't be the output too; give another folder")
    names = sorted(path.name for path in output.iterdir()) if output.is_dir() else []
    names = [name for name in names if name != SCRATCH]
    if not names or (output / SCRATCH / DONE).is_file():
        return
    some = ", ".join(names[:3]) + (", …" if len(names) > 3 else "")
    if has_weights(output) or (output / ADAPTER_CONFIG).exists() or not is_packed(output):
        raise InvalidOption(f"the output {output} holds something else ({some}); give another folder")
    if not force:
        raise _there_already(output)


def save_packed(
    output: Path,
    plan: Plan,
    force: bool = False,
    max_shard_bytes: int = 5_000_000_000,
    progress: Callable[[int, int], None] | None = None,
) -> None:
    """Write the model to `output`, which `check_output` has looked at; memory holds one part at a time.

    Cut off, also in the middle of a byte, it is continued by the same call, and the result is the same.
    force: as for `check_output`. progress: is told (bytes written, bytes in all). Raises CheckpointError if
    it can't be written.
    """
    scratch, identity = output / SCRATCH, _identity(plan)
    names = [recipe.name for recipe in plan.recipes]
    try:
        scratch.mkdir(parents=True, exist_ok=True)
        with ShardWriter(scratch, identity, names, max_shard_bytes) as writer:
            done = _done(scratch)
            if done.get("identity") != identity:
                if done and (output / CONFIG).is_file() and not force:
                    raise _there_already(output)  # whole, but for what is to be cleared away
                (scratch / DONE).unlink(missing_ok=True)
                _check_room(output, plan.size - writer.bytes, keep=bool(writer.done))
                for recipe in plan.recipes[len(writer.done) :]:
                    with _fruitless(scratch):
                        parts = recipe.make()
                    writer.add(recipe.name, parts)
                    del parts  # before the next are made
                    if progress is not None:
                        progress(min(writer.bytes, plan.size), plan.size)
                _complete(scratch, plan, identity, writer.finish(plan.metadata))
            _move(scratch, output)
        _remove(scratch)
    except OSError as error:
        raise CheckpointError(
            f"{output} can't be written: {error}. Make room there; the same command then goes on where it was"
        ) from error
    except (KeyboardInterrupt, SystemExit) as error:
        error.add_note(f"what was done is in {scratch}; the same command goes on where it was")
        raise
    if progress is not None:
        progress(plan.size, plan.size)


@contextlib.contextmanager
def _fruitless(scratch: Path) -> Iterator[None]:
    """Leave nothing behind after an error that another attempt would meet, too."""
    try:
        yield
    except DragomanError:
        shutil.rmtree(scratch)
        with contextlib.suppress(OSError):  # it holds something
            scratch.parent.rmdir()
        raise


def _there_already(output: Path) -> InvalidOption:
    return InvalidOption(
        f"the output {output} holds a packed model already; give another folder, or allow replacing it "
        "(--force)"
    )


def _identity(plan: Plan) -> dict[str, Any]:
    """What a conversion that is continued must have in common with the one that was begun, as JSON has it."""
    stats = [(str(path.resolve()), path.stat()) for path in sorted(set(plan.sources))]
    found = {
        "layout": LAYOUT,
        "config": plan.config,
        "metadata": plan.metadata,
        "recipes": checksum(
            np.frombuffer("\n".join(recipe.name for recipe in plan.recipes).encode(), np.uint8)
        ),
        "sources": [[name, stat.st_size, stat.st_mtime_ns] for name, stat in stats],
    }
    again: dict[str, Any] = json.loads(json.dumps(found))
    return again


def _done(scratch: Path) -> dict[str, Any]:
    """What DONE says; nothing if it isn't there."""
    return read_json(scratch / DONE, CheckpointError) if (scratch / DONE).is_file() else {}


def _check_room(output: Path, size: int, keep: bool) -> None:
    """keep: whether there is something in the output already that is worth going on with."""
    free = shutil.disk_usage(output).free
    if free >= size:
        return
    with contextlib.nullcontext() if keep else _fruitless(output / SCRATCH):
        raise CheckpointError(
            f"the packed model takes {size / 1e9:.1f} GB more, and {output} has {free / 1e9:.1f} GB left. "
            "Make room there or choose another folder."
        )


def _complete(scratch: Path, plan: Plan, identity: Mapping[str, Any], shards: Mapping[str, str]) -> None:
    """Put the small files beside the shards, and note where each file belongs."""
    for name, path in plan.copied.items():
        shutil.copyfile(path, scratch / name)
    for name, content in plan.written.items():
        (scratch / name).write_bytes(content)
    write_card(scratch, plan.card)
    write_json(scratch / CONFIG, plan.config)
    places = {**shards, **{name: name for name in (*plan.copied, *plan.written, CARD, CONFIG)}}
    for name in places:
        with (scratch / name).open("r+b") as file:
            sync(file)
    with replacing_file(scratch / DONE) as file:
        file.write(json.dumps({"identity": identity, "places": places}).encode())


def _move(scratch: Path, output: Path) -> None:
    """Have the complete files take the place of what was there; continued if it was cut off."""
    places: dict[str, str] = _done(scratch)["places"]
    if (scratch / CONFIG).is_file():
        (output / CONFIG).unlink(missing_ok=True)
        for old in output.glob(f"{Path(PACKED).stem}*.safetensors*"):
            if old.name not in places.values():
                old.unlink()
    for name, target in sorted(places.items(), key=lambda item: item[1] == CONFIG):
        if (scratch / name).is_file():
            (scratch / name).replace(output / target)


def _remove(scratch: Path) -> None:
    """The mark that all is done goes last."""
    for left in scratch.iterdir():
        if left.name != DONE:
            left.unlink()
    shutil.rmtree(scratch)
