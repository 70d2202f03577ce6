"""Presentations: paragraphs of slides and notes, in the order in which they are shown."""

import pytest

from dragoman.documents import pptx
from dragoman.documents.document import Mark
from dragoman.errors import InvalidDocument
from tests.documents.packages import packed, related, slides, typed, unpacked


def paragraph(*runs: str) -> str:
    return f"<a:p><a:pPr/>{''.join(runs)}<a:endParaRPr/></a:p>"


def run(text: str, properties: str = "") -> str:
    return f"<a:r>{properties}<a:t>{text}</a:t></a:r>"


def test_slides_come_in_the_order_in_which_they_are_shown_each_with_its_notes():
    data = slides(paragraph(run("Second")), paragraph(run("First")), notes=paragraph(run("Say it slowly")))
    document = pptx.parse(data)
    assert [(s.place, s.text) for s in document.segments] == [
        (1, "First"), (2, "Second"), (2, "Say it slowly")
    ]  # fmt: skip
    assert document.unit == "slide"


def test_runs_that_look_alike_are_one_text():
    alike = run("Hel", '<a:rPr lang="en-US" dirty="0"/>'), run("lo ", '<a:rPr lang="de-DE" err="1"></a:rPr>')
    (segment,) = pptx.parse(slides(paragraph(*alike, run("you", '<a:rPr lang="en-US" b="1"/>')))).segments
    assert [part.source if isinstance(part, Mark) else part for part in segment.parts] == [
        "Hello ", 'style:<a:rPr b="1"/>', "you", "style:"
    ]  # fmt: skip


def test_only_the_runs_of_a_paragraph_are_rewritten():
    data = slides(paragraph(run("One ", '<a:rPr lang="en"/>'), run("day")) + paragraph(run("Two")))
    document = pptx.parse(data)
    slide = unpacked(document.render([("Ein & Tag",), None]))["ppt/slides/slide1.xml"].decode()
    assert paragraph(run("Ein &amp; Tag")) + paragraph(run("Two")) in slide


def test_line_breaks_and_fields_are_kept():
    field = '<a:fld id="1" type="slidenum"><a:rPr/><a:t>7</a:t></a:fld>'
    (segment,) = pptx.parse(slides(paragraph(run("Page "), field, "<a:br/>", run("of many")))).segments
    assert [part if isinstance(part, str) else part.reads for part in segment.parts] == [
        "Page ", "7", "\n", "of many"
    ]  # fmt: skip


def test_charts_and_diagrams_of_a_slide_are_segments():
    files = {name: content.decode() for name, content in unpacked(slides(paragraph(run("First")))).items()}
    files["ppt/charts/chart1.xml"] = files["ppt/slides/slide1.xml"].replace("First", "In the chart")
    files["ppt/slides/_rels/slide1.xml.rels"] = related({"r1": "../charts/chart1.xml"})
    kinds = {
        "ppt/presentation.xml": "presentationml.presentation.main",
        "ppt/slides/slide1.xml": "presentationml.slide",
        "ppt/charts/chart1.xml": "drawingml.chart",
    }
    document = pptx.parse(packed(files | {"[Content_Types].xml": typed(kinds)}))
    assert [(s.place, s.text) for s in document.segments] == [(1, "First"), (1, "In the chart")]


def test_other_packages_are_refused():
    with pytest.raises(InvalidDocument, match="no presentation"):
        pptx.parse(packed({"[Content_Types].xml": typed({})}))
