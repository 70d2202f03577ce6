"""An evaluation as one HTML page: heat maps of languages by languages, all figures, the worst sentences."""

from collections.abc import Iterable, Mapping, Sequence
from html import escape

from dragoman.evaluation.comparing import Comparison
from dragoman.evaluation.scoreboard import HEADS, Result, rows
from dragoman.languages import of_code

_STYLE = """
:root { --ink: #1f2933; --muted: #616e7c; --line: #e4e7eb; --accent: #0b6e8f; }
* { box-sizing: border-box; }
body { margin: 0; background: #f5f7fa; color: var(--ink); font: 15px/1.55 system-ui, sans-serif; }
main { max-width: 1180px; margin: 0 auto; padding: 2.5rem 1.25rem 4rem; }
h1 { font-size: 1.8rem; margin: 0 0 .3rem; } h2 { font-size: 1.2rem; margin: 0 0 .6rem; }
h3 { font-size: 1rem; margin: 1.2rem 0 .4rem; }
p { max-width: 46rem; color: var(--muted); margin: .3rem 0 1rem; }
section { background: white; border: 1px solid var(--line); border-radius: 10px; padding: 1.3rem 1.5rem;
  margin-top: 1.4rem; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; font-size: .9rem; font-variant-numeric: tabular-nums; }
th, td { padding: .35rem .8rem .35rem 0; text-align: left; border-bottom: 1px solid var(--line);
  vertical-align: top; }
th { color: var(--muted); font-weight: 600; }
td.n { text-align: right; }
table.heat td { padding: .5rem .9rem; text-align: center; border: 2px solid white; min-width: 4rem; }
table.heat th { padding: .3rem .6rem; border: 0; }
td.text { max-width: 22rem; overflow-wrap: anywhere; }
summary { cursor: pointer; color: var(--accent); margin: .6rem 0; }
code { font-size: .85em; color: var(--muted); overflow-wrap: anywhere; }
"""


def page(results: Sequence[Result], comparisons: Mapping[str, Sequence[Comparison]]) -> str:
    """The page, which needs no other file."""
    systems = list(dict.fromkeys(result.system for result in results))
    body = [f"<h1>Evaluation of {escape(', '.join(systems))}</h1>\n", _maps(results), _figures(results)]
    if comparisons:
        body.append(_comparisons(comparisons))
    body.append(_worst(results))
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f"<title>Evaluation of {escape(', '.join(systems))}</title>\n"
        f'<meta name="viewport" content="width=device-width, initial-scale=1">\n<style>{_STYLE}</style>\n'
        f"</head>\n<body>\n<main>\n{''.join(body)}</main>\n</body>\n</html>\n"
    )


def _section(title: str, explained: str, content: str) -> str:
    about = f"<p>{explained}</p>\n" if explained else ""
    return f"<section>\n<h2>{escape(title)}</h2>\n{about}{content}</section>\n"


def _maps(results: Sequence[Result]) -> str:
    parts = []
    for system, testset in dict.fromkeys((result.system, result.testset) for result in results):
        cells = {
            (r.source, r.target): r.scores["chrF++"]
            for r in results
            if (r.system, r.testset) == (system, testset)
        }
        parts.append(f"<h3>{escape(system)}, {escape(testset)}</h3>\n{_map(cells)}")
    about = "chrF++, from the language of a row to that of a column. Colours go from 20 (red) to 70 (green)."
    return _section("Languages by languages", about, "".join(parts))


def _map(cells: Mapping[tuple[str, str], float]) -> str:
    codes = list(dict.fromkeys(code for pair in cells for code in pair))
    names = {code: escape(of_code(code).name) for code in codes}
    head = "".join(f"<th>{names[code]}</th>" for code in codes)
    lines = [f"<tr><th>from \\ to</th>{head}</tr>"]
    for source in codes:
        lines.append(
            f"<tr><th>{names[source]}</th>{''.join(_cell(cells.get((source, t))) for t in codes)}</tr>"
        )
    return f'<div class="wide"><table class="heat">{"".join(lines)}</table></div>\n'


def _cell(value: float | None) -> str:
    if value is None:
        return "<td></td>"
    hue = 120 * max(0.0, min(1.0, (value - 20) / 50))
    return f'<td style="background: hsl({hue:.0f} 60% 78%)">{value:.1f}</td>'


def _figures(results: Sequence[Result]) -> str:
    signatures = dict.fromkeys(f"{name}: {text}" for r in results for name, text in r.signatures.items())
    listed = "".join(f"<br><code>{escape(text)}</code>" for text in signatures)
    about = (
        "Length is that of the translations for the references'. Loops are translations that repeat "
        "themselves; numbers and names are lost that source and reference share and the translation lacks."
        f"{listed}"
    )
    return _section("Figures", about, _table(HEADS, rows(results), numbers_from=3))


def _comparisons(comparisons: Mapping[str, Sequence[Comparison]]) -> str:
    lines = [
        (name, row.system, row.metric, f"{row.value:.2f}", f"{row.mean:.2f} ± {row.interval:.2f}",
         "baseline" if row.p_value is None else f"{row.p_value:.4f}")
        for name, found in comparisons.items()
        for row in found
    ]  # fmt: skip
    heads = ("test set", "system", "metric", "score", "mean and 95 % interval", "p")
    about = "Paired bootstrap: how likely a difference from the baseline as large as this one is by chance."
    return _section("Systems compared", about, _table(heads, lines, numbers_from=3))


def _worst(results: Sequence[Result]) -> str:
    parts = []
    systems = list(dict.fromkeys(result.system for result in results))
    for testset, pair in dict.fromkeys((result.testset, result.pair) for result in results):
        for system in systems:
            found = [r for r in results if (r.testset, r.pair, r.system) == (testset, pair, system)]
            lines = [(f"{s.score:.0f}", s.source, s.reference, s.translation) for r in found for s in r.worst]
            table = _table(("chrF++", "source", "reference", system), lines, text_from=1)
            title = f"{escape(testset)} {escape(pair)}, {escape(system)}"
            parts.append(f"<details><summary>{title}</summary>\n{table}</details>\n")
    return _section("Worst sentences", "Those with the lowest chrF++ of each direction.", "".join(parts))


def _table(
    heads: Sequence[str], lines: Iterable[Sequence[str]], numbers_from: int = 99, text_from: int = 99
) -> str:
    head = "".join(f"<th>{escape(name)}</th>" for name in heads)

    def cell(place: int, text: str) -> str:
        kind = ' class="text"' if place >= text_from else ' class="n"' if place >= numbers_from else ""
        return f"<td{kind}>{escape(text)}</td>"

    body = "".join(f"<tr>{''.join(cell(i, text) for i, text in enumerate(line))}</tr>\n" for line in lines)
    return f'<div class="wide"><table>\n<tr>{head}</tr>\n{body}</table></div>\n'
