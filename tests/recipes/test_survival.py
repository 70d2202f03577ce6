"""What survives is counted right, on strings that training doesn't make up."""

import importlib.util
from pathlib import Path

import pytest

PATH = Path(__file__).parents[2] / "recipes" / "mini" / "survival.py"


@pytest.fixture(scope="module")
def survival():
    spec = importlib.util.spec_from_file_location("survival", PATH)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_strings_hold_what_has_to_stay(survival) -> None:
    made = survival.strings()
    assert len(made) == 300
    assert made == survival.strings()
    assert all(thing in text for text, things in made for _, thing in things)
    assert {kind for _, things in made for kind, _ in things} == set(survival.THINGS)


def test_rates_count_what_came_back(survival) -> None:
    def rates(found):
        return survival.rates([survival.counts(found)])

    made = survival.strings(40)
    assert set(rates([(things, text) for text, things in made]).values()) == {1.0}
    assert set(rates([(things, "") for _, things in made]).values()) == {0.0}
    assert rates([([("number", "4,821")], "4.821 Seiten"), ([("number", "37")], "3")]) == {"number": 0.5}


@pytest.mark.parametrize(
    ("translation", "there"),
    [("Nach <i>Norden</i>.", 1), ("Nach <i>Norden.", 0), ("</i>Norden<i>", 0), ("<i></i> Norden", 0)],
)
def test_words_between_tags_may_be_translated(survival, translation: str, there: int) -> None:
    assert survival.counts([([("tag", "<i>North</i>")], translation)]) == {"tag": [there, 1]}


@pytest.mark.parametrize("thing", ["<em>7</em>", "<code>ls</code>"])
def test_what_is_no_word_stays_between_tags(survival, thing: str) -> None:
    texts = [f"Hier: {thing}", thing.replace("7", "8").replace("ls", "auflisten")]
    assert survival.counts(([("tag", thing)], text) for text in texts) == {"tag": [1, 2]}


def test_rates_are_over_all_languages(survival) -> None:
    assert survival.rates([{"url": [1, 4]}, {"url": [3, 4], "name": [1, 1]}]) == {"name": 1.0, "url": 0.5}
