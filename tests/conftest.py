"""Fixtures for all tests: the embedded model, and real sentences."""

from pathlib import Path

import pytest

from dragoman.translation.translator import Translator

DATA = Path(__file__).parent / "data"


@pytest.fixture(scope="session")
def translator() -> Translator:
    """The embedded model, on the CPU."""
    return Translator.load(device="cpu")


@pytest.fixture(scope="session")
def tatoeba() -> dict[str, list[tuple[str, str]]]:
    """Test pairs (text, English) by language code."""
    pairs = {}
    for path in sorted((DATA / "tatoeba").glob("*.tsv")):
        rows = [line.split("\t") for line in path.read_text(encoding="utf-8").splitlines()]
        pairs[path.name[:2]] = [(row[0], row[1]) for row in rows]
    return pairs
