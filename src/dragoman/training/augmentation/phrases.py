"""Dates, times, prices, quantities and the like, as English and four other languages write them.

Made up from tables, with sentences to put them into: every number comes back on the other side, in that
language's own writing.
"""

import tomllib
from collections.abc import Callable
from dataclasses import dataclass
from importlib.resources import files
from random import Random
from typing import Any

from dragoman.training.augmentation import made_up

Pair = tuple[str, str]


@dataclass(frozen=True)
class Writing:
    """How a language writes numbers and dates."""

    date: str
    """With {day}, {month}, {year}."""
    month_year: str
    point: str
    thousands: str
    price: str
    """With {amount} and {sign}."""
    percent: str
    clock: str
    """With {hour} and {minute}."""
    million: str
    billion: str
    of: str
    """What stands between millions and what they are of."""
    months: tuple[str, ...]
    days: tuple[str, ...]
    units: tuple[str, ...]
    frames: tuple[str, ...]
    """Sentences; those of all languages say the same in the same order. Each has {x}, some {y}."""


def _read() -> dict[str, Writing]:
    text = files(__package__).joinpath("phrases.toml").read_text(encoding="utf-8")

    def writing(table: dict[str, Any]) -> Writing:
        fields: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in table.items()}
        return Writing(**fields)

    return {code: writing(table) for code, table in tomllib.loads(text).items()}


WRITINGS = _read()
ENGLISH = WRITINGS["eng_Latn"]


def phrase(code: str, rng: Random) -> Pair:
    """A made-up phrase in the language of that NLLB code, and in English; KeyError if it has no table."""
    pair = WRITINGS[code], ENGLISH
    frame = rng.randrange(len(ENGLISH.frames)) if rng.random() < 0.75 else 0
    kind = rng.choices([kind for kind, _ in KINDS], [weight for _, weight in KINDS])[0]
    x, y = kind(pair, rng), kind(pair, rng)
    texts = [writing.frames[frame].format(x=x[side], y=y[side]) for side, writing in enumerate(pair)]
    # A sentence may begin with what is small elsewhere, such as a month.
    texts = [text[0].upper() + text[1:] if frame else text for text in texts]
    return texts[0], texts[1]


def _number(value: str, writing: Writing) -> str:
    """Digits with an English point as a language writes them; signs between thousands from 10,000 on."""
    whole, _, rest = value.partition(".")
    if len(whole) > 4 or (len(whole) == 4 and writing is ENGLISH):
        groups = []
        while whole:
            whole, group = whole[:-3], whole[-3:]
            groups.append(group)
        whole = writing.thousands.join(reversed(groups))
    return whole + (writing.point + rest if rest else "")


def _value(rng: Random, decimals: int = 1) -> str:
    size = rng.choice((1, 1, 2, 2, 2, 3, 3, 4, 5, 6))
    whole = str(rng.randrange(2, 10)) if size == 1 else str(rng.randrange(10 ** (size - 1), 10**size))
    # Four digits stand without a sign between them in some languages, with one in English.
    if size < 4 and rng.random() < 0.3:
        whole += "." + "".join(str(rng.randrange(10)) for _ in range(rng.randint(1, decimals)))
    return whole


def _plain(pair: tuple[Writing, Writing], rng: Random) -> Pair:
    value = _value(rng, 2)
    return _number(value, pair[0]), _number(value, pair[1])


def _quantity(pair: tuple[Writing, Writing], rng: Random) -> Pair:
    value, unit = _value(rng), rng.randrange(len(ENGLISH.units))
    return (
        f"{_number(value, pair[0])} {pair[0].units[unit]}",
        f"{_number(value, pair[1])} {pair[1].units[unit]}",
    )


def _percent(pair: tuple[Writing, Writing], rng: Random) -> Pair:
    value = rng.choice((str(rng.randrange(2, 101)), f"{rng.randrange(100)}.{rng.randrange(10)}"))
    return pair[0].percent.format(n=_number(value, pair[0])), pair[1].percent.format(
        n=_number(value, pair[1])
    )


def _price(pair: tuple[Writing, Writing], rng: Random) -> Pair:
    value = rng.choice(
        (
            str(rng.randrange(2, 1000)),
            f"{rng.randrange(1000)}.{rng.randrange(100):02}",
            str(rng.randrange(10**4, 10**6)),
        )
    )
    sign = rng.choice("$€€£")
    return (
        pair[0].price.format(amount=_number(value, pair[0]), sign=sign),
        pair[1].price.format(amount=_number(value, pair[1]), sign=sign),
    )


def _large(pair: tuple[Writing, Writing], rng: Random) -> Pair:
    value = rng.choice((str(rng.randrange(2, 1000)), f"{rng.randrange(1, 100)}.{rng.randrange(1, 10)}"))
    which = rng.choice(("million", "billion"))
    unit = rng.choice((None, "people", "miles", "dollars"))
    texts = []
    for writing in pair:
        text = getattr(writing, which).format(n=_number(value, writing))
        if unit is not None:
            word = writing.units[ENGLISH.units.index(unit)]
            text += f" {writing.of} {word}" if writing.of else f" {word}"
        texts.append(text)
    return texts[0], texts[1]


def _date(pair: tuple[Writing, Writing], rng: Random) -> Pair:
    day, month, year = rng.randrange(1, 29), rng.randrange(12), rng.randrange(1200, 2050)
    if rng.random() < 0.15:
        iso = f"{year}-{month + 1:02}-{day:02}"
        return iso, iso
    if rng.random() < 0.25:
        texts = [writing.month_year.format(month=writing.months[month], year=year) for writing in pair]
        return texts[0], texts[1]
    return (
        pair[0].date.format(day=day, month=pair[0].months[month], year=year),
        # Both ways of writing it in English come to the same.
        rng.choice((pair[1].date, "{day} {month} {year}")).format(
            day=day, month=pair[1].months[month], year=year
        ),
    )


def _time(pair: tuple[Writing, Writing], rng: Random) -> Pair:
    hour, minute, day = rng.randrange(1, 24), rng.randrange(60), rng.randrange(7)
    values = {"hour": str(hour), "minute": f"{minute:02}"}
    clocks = [writing.clock.format(**values) for writing in pair]
    if hour > 12 and rng.random() < 0.4:
        clocks[1] = f"{hour - 12}:{minute:02} pm"
    if rng.random() < 0.3:
        return f"{pair[0].days[day]}, {clocks[0]}", f"{pair[1].days[day]}, {clocks[1]}"
    return clocks[0], clocks[1]


def _named(pair: tuple[Writing, Writing], rng: Random) -> Pair:
    names = f"{made_up.name(rng)} {made_up.name(rng)}"
    year, age = rng.randrange(1500, 2030), rng.randrange(2, 100)
    form = rng.choice(("{names} ({year})", "{names}, {age}", "{names}"))
    text = form.format(names=names, year=year, age=age)
    return text, text


KINDS: tuple[tuple[Callable[[tuple[Writing, Writing], Random], Pair], int], ...] = (
    (_plain, 3), (_quantity, 6), (_percent, 2), (_price, 3), (_large, 2), (_date, 5), (_time, 2), (_named, 1),
)  # fmt: skip
