"""A conversion that is cut off goes on, and what can't be written leaves nothing that looks whole."""

import json
import os
import shutil
import subprocess
import sys
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from dragoman.checkpoints.families import is_whole
from dragoman.checkpoints.packed_folders import open_packed, verify
from dragoman.checkpoints.packed_saving import SCRATCH
from dragoman.checkpoints.packed_shards import JOURNAL, ShardWriter
from dragoman.errors import CheckpointError, InvalidOption
from dragoman.kernels.library import kernels
from dragoman.kernels.packing import Packed
from dragoman.systems.converting import convert
from tests.checkpoints.packing_kit import content, converted, with_tokenizer

pytestmark = pytest.mark.skipif(kernels() is None, reason="there are no native kernels here")
SHARD = 150_000


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return with_tokenizer("nllb_dense", tmp_path / "model")


@pytest.fixture
def whole(model: Path, tmp_path: Path) -> dict[str, bytes]:
    """The files of a conversion that nothing cut off."""
    convert(model, tmp_path / "whole", "int8", max_shard_bytes=SHARD)
    found = content(tmp_path / "whole")
    assert len([name for name in found if name.endswith(".safetensors")]) > 1
    return found


@contextmanager
def stopping_at(writes: int, monkeypatch: pytest.MonkeyPatch, error: BaseException) -> Iterator[None]:
    """The error comes in the stead of so manieth a part."""
    done, add = [], ShardWriter.add

    def stop(self: ShardWriter, name: str, parts: dict) -> None:
        if len(done) == writes:
            raise error
        done.append(name)
        add(self, name, parts)

    with monkeypatch.context() as patch:
        patch.setattr(ShardWriter, "add", stop)
        yield


