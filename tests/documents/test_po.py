"""gettext catalogues."""

import pytest

from dragoman.documents import po
from dragoman.errors import InvalidDocument

HEAD = 'msgid ""\nmsgstr ""\n"Language: en\\n"\n\n'


def test_only_what_has_no_translation_is_a_segment():
    text = HEAD + 'msgid "a"\nmsgstr ""\n\nmsgid "b"\nmsgstr "B"\n\nmsgctxt "c"\nmsgid "d"\nmsgstr ""\n'
    text += '\n#~ msgid "e"\n#~ msgstr ""\n'
    document = po.parse(text.encode())
    assert [(one.name, one.text) for one in document.segments] == [("a", "a"), ("c", "d")]


def test_translations_stand_beside_their_sources_even_if_equal():
    text = HEAD + 'msgid "OK"\nmsgstr ""\n'
    written = po.parse(text.encode()).render([("OK",)], "de").decode()
    assert written == text.replace('"OK"\nmsgstr ""', '"OK"\nmsgstr "OK"').replace(
        "Language: en", "Language: de"
    )


def test_plurals_come_from_the_plural():
    text = 'msgid "One"\nmsgid_plural "%d"\nmsgstr[0] ""\nmsgstr[1] ""\nmsgstr[2] ""\n'
    document = po.parse(text.encode())
    assert [one.text for one in document.segments] == ["One", "%d", "%d"]
    assert (
        document.render([("a",), ("b",), None])
        .decode()
        .endswith('msgstr[0] "a"\nmsgstr[1] "b"\nmsgstr[2] ""\n')
    )


def test_strings_over_lines_are_read_and_written():
    text = 'msgid ""\n"A \\"b\\"\\n"\n"c\\\\d\\te"\nmsgstr ""\n'
    document = po.parse(text.encode())
    assert document.segments[0].text == 'A "b"\nc\\d\te'
    assert document.accepts(0, document.segments[0].parts)
    assert document.render([('x\ny "z"\n',)]).decode().endswith('msgstr ""\n"x\\n"\n"y \\"z\\"\\n"\n')


@pytest.mark.parametrize("text", ['msgid "a\nmsgstr ""\n', "msgid a\n", "hello\n", '"x"\n'])
def test_what_is_no_catalogue_is_refused(text):
    with pytest.raises(InvalidDocument, match="line 1 is none"):
        po.parse(text.encode())
