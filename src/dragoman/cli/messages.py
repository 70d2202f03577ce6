"""What is said on standard error, and how a command ends."""

import contextlib
import os
import re
import sys
from collections.abc import Iterator
from dataclasses import fields

import typer

from dragoman.errors import DragomanError
from dragoman.files import StandardOutput
from dragoman.generation.options import GenerationOptions
from dragoman.translation.options import LoadOptions, TextOptions

SOME_FAILED, STOPPED, INTERRUPTED, NO_READER = 1, 2, 130, 141
"""Exit statuses: lines failed; an error; Ctrl-C; nobody reads the output any more."""

_FLAGS = {
    field.name: f"--{field.name.replace('_', '-')}"
    for options in (LoadOptions, TextOptions, GenerationOptions)
    for field in fields(options)
} | {"source": "--from", "target": "--to"}
# What Python offers and the command line has other means for.
_ADVICE = (
    (
        r"if the model reads ALMA's prompts all the same, say style='chat' or style='plain'",
        "if the model reads ALMA's prompts all the same, rename the folder so that it ends in x-alma (for "
        "chat prompts) or in alma (for plain ones)",
    ),
)


def say(message: str) -> None:
    """Say something to the user, beside the output."""
    print(message, file=sys.stderr, flush=True)


def put(line: str) -> None:
    """Write a line to standard output: in UTF-8, or as a terminal can show it."""
    encoding = sys.stdout.encoding if sys.stdout.isatty() else "utf-8"
    StandardOutput().write(f"{line}\n".encode(encoding, "backslashreplace"))


def worded(error: BaseException) -> str:
    """An error's message with the options as they are spelled on the command line."""
    message = str(error)
    for pattern, advice in _ADVICE:
        message = re.sub(pattern, advice, message)
    for name, flag in _FLAGS.items():
        message = re.sub(rf"\b{name}=True\b", flag, message)
        message = re.sub(rf"\b{name}=('[^']*'|[\w.]+)", rf"{flag} \1", message)
        message = re.sub(rf"^{name}(?= (is|goes) )", flag, message)
        if "_" in name:
            message = re.sub(rf"(?<![\w-]){name}\b", flag, message)
        message = message.replace(f"{flag} ({flag})", flag)
    return message


@contextlib.contextmanager
def ending() -> Iterator[None]:
    """End a command with a line for people and the right status, whatever happens in it."""
    try:
        yield
        if sys.stdout is not None:
            sys.stdout.flush()
    except DragomanError as error:
        _tell(f"error: {worded(error)}", error)
        raise typer.Exit(STOPPED) from None
    except KeyboardInterrupt as error:
        _tell("interrupted", error)
        raise typer.Exit(INTERRUPTED) from None
    except SystemExit as error:
        _tell("stopped", error)
        raise
    except BrokenPipeError:
        # The reader went away, as `head` does; nothing more can be said to it.
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        raise typer.Exit(NO_READER) from None
    except OSError as error:
        place = f": {error.filename}" if error.filename else ""
        _tell(f"error: {error.strerror or error}{place}", error)
        raise typer.Exit(STOPPED) from None


def _tell(message: str, error: BaseException) -> None:
    if getattr(error, "is_told", False):  # by a command within this one
        return
    say(message)
    for note in getattr(error, "__notes__", ()):
        say(note)
    error.is_told = True  # type: ignore[attr-defined]
