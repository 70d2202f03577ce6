"""What became of documents as one HTML page: source and translation side by side, what to look at first."""

from collections.abc import Iterator, Sequence
from html import escape

from dragoman.languages import of_code
from dragoman.translation.documents import SegmentTranslation
from dragoman.translation.files import DocumentTranslation

_STYLE = """
:root { --ink: #1f2933; --muted: #616e7c; --line: #e4e7eb; --page: #f5f7fa; --card: #fff; --flag: #b44d12;
  --bad: #b91c1c; color-scheme: light dark; }
@media (prefers-color-scheme: dark) { :root { --ink: #e4e7eb; --muted: #9aa5b1; --line: #323f4b;
  --page: #12181f; --card: #1b242d; --flag: #f0b429; --bad: #ff8a80; } }
* { box-sizing: border-box; }
body { margin: 0; background: var(--page); color: var(--ink); font: 15px/1.55 system-ui, sans-serif; }
main { max-width: 1100px; margin: 0 auto; padding: 2rem 1rem 4rem; }
h1 { font-size: 1.6rem; margin: 0 0 .3rem; } h2 { font-size: 1.15rem; margin: 0 0 .4rem; }
p { color: var(--muted); margin: .2rem 0 .8rem; }
section { background: var(--card); border: 1px solid var(--line); border-radius: 10px; padding: 1.2rem 1.3rem;
  margin-top: 1.3rem; }
.pair { display: grid; grid-template-columns: 5.5rem 1fr 1fr; gap: .2rem 1rem; padding: .55rem 0;
  border-top: 1px solid var(--line); }
.pair > div { overflow-wrap: anywhere; white-space: pre-wrap; }
.place { color: var(--muted); font-size: .85rem; }
.why { grid-column: 2 / -1; color: var(--flag); font-size: .9rem; }
.why.error { color: var(--bad); }
summary { cursor: pointer; color: var(--muted); padding: .6rem 0; }
@media (max-width: 640px) { .pair { grid-template-columns: 1fr; } .why { grid-column: 1; } }
"""


def page(documents: Sequence[tuple[str, DocumentTranslation]]) -> str:
    """The page of some documents, each with the name of its file."""
    flagged = sum(len(result.flagged) for _, result in documents)
    total = sum(len(result.segments) for _, result in documents)
    many = "a document" if len(documents) == 1 else f"{len(documents)} documents"
    body = "".join(_section(name, result) for name, result in documents)
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        "<title>Translation report</title>\n"
        f'<meta name="viewport" content="width=device-width, initial-scale=1">\n<style>{_STYLE}</style>\n'
        f"</head>\n<body>\n<main>\n<h1>Translation report</h1>\n<p>{total:,} segments of {many}; {flagged:,} "
        f"to look at.</p>\n{body}</main>\n</body>\n</html>\n"
    )


def _section(name: str, result: DocumentTranslation) -> str:
    spoken = of_code(result.source).name if result.source else "languages found segment by segment"
    facts = [f"{spoken} to {of_code(result.target).name}", f"{len(result.segments):,} segments"]
    kept, terms = result.terms
    if terms:
        facts.append(f"{kept:,} of {terms:,} terms as the glossary has them")
    if result.skipped:
        places = ", ".join(map(str, result.skipped[:20])) + (", …" if len(result.skipped) > 20 else "")
        facts.append(f"left as they were, as their markup can't be read: {result.unit} {places}")
    flagged = result.flagged
    others = [one for one in result.segments if not (one.error or one.warnings)]
    rows = "".join(_pairs(flagged, result)) if flagged else "<p>Nothing to look at.</p>\n"
    if others:
        rows += (
            f"<details><summary>{len(others):,} other segments</summary>\n{''.join(_pairs(others, result))}"
        )
        rows += "</details>\n"
    return f"<section>\n<h2>{escape(name)}</h2>\n<p>{escape('; '.join(facts))}.</p>\n{rows}</section>\n"


def _pairs(segments: Sequence[SegmentTranslation], result: DocumentTranslation) -> Iterator[str]:
    source = f' lang="{of_code(result.source).short_code}"' if result.source else ""
    target = f' lang="{of_code(result.target).short_code}"'
    for one in segments:
        place = f"{result.unit} {one.segment.place}" + (
            f"<br>{escape(one.segment.name)}" if one.segment.name else ""
        )
        why = "".join(f'<div class="why">{escape(str(warning))}</div>' for warning in one.warnings)
        if one.error is not None:
            why += f'<div class="why error">{escape(str(one.error))}; it stays as it is</div>'
        yield (
            f'<div class="pair"><div class="place">{place}</div><div dir="auto"{source}>'
            f'{escape(one.segment.text)}</div><div dir="auto"{target}>{escape(one.text)}</div>{why}</div>\n'
        )
