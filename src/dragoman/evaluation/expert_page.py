"""The statistics of experts as one HTML page, pictures and all."""

from base64 import b64encode
from collections.abc import Iterable, Iterator, Mapping, Sequence
from html import escape

from dragoman.evaluation.experts import ExpertStatistics, Routing, Side, in_effect, variation
from dragoman.languages import of_code

BEST = 5
"""So many of a layer's experts are listed for a language."""

_STYLE = """
:root { --ink: #1f2933; --muted: #616e7c; --line: #e4e7eb; --accent: #0b6e8f; }
* { box-sizing: border-box; }
body { margin: 0; background: #f5f7fa; color: var(--ink); font: 15px/1.55 system-ui, sans-serif; }
main { max-width: 1080px; margin: 0 auto; padding: 2.5rem 1.25rem 4rem; }
h1 { font-size: 1.8rem; margin: 0 0 .3rem; } h2 { font-size: 1.2rem; margin: 0 0 .6rem; }
p { max-width: 46rem; color: var(--muted); margin: .3rem 0 1rem; }
section { background: white; border: 1px solid var(--line); border-radius: 10px; padding: 1.3rem 1.5rem;
  margin-top: 1.4rem; }
img { max-width: 100%; height: auto; display: block; margin: .4rem 0; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; font-size: .9rem; font-variant-numeric: tabular-nums; }
th, td { padding: .35rem .8rem .35rem 0; text-align: left; border-bottom: 1px solid var(--line);
  vertical-align: top; }
td.n, th.n { text-align: right; }
th { color: var(--muted); font-weight: 600; }
b { color: var(--accent); } small { color: var(--muted); }
summary { cursor: pointer; color: var(--accent); margin: .6rem 0; }
"""
_CAPTIONS = {
    "experts": "Each cell is the share of a language's tokens that an expert is given, as first or second "
    "choice. All experts of a layer together have 200 %.",
    "similarity": "The cosine between the importances of two languages' experts: 1 if they use the same "
    "experts equally much, 0 if they share none.",
}


def page(statistics: ExpertStatistics, pictures: Mapping[str, bytes]) -> str:
    """The page. pictures: PNG by the names that `expert_charts.charts` gives them."""
    body = [_head(statistics)]
    for name, side in statistics.sides.items():
        body.append(_side(name, side, pictures))
    if "load-balance.png" in pictures:
        explained = (
            "Experts in effect are as many equally busy ones as would share the load as unevenly (e to the "
            "entropy). Bars are means, points are languages, dotted lines are all experts of a layer."
        )
        body.append(_section("Load balance", explained, _picture("load-balance.png", pictures)))
    title = escape(f"Experts of {statistics.model}")
    return (
        f'<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n<title>{title}</title>\n'
        f'<meta name="viewport" content="width=device-width, initial-scale=1">\n<style>{_STYLE}</style>\n'
        f"</head>\n<body>\n<main>\n{''.join(body)}</main>\n</body>\n</html>\n"
    )


def _head(statistics: ExpertStatistics) -> str:
    rows = [
        (_language(code), *(_tokens(statistics, side, code) for side in statistics.sides))
        for code in statistics.languages
    ]
    heads = ("language", *(f"tokens in the {side}" for side in statistics.sides))
    return (
        f"<h1>Experts of {escape(statistics.model)}</h1>\n<p>Where the routers send the tokens of each "
        "language. An encoder’s experts go by the language of the source, a decoder’s by that of the "
        "translation.</p>\n" + _section("What was counted", None, _table(heads, rows))
    )


def _tokens(statistics: ExpertStatistics, side: str, code: str) -> str:
    found = statistics.sides[side].languages.get(code)
    return "" if found is None else f"{found.tokens:,}"


def _side(name: str, side: Side, pictures: Mapping[str, bytes]) -> str:
    title = f"{name.capitalize()}: {side.experts} experts in {len(side.layers)} layers"
    content = [
        f"{_picture(f'{name}-{kind}.png', pictures)}<p>{caption}</p>\n"
        for kind, caption in _CAPTIONS.items()
        if f"{name}-{kind}.png" in pictures
    ]
    balance = ("language", "layer", "experts in effect", "coefficient of variation")
    content.append(f"<h2>Balance</h2>\n{_table(balance, list(_balance(side)))}")
    heads = ("language", *(f"layer {layer}" for layer in side.layers))
    rows = [
        (_language(code), *(_best(routing, place) for place in range(len(side.layers))))
        for code, routing in side.languages.items()
    ]
    content.append(
        f"<details open><summary>The {min(BEST, side.experts)} most important experts of each layer"
        "</summary>\n<p>By first-choice share × exp(confidence); in brackets the share of the tokens that "
        "each is given.</p>\n"
        f"{_table(heads, rows, numbers=False)}</details>\n"
    )
    return _section(title, None, "".join(content))


def _balance(side: Side) -> Iterator[tuple[str, ...]]:
    for code, routing in side.languages.items():
        effect, varied = in_effect(routing.rate), variation(routing.rate)
        for place, layer in enumerate(side.layers):
            yield _language(code), str(layer), f"{effect[place]:.1f}", f"{varied[place]:.2f}"


def _best(routing: Routing, place: int) -> str:
    order = (-routing.importance[place]).argsort(kind="stable")[:BEST]
    rates = routing.rate[place]
    return ", ".join(f"<b>{expert}</b> <small>({rates[expert]:.0%})</small>" for expert in order.tolist())


def _language(code: str) -> str:
    return f"{escape(of_code(code).name)} <small>{escape(code)}</small>"


def _section(title: str, explained: str | None, content: str) -> str:
    words = f"<p>{explained}</p>\n" if explained else ""
    return f"<section>\n<h2>{escape(title)}</h2>\n{words}{content}</section>\n"


def _picture(name: str, pictures: Mapping[str, bytes]) -> str:
    data = b64encode(pictures[name]).decode()
    return f'<img alt="{escape(name.removesuffix(".png"))}" src="data:image/png;base64,{data}">\n'


def _table(heads: Sequence[str], rows: Iterable[Sequence[str]], numbers: bool = True) -> str:
    """Cells are HTML. numbers: whether all but the first column are numbers."""
    marks = ["", *([' class="n"'] * (len(heads) - 1) if numbers else [""] * (len(heads) - 1))]
    head = "".join(f"<th{mark}>{escape(cell)}</th>" for mark, cell in zip(marks, heads, strict=True))
    lines = (
        "<tr>" + "".join(f"<td{mark}>{cell}</td>" for mark, cell in zip(marks, row, strict=True)) + "</tr>\n"
        for row in rows
    )
    return f'<div class="wide"><table>\n<tr>{head}</tr>\n{"".join(lines)}</table></div>\n'
