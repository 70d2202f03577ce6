"""YAML: strings that are values, written as they were quoted."""

import pytest

from dragoman.documents import yaml
from dragoman.errors import InvalidDocument


def texts(text: str) -> list[tuple[str | None, str]]:
    return [(segment.name, segment.text) for segment in yaml.parse(text.encode()).segments]


def rendered(text: str, *translations: str, language: str | None = None) -> str:
    document = yaml.parse(text.encode())
    parts = [(one,) for one in translations]
    assert all(document.accepts(number, one) for number, one in enumerate(parts))
    return document.render(parts, language).decode()


def test_values_that_are_strings_are_segments_with_their_path():
    text = "a:\n  b: One\n  c: [Two, 3, ':x', true]\nd: !!str Four\ne: !ruby/sym five\n? Key\n: Six\n"
    assert texts(text) == [("a.b", "One"), ("a.c.0", "Two"), ("d", "Four"), ("Key", "Six")]


def test_comments_anchors_and_quotes_stay():
    text = "a: &x One # first\nb: *x\nc: 'It''s two'  # second\nd: \"thr\\u00e9e\"\n"
    assert rendered(text, "Eins", "Das ist's", 'dr"ei') == (
        "a: &x Eins # first\nb: *x\nc: 'Das ist''s'  # second\nd: \"dr\\\"ei\"\n"
    )


@pytest.mark.parametrize(
    "words", ["yes", "12", "a: b", "a #b", "- a", "%{x}", "'a", "a:", "~", " a", "[a", "x\ny", "|"]
)
def test_what_no_plain_string_can_be_is_put_in_quotation_marks(words):
    assert rendered("a: One\n", words) in (f'a: "{words}"\n', 'a: "x\\ny"\n')


def test_commas_part_strings_within_brackets_only():
    assert rendered("a: One\nb: [Two]\n", "1, eins", "2, zwei") == 'a: 1, eins\nb: ["2, zwei"]\n'


def test_blocks_stay_blocks():
    text = "a: |\n  One.\n  Two.\n\nb: >-\n   Three\n   four.\n# end\n"
    assert texts(text) == [("a", "One.\nTwo."), ("b", "Three four.")]
    assert rendered(text, "Eins.\nZwei.", "Drei\nvier.") == (
        "a: |\n  Eins.\n  Zwei.\n\nb: >-\n   Drei\n\n   vier.\n# end\n"
    )
    assert rendered(text, " eins", "zwei") == 'a: " eins"\n\nb: >-\n   zwei\n# end\n'


def test_the_language_around_all_texts_is_renamed():
    assert rendered("en:\n  a: One\n", "Eins", language="de") == "de:\n  a: Eins\n"
    assert rendered("'pt-BR':\n  a: One\n", "Eins", language="de") == "'de':\n  a: Eins\n"
    assert rendered("app:\n  a: One\n", "Eins", language="de") == "app:\n  a: Eins\n"
    assert rendered("en:\n  a: One\nx: Two\n", "Eins", "Zwei", language="de") == "en:\n  a: Eins\nx: Zwei\n"


def test_aliases_are_not_followed():
    bomb = "a: &a [x, x]\n" + "".join(f"b{n}: &b{n} [*a, *a]\n" for n in range(1000))
    assert len(texts(bomb)) == 2


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: [", "no YAML"),
        ("a: b: c", "no YAML"),
        ("[" * 300, "deeper"),
        ("a: \x07", "no YAML"),
        ("a:\n\t- b", "no YAML"),
    ],
)
def test_what_is_no_yaml_is_refused(text, message):
    with pytest.raises(InvalidDocument, match=message):
        yaml.parse(text.encode())
