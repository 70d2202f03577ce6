"""XML for programs: Android's strings and XLIFF, and what XML they refuse."""

import pytest

from dragoman.documents import android, formats, xliff, xml
from dragoman.errors import InvalidDocument


def strings(*items: str) -> bytes:
    return f"<resources>{''.join(items)}</resources>".encode()


# ---- Android -----------------------------------------------------------------------------------------------


def test_strings_are_read_and_written_as_android_does():
    document = android.parse(strings('<string name="a">It\\\'s "now" &lt;x> \\u0041\\n</string>'))
    (segment,) = document.segments
    assert (segment.name, segment.text) == ("a", 'It\'s "now" <x> A\n')
    assert document.accepts(0, segment.parts)
    written = document.render([('C\'est @ \\ "x" & <y>\n',)]).decode()
    assert 'C\\\'est @ \\\\ \\"x\\" &amp; &lt;y&gt;\\n' in written
    assert ">\\@x<" in document.render([("@x",)]).decode()


def test_what_is_not_translatable_stays():
    document = android.parse(
        strings(
            '<string name="a" translatable="false">No</string>',
            '<string-array name="b" translatable="false"><item>No</item></string-array>',
            '<string name="c">@string/other</string>',
            '<plurals name="d"><item quantity="one">Yes</item></plurals>',
            '<color name="e">No</color>',
        )
    )
    assert [(one.name, one.text) for one in document.segments] == [("d.one", "Yes")]


def test_only_files_of_strings_are_androids():
    with pytest.raises(InvalidDocument, match="doesn't look like Android strings"):
        formats.find_format("AndroidManifest.xml", b"<manifest></manifest>")
    with pytest.raises(InvalidDocument, match="begins with <manifest>"):
        android.parse(b"<manifest></manifest>")


# ---- XLIFF -------------------------------------------------------------------------------------------------


def unit(content: str, attributes: str = "") -> bytes:
    return f'<xliff><file><trans-unit id="1"{attributes}>{content}</trans-unit></file></xliff>'.encode()


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("<source>a</source>", "<source>a</source><target>b &amp; c</target>"),
        ("\n  <source>a</source>\n", "\n  <source>a</source>\n  <target>b &amp; c</target>\n"),
        ("<source>a</source><target/>", "<source>a</source><target>b &amp; c</target>"),
        (
            '<source>a</source><target state="new" />',
            '<source>a</source><target state="new">b &amp; c</target>',
        ),
        ("<source>a</source><target> </target>", "<source>a</source><target>b &amp; c</target>"),
    ],
)
def test_targets_are_filled_where_they_are_missing(before, after):
    document = xliff.parse(unit(before))
    assert document.render([("b & c",)]) == unit(after)


@pytest.mark.parametrize(
    ("content", "attributes"),
    [
        ("<source>a</source><target>b</target>", ""),
        ("<source>a</source>", ' translate="no"'),
        ("<source/>", ""),
    ],
)
def test_what_is_translated_or_must_not_be_stays(content, attributes):
    assert xliff.parse(unit(content, attributes)).segments == []


def test_inline_elements_are_marks():
    bold = '<bpt id="1">&lt;b></bpt>a<ept id="1">&lt;/b></ept>'
    document = xliff.parse(unit(f'<source>{bold} <ph id="2">%s</ph><x id="3"/></source>'))
    (segment,) = document.segments
    kinds = [part if isinstance(part, str) else (part.kind, part.reads) for part in segment.parts]
    assert kinds == [("open", ""), "a", ("close", ""), " ", ("kept", "%s"), ("kept", "")]


def test_version_2_names_its_target_language():
    data = b'<xliff trgLang="en"><file><unit><segment><source>a</source></segment></unit></file></xliff>'
    assert b'trgLang="pt"' in xliff.parse(data).render([("b",)], "pt")


# ---- XML ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("<a><b></a></b>", "closes <a>"),
        ("<a>", "ends within <a>"),
        ("</a>", "isn't open"),
        ("<a b='<'/>", "no XML"),
        ("a < b", "no XML"),
        ('<!DOCTYPE a [<!ENTITY x "y">]><a>&x;</a>', "DTD"),
        ('<!DOCTYPE a SYSTEM "file:///etc/passwd" [ ]><a/>', "DTD"),
        ("<a>" * 1000, "deeper than 500"),
        ("<a " * 50_000, "no XML"),
        ("<!--" * 50_000, "no XML"),
        ("<a" + " b='c'" * 50_000, "no XML"),
    ],
)
def test_what_is_not_well_formed_or_hostile_is_refused(text, message):
    with pytest.raises(InvalidDocument, match=message):
        list(xml.tokens(text))


def test_entities_that_are_not_xmls_own_are_never_expanded():
    assert xml.unescaped("&lt;&#65;&#x42;&evil;&nbsp;") == "<AB&evil;&nbsp;"
