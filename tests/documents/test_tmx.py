"""Translation memories: units of one language get a variant."""

import pytest

from dragoman.documents import tmx
from dragoman.documents.document import Mark
from dragoman.errors import InvalidDocument

UNIT = '<tu tuid="7"><prop type="x">p</prop>\n <tuv xml:lang="en"><seg>{}</seg></tuv>\n</tu>'


def parsed(*units: str):
    return tmx.parse(f'<tmx version="1.4"><body>{"".join(units)}</body></tmx>'.encode())


def test_a_unit_gets_a_variant_in_the_documents_language():
    document = parsed(UNIT.format("One &amp; all"))
    assert [(segment.name, segment.text) for segment in document.segments] == [("7", "One & all")]
    added = '<tuv xml:lang="de"><seg>Ein &amp; alles</seg></tuv>'
    assert UNIT.format("One &amp; all").replace("\n</tu>", f"\n {added}\n</tu>") in (
        document.render([("Ein & alles",)], "de").decode()
    )
    assert 'xml:lang="und"' in document.render([("Eins",)]).decode()


def test_units_with_two_variants_stay():
    both = '<tu><tuv xml:lang="en"><seg>One</seg></tuv><tuv xml:lang="de"><seg>Eins</seg></tuv></tu>'
    assert not parsed(both).segments


def test_codes_are_marks_and_those_of_two_ends_are_pairs():
    codes = 'A <bpt i="1">&lt;b></bpt>red<ept i="1">&lt;/b></ept> door<ph>x</ph>, <hi>new</hi>'
    (segment,) = parsed(UNIT.format(codes)).segments
    assert [part if isinstance(part, str) else part.kind for part in segment.parts] == [
        "A ", "open", "red", "close", " door", "kept", ", ", "open", "new", "close"
    ]  # fmt: skip
    assert "".join(part.source if isinstance(part, Mark) else part for part in segment.parts) == codes


def test_what_is_no_memory_is_refused():
    with pytest.raises(InvalidDocument, match="no translation memory"):
        tmx.parse(b"<a/>")
