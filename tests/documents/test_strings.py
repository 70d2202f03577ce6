"""Files of strings for programs: JSON, properties and .strings."""

import json as library

import pytest

from dragoman.documents import json, messages, properties, strings
from dragoman.documents.document import Document, Mark
from dragoman.errors import InvalidDocument


def named(document: Document) -> dict[str | None, str]:
    return {segment.name: segment.text for segment in document.segments}


# ---- messages ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("message", "texts"),
    [
        ("Hello {name}", ["Hello {name}"]),
        ("{n, plural, one {# file} other {# files}}", ["# file", "# files"]),
        (" {n,plural,offset:1 =0{none} other{{m, select, a {x} other {y}}}} ", ["none", "x", "y"]),
        ("You have {n, plural, one {# file} other {# files}}", None),
        ("{n, plural, one {# file", None),
        ("{n, plural, one {a {m, plural, other {b}}}}", None),
        ("{n, plural, {x}}", None),
        ("{a, select, " * 50 + "}" * 50, None),
    ],
)
def test_branches_of_messages_are_texts(message, texts):
    found = messages.texts(message)
    assert (None if found is None else [message[one.start : one.end] for one in found]) == texts


def test_the_number_sign_of_a_plural_is_a_mark():
    found = messages.texts("{n, plural, other {# files}}")
    assert found is not None
    assert found[0].parts == (Mark("#", reads="#"), " files")
    found = messages.texts("{n, select, other {# files}}")
    assert found is not None
    assert found[0].parts == ("# files",)


# ---- JSON --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("data", "found"),
    [
        ({"a": "x", "b": {"c": ["y", 1, None, {"d": "z"}]}}, {"a": "x", "b.c.0": "y", "b.c.3.d": "z"}),
        ({"a": "", "b": "12", "c": {}}, {}),
        ({"a": "x", "@a": {"description": "no"}, "@@locale": "en"}, {"a": "x"}),
        ({"a": {"message": "x", "description": "no"}}, {"a.message": "x"}),
        (["x"], {"0": "x"}),
        ("x", {"": "x"}),
    ],
)
def test_values_of_json_are_translated(data, found):
    assert named(json.parse(library.dumps(data).encode())) == found


def test_json_is_escaped_as_it_was():
    document = json.parse(b'{"a": "x", "b": "caf\\u00e9"}')
    assert (
        document.render([('"ü"\n😀',), None]) == b'{"a": "\\"\\u00fc\\"\\n\\ud83d\\ude00", "b": "caf\\u00e9"}'
    )
    assert json.parse(b'{"a": "x"}').render([("ü",)]) == '{"a": "ü"}'.encode()


def test_branches_behind_escapes_are_replaced_where_they_stand():
    document = json.parse(b'{"a": "{n, plural, one {\\"x\\"\\u00e9\\ud83d\\ude00} other {y}}"}')
    assert [segment.text for segment in document.segments] == ['"x"é😀', "y"]
    assert document.render([("z",), ("w",)]) == b'{"a": "{n, plural, one {z} other {w}}"}'


def test_a_message_that_would_have_to_be_rewritten_is_skipped():
    document = json.parse(b'{\n"a": "You have {n, plural, other {#}}", "b": "x"}')
    assert (document.skipped, named(document)) == ([2], {"b": "x"})


def test_arb_names_its_new_language():
    assert (
        json.parse(b'{"@@locale": "en", "a": "x"}').render([("y",)], "de") == b'{"@@locale": "de", "a": "y"}'
    )


@pytest.mark.parametrize("text", ["{", '{"a": }', "[" * 100_000, '{"a": "x",}', "// c\n{}", '"\\ud800x'])
def test_what_is_no_json_is_refused(text):
    with pytest.raises(InvalidDocument):
        json.parse(text.encode())


# ---- properties and .strings -------------------------------------------------------------------------------


def test_properties_are_read_as_java_does():
    text = "a = x\nb:y z\\\n   more\nc\\ d\te\\u00e9\n#f=g\n! h\n  i  =  j \\\n"
    found = named(properties.parse(text.encode()))
    assert found == {"a": "x", "b": "y zmore", "c d": "eé", "i": "j "}


def test_apostrophes_are_doubled_beside_arguments_only():
    document = properties.parse(b"a=It''s {0}\nb=It''s\n")
    assert named(document) == {"a": "It's {0}", "b": "It''s"}
    assert document.render([("C'est {0}",), ("C'est",)]) == b"a=C''est {0}\nb=C'est\n"


def test_properties_in_latin_1_and_ascii_stay_so():
    assert properties.parse("a=é".encode("latin-1")).render([("é€",)]) == "a=é\\u20AC".encode("latin-1")
    assert properties.parse(b"a=b").render([("é😀",)]) == b"a=\\u00E9\\uD83D\\uDE00"
    assert properties.parse("a=é".encode()).render([(" €\n",)]) == "a=\\ €\\n".encode()


def test_strings_of_ios_keep_keys_and_comments():
    document = strings.parse(
        '/* "a" = "b"; */ "k\\"" = "v \\"x\\" %@"; // c\nplain="w\\U0041";'.encode("utf-16")
    )
    assert named(document) == {'k"': 'v "x" %@', "plain": "wA"}
    assert document.render([None, ('"q"\n',)]).decode("utf-16").endswith('plain="\\"q\\"\\n";')


@pytest.mark.parametrize("text", ['"a" = "b"', '"a" = b;', "<plist/>", '"a" = "b;\n'])
def test_what_is_no_entry_is_refused(text):
    with pytest.raises(InvalidDocument, match="line 1 is no entry"):
        strings.parse(text.encode())
