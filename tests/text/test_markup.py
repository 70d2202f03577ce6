"""What in a text is no language."""

import pytest

from dragoman.text.markup import is_language, kept


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("Hello there, 50% off; a < b, 5 $ & more.", []),
        ("See https://example.com/a?b=c&d, please.", ["https://example.com/a?b=c&d"]),
        ('<a href="https://example.com/">here</a>', ['<a href="https://example.com/">', "</a>"]),
        ("Mail a.b@example.org.", ["a.b@example.org"]),
        ("Hi {name}, {0} of {{total}}", ["{name}", "{0}", "{{total}}"]),
        ("%d of %(count)s, %1$s %%", ["%d", "%(count)s", "%1$s", "%%"]),
        ("${user} in $HOME, %{x} and #{y}", ["${user}", "$HOME", "%{x}", "#{y}"]),
        ("<b>Bold</b>&nbsp;text<br/>", ["<b>", "</b>", "&nbsp;", "<br/>"]),
        ("Done :smile: at 10:30:45", [":smile:"]),
        ("www.example.com.", ["www.example.com"]),
    ],
)
def test_addresses_placeholders_and_tags_are_found(text: str, parts: list[str]) -> None:
    assert kept(text) == parts


@pytest.mark.parametrize(
    "text",
    [
        "", "12.5 %", "…", "https://example.com/the/way", "you@example.com", "{name}", "%s: %d", "${x}",
        "<br/>", "&nbsp;", "API_KEY", "main()", "std::vector", "/etc/passwd", "C:\\Users\\x", "--help",
        "report.pdf", "ABC-123", "3f2504e0-4f89-11d3", "#fff000", "{0} / {1}", "{{ user.name }}", "$HOME",
        "♪", "v1.2.3",
    ],
)  # fmt: skip
def test_what_has_no_word_is_no_language(text: str) -> None:
    assert not is_language(text)


@pytest.mark.parametrize(
    "text",
    [
        "Hello", "OK", "你好", "Hi {name}", "[DOOR SLAMS]", "♪ la la ♪", "and/or", "well-known", "iPhone",
        "U.S.A.", "facade", "décembre", "Mail me: you@example.com", "<b>Save</b>", "%d files",
        "e.g. this", "5 % de remise",
    ],
)  # fmt: skip
def test_what_has_a_word_is_language(text: str) -> None:
    assert is_language(text)


@pytest.mark.parametrize(
    "text", ["{" * 20_000, "<a " * 8000, "a_" * 10_000, "a.b@" * 5000, "/" * 20_000, "-f" * 9999]
)
def test_hostile_text_is_read_to_its_end(text: str) -> None:
    assert isinstance(kept(text), list)
    assert is_language(text) in (True, False)
