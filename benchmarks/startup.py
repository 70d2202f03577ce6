"""From the command to the first translation: `python -m benchmarks.startup`.

Whole processes, from start to end: the command line's against a script of transformers that
loads the same folder. What an import costs stands beside it; both put off what they can. Files
are in the page cache, as the first round doesn't count.
"""

import argparse
import os
import subprocess
from collections.abc import Callable
from pathlib import Path

from benchmarks import ROOT, interleaved, report, rounded, table
from benchmarks.end_to_end import EMBEDDED
from benchmarks.floats import floats
from benchmarks.peers.client import OURS, environment, interpreter

TEXT = "Where is the railway station?"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--model", type=Path, default=EMBEDDED, help="a folder (default: the embedded model)")
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--quick", action="store_true", help="one run of each")
    args = parser.parse_args()
    repeats = 1 if args.quick else args.repeats
    folder = str(args.model.resolve())
    ours, peer = str(interpreter(OURS)), str(interpreter("transformers"))
    command = [ours, "-m", "dragoman", "translate", "--model", folder, "--from", "en", "--to", "de", TEXT]
    once = [
        "-m",
        "benchmarks.peers.once_transformers",
        str(floats(args.model.resolve())),
        "eng_Latn",
        "deu_Latn",
        TEXT,
    ]
    commands = {
        "transformers: import": (peer, [peer, "-c", "import transformers"]),
        "dragoman: import": (ours, [ours, "-c", "import dragoman"]),
        "transformers: translation": (peer, [peer, *once]),
        "dragoman: translation": (ours, command),
    }
    runs = {
        name: _run(argv, OURS if python == ours else "transformers", args.threads)
        for name, (python, argv) in commands.items()
    }
    seconds = interleaved(runs, repeats)
    print(table(["process", "s"], list(seconds.items())))
    ratio = seconds["transformers: translation"] / seconds["dragoman: translation"]
    print(f"ratio of translations {ratio:.2f}")
    report(
        {
            "benchmark": "startup",
            "repeats": repeats,
            "engine_threads": args.threads,
            "seconds": rounded(seconds),
            "ratio": rounded(ratio),
        }
    )


def _run(command: list[str], peer: str, threads: int) -> Callable[[], object]:
    env = environment(peer, threads)
    return lambda: subprocess.run(command, cwd=ROOT, env=env, check=True, capture_output=True)


if __name__ == "__main__":
    main()
