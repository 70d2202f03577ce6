"""The command line, and what it leaves in a folder."""

import json
from pathlib import Path
from typing import Any

from tests.cli.conftest import dragoman, process, run

__all__ = ["dragoman", "process", "run"]

SENTENCES = (
    "Where is the station?",
    "Ich habe heute keine Zeit.",
    "The dog sleeps under the table.",
    "Mi hermano vive en Madrid.",
    "Good morning!",
    "Guten Abend, meine Damen und Herren.",
    "¿Dónde está mi libro?",
)


def outputs(folder: Path) -> dict[str, bytes]:
    """What a run has written, by name."""
    return {
        path.name: path.read_bytes() for path in sorted(folder.iterdir()) if path.name[:1] not in ("m", ".")
    }


def rows(folder: Path) -> list[dict[str, Any]]:
    """All rows of JSON lines, in their order."""
    return [json.loads(line) for data in outputs(folder).values() for line in data.splitlines()]