KILLED = """
import os, random, signal, sys
from pathlib import Path
from dragoman.systems.converting import convert

model, outputs = Path(sys.argv[1]), Path(sys.argv[2])
PLACES = ("packed_shards.py", "packed_saving.py", "files.py")
events = 0

def run(output, last):
    '''Convert, and be killed at event `last`: a line of the code that writes.'''
    def trace(frame, event, argument):
        global events
        if not frame.f_code.co_filename.endswith(PLACES):
            return None
        events += 1
        if events == last:
            os.kill(os.getpid(), signal.SIGKILL)
        return trace

    sys.settrace(trace)
    convert(model, output, "int8", max_shard_bytes=150_000)
    sys.settrace(None)

run(outputs / "first", 0)
chance, total, events = random.Random(0), events, 0
# Anywhere, while files get their names, and while what is left over is removed.
points = [chance.randrange(total) for _ in range(3)] + [total - n for n in (200, 90, 40, 12, 4)]
for point in points:
    for last, wanted in ((point, -signal.SIGKILL), (0, 0)):
        output = outputs / str(point)
        if last == 0 and (output / "config.json").exists() and not (output / ".converting").exists():
            continue  # it was killed when all was done
        child = os.fork()
        if not child:
            run(output, last)
            os._exit(0)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == wanted
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_killed_anywhere_it_goes_on_to_the_same_bytes(
    model: Path, whole: dict[str, bytes], tmp_path: Path
) -> None:
    command = [sys.executable, "-c", KILLED, str(model), str(tmp_path / "killed")]
    found = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert found.returncode == 0, found.stderr
    outputs = list((tmp_path / "killed").iterdir())
    assert len(outputs) == 9
    for output in outputs:
        assert content(output) == whole, output.name


def test_what_is_written_is_not_packed_again(
    model: Path, whole: dict[str, bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    output = tmp_path / "packed"
    with stopping_at(20, monkeypatch, KeyboardInterrupt()), pytest.raises(KeyboardInterrupt):
        convert(model, output, "int8", max_shard_bytes=SHARD)
    assert not is_whole(output)
    assert [path.name for path in output.iterdir()] == [SCRATCH]
    names: list[str] = []
    add = ShardWriter.add
    monkeypatch.setattr(
        ShardWriter, "add", lambda self, name, parts: (names.append(name), add(self, name, parts))
    )
    convert(model, output, "int8", max_shard_bytes=SHARD)
    journal = len(open_packed(output)) - 1  # two parts, the tables, are written together
    assert len(names) == journal - 20
    assert content(output) == whole


@pytest.mark.parametrize("change", ["precision", "shards", "source"])
def test_what_was_begun_otherwise_is_begun_anew(
    change: str, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    output, options = tmp_path / "packed", {"precision": "int8", "max_shard_bytes": SHARD}
    with stopping_at(20, monkeypatch, KeyboardInterrupt()), pytest.raises(KeyboardInterrupt):
        convert(model, output, **options)  # type: ignore[arg-type]
    if change == "source":
        os.utime(model / "model.safetensors", (1, 1))
    else:
        options |= {"precision": "int4"} if change == "precision" else {"max_shard_bytes": 10**9}
    convert(model, output, **options)  # type: ignore[arg-type]
    convert(model, tmp_path / "fresh", **options)  # type: ignore[arg-type]
    assert content(output) == content(tmp_path / "fresh")


def test_bytes_that_differ_from_the_journal_are_written_anew(
    model: Path, whole: dict[str, bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    output = tmp_path / "packed"
    with stopping_at(20, monkeypatch, KeyboardInterrupt()), pytest.raises(KeyboardInterrupt):
        convert(model, output, "int8", max_shard_bytes=SHARD)
    scratch = output / SCRATCH
    lines = (scratch / JOURNAL).read_bytes().splitlines(keepends=True)
    assert len(lines) == 21
    # As after the power has gone: the middle of a file was never written, a line is half there.
    record = json.loads(lines[10])
    start = next(iter(record["tensors"].values()))[2]
    path = scratch / f"shard-{record['shard']:05}.part"
    data = bytearray(path.read_bytes())
    header = json.loads(lines[0])["header"]
    data[header + start : header + start + 16] = bytes(16)
    path.write_bytes(data)
    (scratch / JOURNAL).write_bytes(b"".join(lines)[:-7])
    convert(model, output, "int8", max_shard_bytes=SHARD)
    assert content(output) == whole


@contextmanager
def file_limit(size: int) -> Iterator[None]:
    """No file may grow beyond `size` bytes: what a full disk looks like to a writer."""
    resource = pytest.importorskip("resource")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_full_disk_is_an_error_after_which_it_goes_on(
    model: Path, whole: dict[str, bytes], tmp_path: Path
) -> None:
    output = tmp_path / "packed"
    with file_limit(200_000), pytest.raises(CheckpointError, match=r"can't be written.*Make room there"):
        convert(model, output, "int8", max_shard_bytes=SHARD)
    assert not is_whole(output)
    convert(model, output, "int8", max_shard_bytes=SHARD)
    assert content(output) == whole


def test_a_disk_that_is_too_small_is_refused_before_anything_is_read(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = shutil.disk_usage(tmp_path)._replace(free=1000)
    monkeypatch.setattr("dragoman.checkpoints.packed_saving.shutil.disk_usage", lambda _: usage)
    monkeypatch.setattr("dragoman.checkpoints.packing.Reader.__call__", lambda *_: pytest.fail("read"))
    with pytest.raises(CheckpointError, match=r"takes 0\.0 GB more.*Make room"):
        convert(model, tmp_path / "packed", "int8")
    assert not (tmp_path / "packed").exists()


def test_only_one_process_writes(model: Path, tmp_path: Path) -> None:
    with (
        ShardWriter(tmp_path / "packed" / SCRATCH, {}, [], SHARD),
        pytest.raises(InvalidOption, match="another process is converting"),
    ):
        convert(model, tmp_path / "packed", "int8")


def test_what_cannot_be_packed_leaves_nothing(model: Path, tmp_path: Path) -> None:
    data = bytearray((model / "model.safetensors").read_bytes())
    data[-64:] = b"\xff" * 64  # NaN in float32
    (model / "model.safetensors").write_bytes(data)
    with pytest.raises(CheckpointError, match="NaN"):
        convert(model, tmp_path / "packed", "int8")
    assert not (tmp_path / "packed").exists()


def test_an_output_that_holds_something_is_only_replaced_if_it_is_packed(model: Path, tmp_path: Path) -> None:
    output = tmp_path / "packed"
    convert(model, output, "int4", max_shard_bytes=SHARD)
    old = content(output)
    with pytest.raises(InvalidOption, match=r"holds a packed model already.*--force"):
        convert(model, output, "int8")
    assert content(output) == old
    convert(model, output, "int8", force=True)
    assert open_packed(output).precision == "int8"
    assert [path.name for path in output.glob("packed*")] == ["packed.safetensors"]
    verify(output)
    plain = with_tokenizer("nllb_moe_base", tmp_path / "plain")
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes" / "a.txt").write_text("a")
    for other in (plain, tmp_path / "notes"):
        before = content(other)
        with pytest.raises(InvalidOption, match="holds something else"):
            convert(model, other, "int8", force=True)
        assert content(other) == before
    with pytest.raises(InvalidOption, match="is read from"):
        convert(model, model, "int8", force=True)
    with pytest.raises(InvalidOption, match="is a file"):
        convert(model, tmp_path / "notes" / "a.txt", "int8")


def test_a_whole_model_beside_what_was_to_be_cleared_away_is_not_replaced_unasked(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    output = tmp_path / "packed"
    with monkeypatch.context() as patch:
        patch.setattr("dragoman.checkpoints.packed_saving._remove", lambda scratch: None)
        convert(model, output, "int8")
    assert (output / SCRATCH).is_dir()
    with pytest.raises(InvalidOption, match="holds a packed model already"):
        convert(model, output, "int4")
    assert open_packed(output).precision == "int8"
    convert(model, output, "int8")
    assert not (output / SCRATCH).exists()
    verify(output)


def test_memory_holds_the_parts_of_one_recipe(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    alive: weakref.WeakSet[Packed] = weakref.WeakSet()
    counts, empty = [], Packed.empty

    def noted(precision: str, outputs: int, inputs: int) -> Packed:
        counts.append(len(alive))
        alive.add(made := empty(precision, outputs, inputs))
        return made

    monkeypatch.setattr(Packed, "empty", noted)
    convert(model, tmp_path / "packed", "int8")
    assert len(counts) > 20
    assert max(counts) == 0


def test_packed_models_are_not_packed_again(tmp_path: Path) -> None:
    packed = converted("nllb_dense", tmp_path, "int8")
    with pytest.raises(InvalidOption, match="made from"):
        convert(packed, tmp_path / "again", "int8")


@pytest.mark.parametrize("options", [{"precision": "int2"}, {"precision": "int8", "max_shard_bytes": 0}])
def test_unknown_options_are_refused(options: dict, model: Path, tmp_path: Path) -> None:
    with pytest.raises(InvalidOption):
        convert(model, tmp_path / "packed", **options)


def test_a_model_without_tokenizer_is_refused(model: Path, tmp_path: Path) -> None:
    (model / "sentencepiece.bpe.model").unlink()
    with pytest.raises(CheckpointError, match="no tokenizer"):
        convert(model, tmp_path / "packed", "int8")
