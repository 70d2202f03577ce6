"""Speed, measured: `python -m benchmarks.NAME` prints a table and one JSON line last.

Runs of what is compared are interleaved, so that a busy machine slows all alike, and
medians are reported. Every figure carries where it comes from.
"""

import json
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]


def interleaved(runs: Mapping[str, Callable[[], object]], repeats: int, warm_up: int = 1) -> dict[str, float]:
    """Median seconds of each run; they take turns, and the first `warm_up` rounds don't count."""
    import torch  # not at the top: peers' processes import this package too, and have none

    seconds: dict[str, list[float]] = {name: [] for name in runs}
    for turn in range(warm_up + repeats):
        for name, run in runs.items():
            began = time.perf_counter()
            run()
            if torch.cuda.is_available():
                torch.cuda.synchronize()
            if turn >= warm_up:
                seconds[name].append(time.perf_counter() - began)
    return {name: statistics.median(values) for name, values in seconds.items()}


def _program() -> str:
    """How this process was begun: a module, unless it was something else."""
    spec = sys.modules["__main__"].__spec__
    return f"python -m {spec.name}" if spec is not None else Path(sys.argv[0]).name


def environment() -> dict[str, Any]:
    """Where figures come from: processor, threads, versions, commit, date, command."""
    import torch

    return {
        "cpu": _cpu(),
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        "threads": torch.get_num_threads(),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "commit": _commit(),
        "date": datetime.now(UTC).strftime("%Y-%m-%d"),
        "command": " ".join([_program(), *sys.argv[1:]]),
    }


def peak_gigabytes() -> float:
    """The most memory that this process has had, files that it has mapped included."""
    # Not getrusage's, which begins with what the parent had at the fork.
    for line in Path("/proc/self/status").read_text(encoding="ascii").splitlines():
        if line.startswith("VmHWM"):
            return int(line.split()[1]) * 1024 / 1e9
    raise OSError("/proc/self/status has no VmHWM")


def report(figures: Mapping[str, Any]) -> None:
    """Print the environment in words, then everything as one JSON line."""
    origin = environment()
    print(" · ".join(f"{name} {value}" for name, value in origin.items() if value is not None))
    print(json.dumps({**figures, "environment": origin}))


def table(headers: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """Columns as wide as their widest cell; numbers to the right, None as a dash."""
    cells = [[_cell(value) for value in row] for row in rows]
    widths = [max(map(len, column)) for column in zip(headers, *cells, strict=True)]
    right = [any(isinstance(row[i], (int, float)) for row in rows) for i in range(len(headers))]

    def line(texts: Sequence[str]) -> str:
        padded = (
            text.rjust(width) if to_right else text.ljust(width)
            for text, width, to_right in zip(texts, widths, right, strict=True)
        )
        return "  ".join(padded).rstrip()

    return "\n".join([line(headers), line(["-" * width for width in widths]), *map(line, cells)])


def rounded(value: Any) -> Any:
    """`value` with every number in it cut to five digits that count, for reports."""
    if isinstance(value, float):
        return float(f"{value:.5g}")
    if isinstance(value, Mapping):
        return {name: rounded(item) for name, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [rounded(item) for item in value]
    return value


def _cell(value: object) -> str:
    """A number with three digits that count."""
    if value is None:
        return "-"
    if isinstance(value, float):
        return f"{value:.0f}" if abs(value) >= 100 else f"{value:.3g}"
    return str(value)


def _cpu() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return f"{names[0]}, {len(names)} cores" if names else platform.machine()


def _commit() -> str:
    """The commit this runs on, marked if files have changed since."""
    here = Path(__file__).parent
    command = ["git", "describe", "--always", "--dirty", "--exclude=*"]
    try:
        return subprocess.run(command, cwd=here, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
