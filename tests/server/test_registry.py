"""Models by name and by languages."""

from types import SimpleNamespace

import pytest

from dragoman.errors import InvalidOption
from dragoman.languages import find
from dragoman.server.faults import Fault
from dragoman.server.registry import Registry, split_pair


def model(*codes: str) -> SimpleNamespace:
    return SimpleNamespace(languages=tuple(find(code) for code in codes))


MODELS = {"small": model("en", "fr", "de"), "large": model("en", "fr", "zh", "de")}


@pytest.mark.parametrize(
    ("pair", "parts"),
    [
        ("en-de", ("en", "de")),
        ("EN-DE", ("EN", "DE")),
        ("*-zh", ("*", "zh")),
        ("en-*", ("en", "*")),
        ("zh-Hant-en", ("zh-Hant", "en")),
        ("en-zh-Hant", ("en", "zh-Hant")),
        ("pt-BR", None),
        ("zh-TW", None),
        ("en-xx", None),
        ("en", None),
    ],
)
def test_a_pair_is_two_languages_and_never_a_region(pair, parts):
    assert split_pair(pair) == parts


def test_without_a_route_the_first_model_that_speaks_both_translates():
    registry = Registry(MODELS)
    assert registry.choose(None, find("en"), find("fr")) == "small"
    assert registry.choose(None, find("en"), find("zh")) == "large"
    assert registry.choose(None, None, find("de")) == "small"


def test_routes_come_first_and_a_name_before_them():
    registry = Registry(MODELS, ["en-de=large", "*-fr=large"])
    assert registry.choose(None, find("en"), find("de")) == "large"
    assert registry.choose(None, find("fr"), find("de")) == "small"
    assert registry.choose(None, find("de"), find("fr")) == "large"
    assert registry.choose("small", find("en"), find("de")) == "small"


def test_a_route_whose_model_lacks_a_language_is_passed_over():
    registry = Registry(MODELS, ["*-de=small"])
    assert registry.choose(None, find("zh"), find("de")) == "large"


def test_a_pair_that_no_model_translates_is_a_fault():
    registry = Registry(MODELS)
    for name, target in ((None, "nl"), ("small", "zh")):
        with pytest.raises(Fault) as caught:
            registry.choose(name, find("en"), find(target))
        assert caught.value.code == "unsupported_pair"
    with pytest.raises(Fault, match="there is no model"):
        registry.choose("huge", find("en"), find("fr"))


@pytest.mark.parametrize("route", ["en-de", "en=small", "en-de=huge", "xx-yy=small", "=small"])
def test_a_route_that_is_none_is_refused(route):
    with pytest.raises(InvalidOption, match="route"):
        Registry(MODELS, [route])


def test_a_source_is_looked_for_only_where_routes_depend_on_it():
    text = "Ich habe keine Zeit, und du auch nicht."
    assert Registry(MODELS).source_of(text, None) == find("de")
    assert Registry(MODELS).source_of(text, "large") is None
    assert Registry({"small": MODELS["small"]}).source_of(text, None) is None


def test_two_models_are_served_side_by_side(serve, translator):
    models = {"a": translator, "b": translator}
    served = serve(models=models, route=("en-fr=b",))
    for pair, name in (("fr", "b"), ("de", "a")):
        body = {"text": "Yes.", "source": "en", "target": pair}
        assert served.post("/v1/translate", body).json()["translations"][0]["model"] == name
        by_name = served.post("/v1/translate", {**body, "model": "a"}).json()["translations"]
        assert by_name[0]["model"] == "a"
    body = {"text": ["I have no time today.", "Ich habe heute keine Zeit."], "target": "fr"}
    made = served.post("/v1/translate", body).json()["translations"]
    assert [one["model"] for one in made] == ["b", "a"]
