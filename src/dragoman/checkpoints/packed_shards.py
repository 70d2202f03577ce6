"""Packed parts in safetensors whose bytes are what the kernels read, and which are written bit by bit.

Every tensor begins at a whole line of the processor's cache, a large one at a page; the format allows for no
gaps, so what lies between are tensors of zeros (`__pad.…`). A shard's metadata hold the layout's version, the
parts with their facts, and each tensor's checksum.

A conversion that was cut off goes on: a journal says which parts are written, and is believed as far as their
checksums agree with it.
"""

import contextlib
import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO, Self

import numpy as np
from xxhash import xxh3_128

from dragoman.checkpoints.numbers import Numbers, nbytes
from dragoman.checkpoints.part_forms import take_apart
from dragoman.checkpoints.weight_files import BLOCK, HEADER, PACKED, PACKED_INDEX
from dragoman.errors import InvalidOption, Shape
from dragoman.files import lock, sync, write_json

LAYOUT = 1
"""Rises whenever older files can't be read any more."""
MARK, PARTS, CHECKSUMS = "dragoman_layout", "dragoman_parts", "dragoman_checksums"
"""What the metadata have them under."""
PAD = "__pad."
LINE, PAGE, LARGE = 64, 4096, 2**16
LONGEST_HEADER = 2**20
JOURNAL = "journal.jsonl"


@dataclass(frozen=True)
class Tensor:
    """A tensor in a shard, behind its header."""

    dtype: str
    shape: Shape
    start: int
    checksum: str

    @property
    def stop(self) -> int:
        return self.start + nbytes(self.shape, self.dtype)

    @property
    def entry(self) -> dict[str, object]:
        return {"dtype": self.dtype, "shape": list(self.shape), "data_offsets": [self.start, self.stop]}


@dataclass(frozen=True)
class Record:
    """What the journal says of parts that were written together."""

    name: str
    shard: int
    tensors: dict[str, Tensor]
    parts: dict[str, dict[str, Any]]

    @classmethod
    def read(cls, data: Mapping[str, Any]) -> Self:
        tensors = {
            name: Tensor(dtype, tuple(shape), start, checksum)
            for name, (dtype, shape, start, checksum) in data["tensors"].items()
        }
        return cls(data["name"], data["shard"], tensors, data["parts"])

    def line(self) -> str:
        tensors = {name: [t.dtype, list(t.shape), t.start, t.checksum] for name, t in self.tensors.items()}
        data = {"name": self.name, "shard": self.shard, "tensors": tensors, "parts": self.parts}
        return json.dumps(data, separators=(",", ":"))

    @property
    def header_bytes(self) -> int:
        """At the most what it takes of a header, with a pad before each tensor."""
        tensors = sum(2 * len(name) + 330 for name in self.tensors)
        # JSON within JSON: every quotation mark gets a sign of its own.
        return tensors + 2 * len(json.dumps(self.parts, separators=(",", ":")))


@dataclass
class _Shard:
    tensors: dict[str, Tensor] = field(default_factory=dict)
    parts: dict[str, dict[str, Any]] = field(default_factory=dict)
    header_bytes: int = 512
    end: int = 0

    def take(self, record: Record) -> None:
        self.tensors |= record.tensors
        self.parts |= record.parts
        self.header_bytes += record.header_bytes
        self.end = max((tensor.stop for tensor in record.tensors.values()), default=self.end)


