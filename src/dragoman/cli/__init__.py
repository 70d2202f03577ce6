"""The command line: one file a command, which parses, calls and prints."""

import contextlib
import io
import signal
import sys
from collections.abc import Iterator
from types import FrameType
from typing import Annotated

import typer

import dragoman
from dragoman.cli import (
    ask,
    bulk,
    convert,
    evaluate,
    experts,
    jobs,
    keys,
    languages,
    memories,
    models,
    modules,
    pack,
    serve,
    train,
    translate,
    verify,
)
from dragoman.cli.commands import HELP, Command

EPILOG = """
Exit status: 0 all was done; 1 some lines could not be translated;
2 a mistake in the command, or an error that stopped it;
130 Ctrl-C; 141 the reader of the output went away.

Environment: DRAGOMAN_MODEL and DRAGOMAN_PRECISION are defaults of
--model and --precision. LANGUAGE, LC_ALL, LC_MESSAGES and LANG say
what to translate to without --to (else English). HF_HOME is where
downloaded models are kept; HF_HUB_OFFLINE=1 forbids downloads;
HF_TOKEN opens repositories that ask for an account.
DRAGOMAN_STATE is where jobs are kept, with what is done of those
that are not finished.
DRAGOMAN_KERNELS=torch does without the CPU kernels; a name such as
avx2 asks for one build of them.
"""

app = typer.Typer(
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings=HELP,
    epilog=EPILOG,
    help="Self-hosted translation with NLLB-200, NLLB-MoE and X-ALMA.",
)
app.command(cls=Command)(translate.translate)
app.command(cls=Command)(bulk.bulk)
app.command(cls=Command)(ask.ask)
app.command("languages", cls=Command)(languages.list_languages)
app.command("convert", cls=Command)(convert.convert)
app.command("pack", cls=Command)(pack.pack)
app.command(cls=Command)(evaluate.evaluate)
app.command("train", cls=Command)(train.train)
app.command(cls=Command)(verify.verify)
app.command("serve", cls=Command)(serve.serve)
app.add_typer(keys.app, name="keys")
app.add_typer(models.app, name="models")
app.add_typer(modules.app, name="modules")
app.add_typer(experts.app, name="experts")
app.add_typer(jobs.app, name="jobs")
app.add_typer(memories.app, name="memory")


@app.callback(invoke_without_command=True)
def _root(version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False) -> None:
    if version:
        print(f"dragoman {dragoman.__version__}")
        raise typer.Exit


def main() -> None:
    """Run the command line, and exit with its status."""
    _write_what_the_terminal_cannot_show()
    with _stopping():
        app(prog_name="dragoman")


def _write_what_the_terminal_cannot_show() -> None:
    """Texts are UTF-8 in files and pipes; a terminal of another encoding gets escapes for what it lacks."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            encoding = None if stream.isatty() or stream is sys.stderr else "utf-8"
            stream.reconfigure(encoding=encoding, errors="backslashreplace")


@contextlib.contextmanager
def _stopping() -> Iterator[None]:
    """Be told to stop like by Ctrl-C, so that what was done is kept and said."""

    def stop(number: int, frame: FrameType | None) -> None:
        raise SystemExit(128 + number)

    signals = [getattr(signal, name) for name in ("SIGTERM", "SIGHUP") if hasattr(signal, name)]
    # What the caller ignores, as nohup does, stays ignored.
    before = {number: signal.getsignal(number) for number in signals}
    for number, handler in before.items():
        if handler == signal.SIG_DFL:
            signal.signal(number, stop)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
