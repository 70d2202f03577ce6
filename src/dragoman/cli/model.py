"""Loading a model for a command."""

import os
import signal
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from dragoman.cli.messages import say
from dragoman.errors import InvalidOption

if TYPE_CHECKING:
    from dragoman.translation.translator import Translator


def load(options: dict[str, Any]) -> "Translator":
    """The model that a command asks for, with a word on a precision that nobody asked for."""
    from dragoman.checkpoints.catalog import EMBEDDED, locate
    from dragoman.checkpoints.packed_facts import is_packed
    from dragoman.translation.translator import Translator

    translator = Translator.load(**options)
    found = translator.system.precision
    # Quality is not given up in silence; that of a packed model was when it was converted.
    is_chosen = options.get("precision", "auto") == "auto" and found != "fp32"
    if is_chosen and not is_packed(locate(options.get("model", EMBEDDED))):
        say(f"precision: {found}, as fp32 would take too much memory or time here; --precision fp32 insists")
    return translator


def serve_rank(options: dict[str, Any]) -> None:
    """On another rank than the first work for that one, and then end the command; else go on.

    What a command reads and writes is the first rank's affair.
    """
    if not options.get("parallel") or os.environ.get("RANK", "0") == "0":
        return
    # They wait in libraries that let no handler run. Ctrl-C comes to all of them: the first one ends then,
    # and lets the others go.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    from dragoman.translation.translator import Translator

    try:
        Translator.load(**options)
    except SystemExit as end:
        raise typer.Exit(end.code if isinstance(end.code, int) else 0) from None


def vocabulary_text(path: Path, size: int | None, target: str | None) -> dict[str, list[str]]:
    """The lines of --vocabulary-text, by the language of --to."""
    if size is None or target is None:
        raise InvalidOption("--vocabulary-text goes with --vocabulary and --to")
    try:
        return {target: path.read_text(encoding="utf-8").splitlines()}
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidOption(f"--vocabulary-text {path} can't be read: {error}") from error
