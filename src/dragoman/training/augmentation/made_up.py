"""Things that are the same in every language: names, addresses, code, placeholders, tags."""

import string
from collections.abc import Callable
from random import Random

_ONSETS = (
    "b", "c", "d", "f", "g", "h", "j", "k", "l", "m", "n", "p", "r", "s", "t", "v", "w", "z", "br",
    "cl", "dr", "fl", "gr", "kr", "pl", "pr", "sk", "sl", "st", "str", "th", "tr", "sch", "ch", "sh",
)  # fmt: skip
_VOWELS = (
    "a", "e", "i", "o", "u", "a", "e", "i", "o", "a", "e", "y", "ai", "au", "ei", "ie", "oo", "ou", "á",
    "é", "í", "ö", "ü", "ä", "è", "ê",
)  # fmt: skip
_CODAS = (
    "", "", "", "", "l", "n", "r", "s", "t", "m", "ck", "nd", "rt", "ng", "x", "lt", "ss", "th", "k",
)  # fmt: skip
_ENDINGS = (
    "", "", "", "", "a", "o", "i", "sson", "ski", "ez", "berg", "ville", "ton", "mann", "escu", "ová",
    "land",
)  # fmt: skip
_DOMAINS = (
    "com", "org", "net", "de", "fr", "es", "nl", "eu", "io", "info", "example", "co.uk", "be", "ch",
)  # fmt: skip
_EXTENSIONS = (
    "txt", "pdf", "py", "json", "html", "png", "docx", "csv", "tar.gz", "xml", "cfg", "so", "odt",
)  # fmt: skip
_WORDS = (
    "user", "name", "file", "item", "count", "title", "date", "page", "error", "value", "path", "order",
    "index", "mail", "node", "total", "code", "list", "size", "first", "last", "get", "set", "update",
    "read", "send", "open", "build", "render", "parse", "load", "config", "data", "text", "key", "id",
    "status", "response", "time", "server", "client", "image", "link", "price", "product", "group",
    "message", "account", "number",
)  # fmt: skip
_EMOJI = (
    "😀", "😂", "🙂", "😍", "👍", "🎉", "🔥", "❤", "✅", "⚠", "🚀", "⭐", "🌍", "🍕", "🏠", "📧", "📅",
    "☀", "🐶", "🤔", "✨",
)  # fmt: skip
_TAGS = (
    "b", "i", "u", "em", "strong", "code", "span", "a", "p", "kbd", "small", "sup", "h1", "li", "td",
)  # fmt: skip


def word(rng: Random) -> str:
    """A short English word as code uses it."""
    return rng.choice(_WORDS)


def name(rng: Random) -> str:
    """A capitalised word that could be a name and is none that anybody knows."""
    syllables = rng.choice((1, 2, 2, 2, 3))
    made = "".join(
        (rng.choice(_ONSETS) if place or rng.random() < 0.8 else "")
        + rng.choice(_VOWELS)
        + rng.choice(_CODAS)
        for place in range(syllables)
    )
    return (made + rng.choice(_ENDINGS)).capitalize()


def address(rng: Random) -> str:
    """A web address."""
    host = ".".join([*rng.choices((["www"], []), (2, 1))[0], _slug(rng), rng.choice(_DOMAINS)])
    path = "".join("/" + _slug(rng) for _ in range(rng.choice((0, 0, 1, 1, 2, 3))))
    tail = rng.choice(("", "", "", "/", f"?{word(rng)}={rng.randrange(1000)}", f"#{word(rng)}", ".html"))
    return rng.choice(("https://", "https://", "http://", "")) + host + path + (tail if path else "")


def email(rng: Random) -> str:
    person = rng.choice((word(rng), f"{_slug(rng)}.{_slug(rng)}", f"{_slug(rng)}{rng.randrange(100)}"))
    return f"{person}@{_slug(rng)}.{rng.choice(_DOMAINS)}"


