"""Reading pieces of files: whole, checked, and again if need be."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from dragoman.errors import CheckpointError
from dragoman.store import pieces as module
from dragoman.store.pieces import Extent, Files, Piece, slab_places
from tests.store.conftest import SIZE, Pieces, content


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "PAUSES", (0.0, 0.0, 0.0))


def room(piece: Piece) -> memoryview:
    return memoryview(bytearray(piece.bytes))


@pytest.mark.parametrize("direct", [False, True])
def test_a_piece_arrives_as_it_was_written(pieces: Callable[[int, int], Pieces], direct: bool) -> None:
    files = Files(direct)
    for number, piece in enumerate(pieces(2, 3).values()):
        slab = room(piece)  # not at a page's begin, which reading past the cache can't take
        files.read(piece, slab)
        assert piece.make(slab) == content(number)
    files.close()


def test_extents_of_several_files_lie_one_behind_the_other_in_a_slab(tmp_path: Path) -> None:
    for name in "ab":
        (tmp_path / name).write_bytes(os.urandom(3 * SIZE))
    extents = (Extent(tmp_path / "a", 5, 9000), Extent(tmp_path / "b", 4097, 4100))
    places = slab_places(extents)
    piece = Piece("both", extents, lambda slab: None, bytes)
    assert piece.bytes == 4 * 4096
    slab = room(piece)
    Files(direct=False).read(piece, slab)
    for extent, at in zip(extents, places, strict=True):
        there = extent.file.read_bytes()[extent.start : extent.stop]
        assert bytes(slab[at : at + len(there)]) == there
        assert at % 4096 == extent.start % 4096


def test_damage_is_named_after_a_few_attempts(
    pieces: Callable[[int, int], Pieces], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    damaged = pieces(1, 2)[0, 1]
    with (tmp_path / "pieces").open("r+b") as file:
        file.seek(SIZE + 17)
        file.write(b"\xff")
    reads: list[Path] = []
    some = Files._some
    monkeypatch.setattr(
        Files, "_some", lambda self, path, *rest: reads.append(path) or some(self, path, *rest)
    )
    with pytest.raises(CheckpointError, match=r"piece 1 can't be had from .*pieces: its bytes are others"):
        Files(direct=False).read(damaged, room(damaged))
    assert len(reads) == 4


def test_a_passing_fault_is_no_fault(
    pieces: Callable[[int, int], Pieces], monkeypatch: pytest.MonkeyPatch
) -> None:
    piece = pieces(1, 1)[0, 0]
    faults = [OSError(5, "Input/output error"), OSError(5, "Input/output error")]
    some = Files._some

    def failing(self: Files, path: Path, slab: memoryview, at: int) -> int:
        if faults:
            raise faults.pop()
        return some(self, path, slab, at)

    monkeypatch.setattr(Files, "_some", failing)
    slab = room(piece)
    Files(direct=False).read(piece, slab)
    assert piece.make(slab) == content(0)


@pytest.mark.parametrize(
    ("harm", "words"),
    [
        (lambda file: os.truncate(file, SIZE + 4096), r"the file ends before byte"),
        (lambda file: file.unlink(), r"No such file"),
    ],
    ids=["cut off", "gone"],
)
def test_what_is_cut_off_or_gone_is_named(
    pieces: Callable[[int, int], Pieces], tmp_path: Path, harm: Callable[[Path], None], words: str
) -> None:
    wanted = pieces(1, 3)[0, 2]
    harm(tmp_path / "pieces")
    with pytest.raises(CheckpointError, match=f"piece 2 can't be had from .*pieces.*{words}"):
        Files(direct=False).read(wanted, room(wanted))
