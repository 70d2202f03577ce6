"""The curves of a run as a picture."""

import json
from pathlib import Path
from typing import Any

from dragoman.errors import InvalidOption

LABELS = {
    "loss": "nats per token",
    "ranking": "loss of a pair",
    "accuracy": "share of pairs ranked right",
    "margin": "nats between chosen and rejected",
    "aux": "routers' losses",
    "load": "busiest expert, 1 is even",
    "rate": "learning rate",
}


def plot(log: Path, picture: Path) -> None:
    """Draw every figure of a run's `log.jsonl` over its updates; InvalidOption if nothing is there."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    lines = log.read_text(encoding="utf-8").splitlines() if log.exists() else []
    rows = [json.loads(line) for line in lines]
    names = [name for name in LABELS if sum(name in row for row in rows) > 1]
    if not names:
        raise InvalidOption(f"{log} has no two lines of figures yet; there is no curve to draw")
    columns = min(3, len(names))
    count = -(-len(names) // columns)
    size = (4.2 * columns, 3.1 * count)
    figure, axes = pyplot.subplots(count, columns, figsize=size, layout="constrained", squeeze=False)
    for axis, name in zip(axes.flat, names, strict=False):
        _curve(axis, rows, name, "training")
        _curve(axis, rows, f"dev_{name}", "development")
        axis.set(xlabel="updates", title=name, ylabel=LABELS[name])
        if any(f"dev_{name}" in row for row in rows):
            axis.legend()
    for axis in axes.flat[len(names) :]:
        axis.remove()
    figure.savefig(picture, dpi=110)
    pyplot.close(figure)


def _curve(axis: Any, rows: list[dict[str, Any]], name: str, label: str) -> None:
    found = [(row["update"], row[name]) for row in rows if name in row]
    if found:
        marked = {"marker": "o", "ms": 3} if name.startswith("dev_") else {"lw": 0.9}
        axis.plot(*zip(*found, strict=True), label=label, **marked)
