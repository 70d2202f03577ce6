"""What unpacking py3langid's model gives is kept."""

from array import array
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from py3langid.modelio import load_model, save_model

from dragoman.text import langid


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("DRAGOMAN_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """A tiny model file of py3langid's kind."""
    path = tmp_path / "model.npz.xz"
    moves = array("H", [0] * 512)
    save_model(
        path, ([[0.5, -1.0], [0.25, 2.0]], [0.5, 0.5], ["en", "de"], moves, array("H", [0, 1]), [0, -1])
    )
    return path


def _same(one: tuple[Any, ...], other: tuple[Any, ...]) -> bool:
    return all(type(a) is type(b) and np.array_equal(a, b) for a, b in zip(one, other, strict=True))


def test_what_was_unpacked_is_kept(cache: Path, model: Path) -> None:
    packed = load_model(model)
    assert _same(langid.unpacked(model), packed)
    (kept,) = cache.iterdir()
    stamp = kept.stat().st_mtime_ns
    assert _same(langid.unpacked(model), packed)
    assert kept.stat().st_mtime_ns == stamp


def test_what_is_damaged_is_unpacked_again(cache: Path, model: Path) -> None:
    packed = langid.unpacked(model)
    (kept,) = cache.iterdir()
    whole = kept.read_bytes()
    numbers = np.asarray(packed[0]).tobytes()
    assert numbers in whole
    # The fourth says that it is encrypted, the fifth that it is packed in an unknown way.
    flagged = [
        whole[:at] + b"\xff" + whole[at + 1 :]
        for at in (whole.rindex(b"PK\x01\x02") + off for off in (8, 10))
    ]
    for damaged in (
        *flagged,
        b"",
        whole[:100],
        whole[:-40],
        whole.replace(numbers, numbers[::-1]),
        b"nonsense",
    ):
        kept.write_bytes(damaged)
        assert _same(langid.unpacked(model), packed)
        assert kept.read_bytes() == whole


def test_without_a_place_nothing_is_kept(cache: Path, model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    packed = load_model(model)
    cache.write_text("a file in the way")
    assert _same(langid.unpacked(model), packed)
    monkeypatch.setenv("DRAGOMAN_CACHE", "")
    assert _same(langid.unpacked(model), packed)
    assert cache.read_text() == "a file in the way"


def test_what_another_release_kept_goes(cache: Path, model: Path) -> None:
    cache.mkdir()
    (cache / "py3langid-0.0.1-5.npz").write_bytes(b"old")
    (cache / "other").write_bytes(b"something else")
    langid.unpacked(model)
    assert sorted(path.name == "other" for path in cache.iterdir()) == [False, True]
