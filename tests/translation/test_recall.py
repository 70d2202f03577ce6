"""What is known already, and under which key."""

from itertools import product

from dragoman.languages import find
from dragoman.systems import Request
from dragoman.text.glossary import Term
from dragoman.translation.recall import request_key

EN, DE, FR = find("en"), find("de"), find("fr")


def test_requests_that_differ_have_other_keys_whatever_characters_are_in_them():
    texts = ("a", "a\0b", "a\0b\0c", "a|b", '["a"', "\ud800", "a\0c\0d")
    terms = ((), (Term("b", "c"),), (Term("b", "c"), Term("c", "d")), (Term("b\0c", "c"),))
    keys = {
        request_key(Request(text, source, target, own), salt)
        for text, own, (source, target), salt in product(
            texts, terms, ((EN, DE), (DE, EN), (EN, FR)), ("", "s", "s\0eng_Latn")
        )
    }
    assert len(keys) == 7 * 4 * 3 * 3
    assert request_key(Request("a", EN, DE)) == request_key(Request("a", EN, DE))
