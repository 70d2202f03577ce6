"""Two pictures: sentences a second against workers, and what each thing costs that goes wrong."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any


def draw_plan(path: Path, rows: Sequence[Mapping[str, Any]], sentences: int) -> None:
    """Sentences a second by number of workers, both on scales of powers."""
    figure, axes = _axes(6.4, 3.6)
    workers = [row["workers"] for row in rows]
    ideal = sentences / rows[0]["hours, calm"] / 3600 / workers[0]
    axes.loglog(workers, [ideal * count for count in workers], color="#999999", linestyle=":", label="ideal")
    calm = [sentences / row["hours, calm"] / 3600 for row in rows]
    axes.loglog(workers, calm, color="#2a6f97", marker="o", markersize=4, label="calm")
    usual = [row["sentences/s"] for row in rows]
    axes.loglog(workers, usual, color="#c1440e", marker="s", markersize=4, label="slow machines and failures")
    axes.set_xlabel("workers of one thread")
    axes.set_ylabel("sentences a second")
    axes.legend(frameon=False)
    _save(figure, path)


def draw_hazards(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """How many times as long as the calm run each takes."""
    figure, axes = _axes(6.4, 0.6 + 0.26 * len(rows))
    names = [row["what"] for row in rows][::-1]
    values = [row["against calm"] for row in rows][::-1]
    axes.barh(names, values, color="#2a6f97", height=0.7)
    for place, value in enumerate(values):
        axes.text(value, place, f" {value:.2f}", va="center", fontsize=8)
    axes.axvline(1, color="#999999", linewidth=0.8)
    axes.set_xlabel("time, the calm run = 1")
    axes.set_xlim(0, max(values) * 1.12)
    axes.tick_params(axis="y", labelsize=8)
    _save(figure, path)


def _axes(width: float, height: float) -> tuple[Any, Any]:
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(width, height))
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    return figure, axes


def _save(figure: Any, path: Path) -> None:
    figure.tight_layout()
    # Without the name of the library's release a picture that hasn't changed has the same bytes.
    figure.savefig(path, dpi=110, metadata={"Software": None})