class ShardWriter:
    """Writes parts to shards in a scratch folder, and goes on with what it finds there; a context manager."""

    def __init__(
        self, folder: Path, identity: Mapping[str, Any], names: Iterable[str], max_shard_bytes: int
    ) -> None:
        """identity: what must be the same for a conversion to be continued; names: of all parts to come.

        InvalidOption if another process is writing there.
        """
        self._folder, self._limit = folder, max_shard_bytes
        # What the header may take, so that the numbers can be written before it.
        room = 1024 + sum(1100 + 16 * len(name) for name in names)
        self._reserve = -(-min(room, LONGEST_HEADER) // PAGE) * PAGE
        self._shards = [_Shard()]
        self._open: dict[int, BinaryIO] = {}
        self.done: list[str] = []
        """The names of what is written, in their order."""
        folder.mkdir(parents=True, exist_ok=True)
        self._journal: BinaryIO = open(folder / JOURNAL, "a+b")  # noqa: SIM115
        if not lock(self._journal):
            self._journal.close()
            raise InvalidOption(f"another process is converting to {folder.parent} now; wait for it")
        self._resume(json.dumps({**identity, "header": self._reserve, "limit": max_shard_bytes}))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for file in (*self._open.values(), self._journal):  # closing twice does nothing
            # A disk may be full still: whatever that loses wasn't in the journal.
            with contextlib.suppress(OSError):
                file.close()

    @property
    def bytes(self) -> int:
        """How much of the tensors is written."""
        return sum(shard.end for shard in self._shards)

    def add(self, name: str, parts: Mapping[str, Any]) -> None:
        """Write parts; once this returns they stay."""
        arrays, described = _described(parts)
        size = sum(array.nbytes for array in arrays.values())
        record = self._planned(name, arrays, described)
        shard = self._shards[-1]
        full = shard.end + size > self._limit or shard.header_bytes + record.header_bytes > self._reserve
        if shard.tensors and full:
            self._shards.append(_Shard())
            record = self._planned(name, arrays, described)
        file, end = self._file(record.shard), self._shards[-1].end
        file.seek(self._reserve + end)
        for each, tensor in record.tensors.items():
            file.write(bytes(tensor.start - end))
            _write(file, arrays[each])
            end = tensor.stop
        file.flush()
        self._journal.write(record.line().encode() + b"\n")
        self._journal.flush()
        self._shards[-1].take(record)
        self.done.append(name)

    def finish(self, metadata: Mapping[str, str]) -> dict[str, str]:
        """Complete the shards, which lie in the scratch folder: the names that they are to get, by theirs."""
        count = len(self._shards)
        names = [PACKED] if count == 1 else [f"packed-{n:05}-of-{count:05}.safetensors" for n in _up(count)]
        for number, shard in enumerate(self._shards):
            file = self._file(number)
            file.seek(0)
            file.write(_header(shard, metadata, self._reserve))
            file.truncate(self._reserve + shard.end)
            sync(file)
            file.close()  # some systems move no open file
        found = {_scratch_name(number): name for number, name in enumerate(names)}
        if count > 1:
            weight_map = {
                tensor: name
                for name, shard in zip(names, self._shards, strict=True)
                for tensor in shard.tensors
            }
            index = {"metadata": {"total_size": self.bytes}, "weight_map": weight_map}
            write_json(self._folder / PACKED_INDEX, index)
            found[PACKED_INDEX] = PACKED_INDEX
        return found

    def _planned(self, name: str, arrays: Mapping[str, Numbers], parts: dict[str, dict[str, Any]]) -> Record:
        tensors, end = {}, self._shards[-1].end
        for each, array in arrays.items():
            unit = PAGE if array.nbytes >= LARGE else LINE
            start = -(-end // unit) * unit
            tensors[each] = Tensor(array.dtype, array.shape, start, checksum(array.data))
            end = start + array.nbytes
        return Record(name, len(self._shards) - 1, tensors, parts)

    def _file(self, number: int) -> BinaryIO:
        if number not in self._open:
            path = self._folder / _scratch_name(number)
            self._open[number] = open(path, "r+b" if path.exists() else "w+b")  # noqa: SIM115
        return self._open[number]

    def _resume(self, identity: str) -> None:
        """Take up what the journal says and the files hold, and forget the rest."""
        self._journal.seek(0)
        head = self._journal.readline()
        if head != identity.encode() + b"\n":
            self._journal.truncate(0)
            self._journal.write(identity.encode() + b"\n")
            self._journal.flush()
            return
        end = len(head)
        for line in self._journal:
            record = _parsed(line)
            if record is None or not self._holds(record):
                break
            while record.shard >= len(self._shards):
                self._shards.append(_Shard())
            self._shards[record.shard].take(record)
            self.done.append(record.name)
            end += len(line)
        self._journal.truncate(end)

    def _holds(self, record: Record) -> bool:
        if not (self._folder / _scratch_name(record.shard)).is_file():
            return False
        file = self._file(record.shard)
        for tensor in record.tensors.values():
            file.seek(self._reserve + tensor.start)
            if checksum_of(file, tensor.stop - tensor.start) != tensor.checksum:
                return False
        return True


def checksum(array: Any) -> str:
    """Of an array's bytes: xxHash's XXH3, as fast as memory is read."""
    return xxh3_128(np.ascontiguousarray(array).reshape(-1).view(np.uint8).data).hexdigest()


def checksum_of(file: BinaryIO, size: int) -> str:
    """Of the next `size` bytes of a file, or of those that there are."""
    found = xxh3_128()
    while size > 0 and (block := file.read(min(size, BLOCK))):
        found.update(block)
        size -= len(block)
    return found.hexdigest()


def _described(parts: Mapping[str, Any]) -> tuple[dict[str, Numbers], dict[str, dict[str, Any]]]:
    """The arrays of parts by their names in the file, each once, and the parts' descriptions."""
    arrays: dict[str, Numbers] = {}
    places: dict[tuple[int, Shape, str], str] = {}
    described = {}
    for name, part in parts.items():
        kind, its, facts = take_apart(part)
        fields = {}
        for each, array in its.items():
            place = array.data.ctypes.data, array.shape, array.dtype
            fields[each] = places.setdefault(place, f"{name}.{each}")
            arrays.setdefault(fields[each], array)
        described[name] = {"kind": kind, **facts, "arrays": fields}
    return arrays, described


def _header(shard: _Shard, metadata: Mapping[str, str], size: int) -> bytes:
    """The header in so many bytes, its length included."""
    remarks = {
        MARK: str(LAYOUT),
        **metadata,
        PARTS: json.dumps(shard.parts, separators=(",", ":")),
        CHECKSUMS: json.dumps({name: t.checksum for name, t in shard.tensors.items()}, separators=(",", ":")),
    }
    header: dict[str, object] = {"__metadata__": remarks}
    end = 0
    for name, tensor in shard.tensors.items():
        if tensor.start > end:
            header[f"{PAD}{end}"] = Tensor("U8", (tensor.start - end,), end, "").entry
        header[name] = tensor.entry
        end = tensor.stop
    text = json.dumps(header, separators=(",", ":")).encode()
    assert len(text) + HEADER <= size, f"a header of {len(text)} bytes where {size} were set aside"
    return (size - HEADER).to_bytes(HEADER, "little") + text.ljust(size - HEADER)


def _write(file: BinaryIO, numbers: Numbers) -> None:
    flat = np.ascontiguousarray(numbers.data).reshape(-1).view(np.uint8)
    for first in range(0, len(flat), BLOCK):
        file.write(flat[first : first + BLOCK].data)


def _parsed(line: bytes) -> Record | None:
    try:
        return Record.read(json.loads(line)) if line.endswith(b"\n") else None
    except (ValueError, KeyError, TypeError, AttributeError):
        return None


def _scratch_name(number: int) -> str:
    return f"shard-{number:05}.part"


def _up(count: int) -> Iterator[int]:
    return iter(range(1, count + 1))
