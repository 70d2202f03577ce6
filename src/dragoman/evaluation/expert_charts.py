"""Pictures of which experts which languages use, as PNG; they need matplotlib."""

from collections.abc import Iterator, Sequence
from io import BytesIO
from typing import Any

from dragoman.errors import InvalidOption
from dragoman.evaluation.experts import ExpertStatistics, Side, in_effect
from dragoman.languages import of_code

INK, MUTED, ACCENT, PALE = "#1f2933", "#7b8794", "#0b6e8f", "#c9dfe6"
WRITTEN = 12
"""Languages up to which the cells of a matrix have their figures in them."""
DPI = 130


def need_matplotlib() -> None:
    """InvalidOption if there is no matplotlib."""
    try:
        import matplotlib  # noqa: F401
    except ImportError:
        raise InvalidOption(
            "drawing needs matplotlib: pip install 'dragoman[training]'. The figures alone don't (--json)"
        ) from None


def charts(statistics: ExpertStatistics) -> Iterator[tuple[str, bytes]]:
    """(name of a file, PNG) of each picture: experts by layer, likeness of languages, balance."""
    for name, side in statistics.sides.items():
        yield f"{name}-experts.png", _heat_maps(name, side)
        if len(side.languages) > 1:
            yield f"{name}-similarity.png", _similarity(name, side)
    yield "load-balance.png", _balance(statistics)


def language_names(side: Side) -> list[str]:
    return [of_code(code).name for code in side.languages]


def _heat_maps(name: str, side: Side) -> bytes:
    """A map for each layer: how many of a language's tokens each expert gets."""
    names, rates = language_names(side), [each.rate for each in side.languages.values()]
    most = max(float(rate.max()) for rate in rates)
    row = min(0.24, 10 / len(names))
    height = 0.75 + row * len(names)
    figure = _figure(min(18.0, 3.2 + 0.42 * side.experts), 0.8 + height * len(side.layers))
    panels = figure.subplots(len(side.layers), 1, squeeze=False)[:, 0]
    for place, (layer, axes) in enumerate(zip(side.layers, panels, strict=True)):
        image = axes.imshow(
            [rate[place] for rate in rates], cmap=_colours(), vmin=0, vmax=most, aspect="auto"
        )
        axes.set_title(f"{name} layer {layer}", loc="left", fontsize=9, color=INK)
        _ticks(axes, names, _spaced(side.experts), row)
        bar = figure.colorbar(image, ax=axes, pad=0.01, format=lambda share, _: f"{share:.0%}")
        bar.outline.set_visible(False)
        bar.ax.tick_params(labelsize=8)
    panels[-1].set_xlabel("expert")
    return _png(figure, f"Tokens that each expert of the {name} is given, by language")


def _similarity(name: str, side: Side) -> bytes:
    names, cosines = language_names(side), side.similarity()
    row = min(0.34, 18 / len(names))
    size = 2.6 + row * max(4, len(names))
    figure = _figure(size + 1.0, size)
    axes = figure.subplots()
    image = axes.imshow(cosines, cmap=_colours(), vmin=0, vmax=1)
    _ticks(axes, names, range(len(names)), row)
    axes.set_xticklabels(names, rotation=45, ha="right", rotation_mode="anchor")
    if len(names) <= WRITTEN:
        for row, line in enumerate(cosines):
            for column, value in enumerate(line):
                colour = "white" if value > 0.6 else INK
                axes.text(column, row, f"{value:.2f}", ha="center", va="center", color=colour, fontsize=8)
    figure.colorbar(image, ax=axes, pad=0.02).outline.set_visible(False)
    return _png(figure, f"How alike languages use the {name}'s experts")


def _balance(statistics: ExpertStatistics) -> bytes:
    """How many experts are in effect: a bar for the mean, points for languages, a line for all."""
    layers = [
        (name, layer, side.experts, [float(in_effect(each.rate[place])) for each in side.languages.values()])
        for name, side in statistics.sides.items()
        for place, layer in enumerate(side.layers)
    ]
    figure = _figure(2.4 + 0.8 * max(4, len(layers)), 3.8)
    axes = figure.subplots()
    for place, (_, _, experts, found) in enumerate(layers):
        axes.bar(place, sum(found) / len(found), width=0.6, color=PALE)
        axes.plot([place - 0.36, place + 0.36], [experts, experts], color=MUTED, linewidth=1, linestyle=":")
        axes.plot([place] * len(found), found, "o", color=ACCENT, markersize=4.5, alpha=0.75)
    axes.set_xticks(range(len(layers)), [f"{name}\n{layer}" for name, layer, _, _ in layers])
    axes.set_ylim(0, 1.08 * max(experts for _, _, experts, _ in layers))
    axes.set_ylabel("experts in effect")
    axes.spines[["top", "right"]].set_visible(False)
    return _png(figure, "Experts in effect, by layer")


def _figure(width: float, height: float) -> Any:
    from matplotlib.figure import Figure  # not pyplot: nothing global, and no display

    return Figure(figsize=(width, height), layout="constrained", facecolor="white")


def _colours() -> Any:
    from matplotlib.colors import LinearSegmentedColormap

    return LinearSegmentedColormap.from_list("experts", ["#f7fafb", PALE, "#5aa5bd", ACCENT, "#083d52"])


def _ticks(axes: Any, rows: Sequence[str], columns: Sequence[int], height: float) -> None:
    """height: of a row, in inches."""
    axes.set_yticks(range(len(rows)), rows)
    axes.set_xticks(columns)
    axes.tick_params(length=0, labelsize=8, labelcolor=INK)
    axes.tick_params(axis="y", labelsize=min(8, 48 * height))
    axes.spines[:].set_visible(False)


def _spaced(experts: int) -> Sequence[int]:
    """The experts whose numbers stand at the axis."""
    return range(0, experts, 1 if experts <= 32 else 8)


def _png(figure: Any, title: str) -> bytes:
    figure.suptitle(title, x=0.01, ha="left", fontsize=11, fontweight="bold", color=INK)
    written = BytesIO()
    figure.savefig(written, format="png", dpi=DPI)
    return written.getvalue()