def identifier(rng: Random) -> str:
    """A name as programs have them."""
    parts = [word(rng) for _ in range(rng.choice((1, 2, 2, 3)))]
    camel = parts[0] + "".join(part.capitalize() for part in parts[1:])
    return rng.choice(
        (
            "_".join(parts), "_".join(parts).upper(), camel, camel[0].upper() + camel[1:] + "Error",
            camel + "()", "--" + "-".join(parts), "-" + parts[0][0], "$" + parts[0].upper(),
            f"{parts[0]}.{parts[-1]}", f"{parts[0]}[{rng.randrange(10)}]", f"{parts[0]}::{parts[-1]}",
            f"@{parts[0]}{rng.randrange(100)}", f"#{parts[0]}", f"{parts[0]}={rng.randrange(100)}",
        )
    )  # fmt: skip


def path(rng: Random) -> str:
    """A file, with or without folders."""
    file = f"{_slug(rng)}.{rng.choice(_EXTENSIONS)}"
    if rng.random() < 0.4:
        return file
    parts = [_slug(rng) for _ in range(rng.choice((1, 2)))]
    return rng.choice(
        ("/" + "/".join([*parts, file]), "C:\\" + "\\".join([*parts, file]), f"~/{parts[0]}/{file}")
    )


def version(rng: Random) -> str:
    """Numbers with points and letters: a version, a serial number, a network address."""
    a, b, c = (rng.randrange(30) for _ in range(3))
    letters = "".join(rng.choices(string.ascii_uppercase, k=2))
    return rng.choice(
        (f"{a}.{b}.{c}", f"v{a}.{b}", f"{letters}-{rng.randrange(10**4)}", f"192.168.{a}.{b}",
         "".join(rng.choices("0123456789abcdef", k=8)), f"{letters}{a}",
         f"+49 {rng.randrange(100, 999)} {rng.randrange(10**5, 10**7)}")
    )  # fmt: skip


def placeholder(rng: Random) -> str:
    """What a program puts something in for."""
    w, n = word(rng), rng.randrange(4)
    return rng.choice(
        ("{" + w + "}", "{" + w + "}", "{" + str(n) + "}", "%s", "%s", "%d", f"%{n + 1}$s", f"%{n + 1}$d",
         "{{" + w + "}}", "{{ " + w + " }}", f"$t({w})", "${" + w + "}", f"%({w})s", f"%{w}%", f":{w}",
         f"[{w}]", "{" + f"{w}_{word(rng)}" + "}", "%@", "%.2f", f"<{w}>", f"<x{n}/>",
         f"__{w.upper()}__", f"{{{w}, number}}", f"&{w};")
    )  # fmt: skip


def tags(rng: Random) -> tuple[str, str]:
    """What opens and what closes."""
    tag, n = rng.choice(_TAGS), rng.randrange(10)
    return rng.choice(
        ((f"<{tag}>", f"</{tag}>"), (f"<{tag}>", f"</{tag}>"), (f"<a{n}>", f"</a{n}>"),
         (f"<g{n}>", f"</g{n}>"), (f"<{n}>", f"</{n}>"), (f'<a href="{address(rng)}">', "</a>"),
         (f'<span class="{word(rng)}">', "</span>"), ("**", "**"), ("*", "*"),
         ("`", "`"), ("_", "_"), ("[", f"]({address(rng)})"), ("{" + str(n) + "}", "{/" + str(n) + "}"))
    )  # fmt: skip


def emoji(rng: Random) -> str:
    return rng.choice(_EMOJI) * rng.choice((1, 1, 1, 2))


KINDS: tuple[tuple[Callable[[Random], str], int], ...] = (
    (address, 4), (email, 3), (identifier, 3), (path, 2), (version, 2), (placeholder, 8), (emoji, 2),
)  # fmt: skip
"""What can be put into text, and how often."""


def thing(rng: Random) -> str:
    """Any of the above but names and tags."""
    made = rng.choices([kind for kind, _ in KINDS], [weight for _, weight in KINDS])[0]
    return made(rng)


def _slug(rng: Random) -> str:
    return rng.choice((word(rng), name(rng).lower())).replace(" ", "-")
