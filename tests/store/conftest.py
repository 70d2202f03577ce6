"""Files with pieces whose bytes say which they are."""

from collections.abc import Callable
from pathlib import Path

import pytest

from dragoman.store.pieces import Extent, Piece
from dragoman.store.shelf import Key

SIZE = 10_000
"""Of a piece: more than two pages, and no whole number of them."""
Pieces = dict[Key, Piece]


def content(number: int) -> bytes:
    return bytes([number % 251]) * SIZE


@pytest.fixture
def pieces(tmp_path: Path) -> Callable[[int, int], Pieces]:
    """make(layers, numbers): pieces one behind the other in a file, each of which knows its bytes."""

    def make(layers: int, numbers: int) -> Pieces:
        file = tmp_path / "pieces"
        file.write_bytes(b"".join(content(n) for n in range(layers * numbers)))
        return {
            (layer, number): piece(file, layer * numbers + number)
            for layer in range(layers)
            for number in range(numbers)
        }

    return make


def piece(file: Path, number: int) -> Piece:
    extent = Extent(file, number * SIZE, (number + 1) * SIZE)
    at = extent.start % 4096

    def check(slab: memoryview) -> str | None:
        return None if bytes(slab[at : at + SIZE]) == content(number) else "its bytes are others"

    return Piece(f"piece {number}", (extent,), check, lambda slab: bytes(slab[at : at + SIZE]))
