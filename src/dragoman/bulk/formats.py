"""What kinds of files there are, and how they are told and unpacked."""

import bz2
import gzip
import lzma
from typing import Any, BinaryIO, Protocol, cast

from dragoman.errors import InvalidOption

TEXT, JSONL, CSV, PARQUET = "text", "jsonl", "csv", "parquet"
EXTENSIONS = {
    ".txt": TEXT,
    ".text": TEXT,
    ".jsonl": JSONL,
    ".ndjson": JSONL,
    ".csv": CSV,
    ".tsv": CSV,
    ".tab": CSV,
    ".parquet": PARQUET,
    ".pq": PARQUET,
}
FORMATS = (PARQUET, JSONL, CSV, TEXT)
OUTPUTS = {
    TEXT: (JSONL, TEXT, CSV, PARQUET),
    JSONL: (JSONL,),
    CSV: (CSV, JSONL, PARQUET),
    PARQUET: (PARQUET, JSONL),
}
"""What a file of each format can become; the first is what it becomes if nobody says."""
_COMPRESSIONS = {".gz": "gzip", ".zst": "zstd", ".bz2": "bz2", ".xz": "xz"}


class Readable(Protocol):
    """Where bytes come from."""

    def read(self, size: int, /) -> bytes:
        """At most `size` bytes; none at the end."""


def format_of(path: str) -> str | None:
    """The format that a file's name tells."""
    name = _uncompressed(path.lower())
    return next((format for ending, format in EXTENSIONS.items() if name.endswith(ending)), None)


def compression_of(path: str) -> str | None:
    """How a file is compressed, by its name."""
    return next((kind for ending, kind in _COMPRESSIONS.items() if path.lower().endswith(ending)), None)


def is_tabbed(path: str) -> bool:
    """Whether a table's name says that tabs separate its cells."""
    return _uncompressed(path.lower()).endswith((".tsv", ".tab"))


def output_format(format: str, wanted: str | None) -> str:
    """What a file of a format becomes; InvalidOption if it can't become what is `wanted`."""
    if wanted is None:
        return OUTPUTS[format][0]
    if wanted not in OUTPUTS[format]:
        raise InvalidOption(
            f"--format {wanted} can't be made of {format}; it can become {' or '.join(OUTPUTS[format])}"
        )
    return wanted


def unpacked(file: BinaryIO, compression: str | None) -> Readable:
    """A file's bytes as they were before they were compressed. InvalidOption without pyarrow, for zstd."""
    if compression == "gzip":
        return cast("Readable", gzip.GzipFile(fileobj=file))
    if compression == "bz2":
        return bz2.BZ2File(file)
    if compression == "xz":
        return lzma.LZMAFile(file)
    if compression == "zstd":
        pyarrow = need_pyarrow("zstd")
        return cast("Readable", pyarrow.CompressedInputStream(pyarrow.PythonFile(file, mode="r"), "zstd"))
    return file


def need_pyarrow(what: str) -> Any:
    """pyarrow; InvalidOption if it isn't installed."""
    try:
        import pyarrow
    except ModuleNotFoundError:
        raise InvalidOption(
            f"{what} needs pyarrow, which is not installed: pip install 'dragoman[bulk]'"
        ) from None
    return pyarrow


def _uncompressed(name: str) -> str:
    return next((name.removesuffix(ending) for ending in _COMPRESSIONS if name.endswith(ending)), name)
