"""Commands that are killed, or wait, once they have done so much, however fast or slow the machine is."""

from pathlib import Path

_SCRIPT = """
import os, signal, sys, time
from dragoman import cli
from dragoman.{module} import {name} as kind
real, done = kind.{method}, 0
def counted(self, *args, **options):
    global done
    made = real(self, *args, **options)
    done += 1
    if done == {at}:
        {then}
    return made
kind.{method} = counted
sys.argv[0] = "dragoman"
cli.main()
"""
_KILLED = "os.kill(os.getpid(), signal.SIGKILL)"
_HELD = "while not os.path.exists({path!r}): time.sleep(0.01)"
_SENTENCES = {"module": "jobs.run", "name": "Run", "method": "put"}
_BLOCKS = {"module": "bulk.work", "name": "Worker", "method": "run"}


def killed_after(sentences: int = 0, blocks: int = 0) -> tuple[str, str]:
    """A program that is killed once it has kept so many sentences of a job, or done so many blocks."""
    return "-c", _SCRIPT.format(**_SENTENCES if sentences else _BLOCKS, at=sentences or blocks, then=_KILLED)


def held_after(sentences: int, until: Path) -> tuple[str, str]:
    """A program that waits for a file to appear once it has kept so many sentences, and then looks for orders
    all the time."""
    script = _SCRIPT.format(**_SENTENCES, at=sentences, then=_HELD.format(path=str(until)))
    return "-c", f"from dragoman.jobs import run\nrun._LOOKS = 0.0\n{script}"
