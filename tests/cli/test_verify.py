"""What is published about a model is compared with what it gives."""

import copy
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dragoman.errors import InvalidOption
from dragoman.models.prompt import Prompt
from dragoman.translation import published
from dragoman.translation.translator import Translator

TEXT = "Where is the station?"


@pytest.fixture(scope="module")
def model() -> Iterator[Translator]:
    """The embedded model in all its bits."""
    with Translator.load(precision="fp32") as translator:
        yield translator


@pytest.fixture(scope="module")
def facts(model: Translator) -> dict[str, Any]:
    """What holds of the embedded model, as if it had been published."""
    tokenizer = model.system.tokenizer
    (ids,) = tokenizer.encode_pieces([TEXT])
    french = tokenizer.language_id("fr")
    source = tokenizer.encode(TEXT, "en")
    state = model.system.runner.begin(Prompt(np.array([source]), np.ones((1, len(source)), bool)))
    first = model.system.runner.step(np.array([[2, french]]), state).logits()[0, :6]
    return {
        "pieces": tokenizer.vocabulary,
        "languages": {"fra_Latn": french},
        "texts": [{"text": TEXT, "ids": ids}],
        "logits": [{"source": source, "prompt": [2, french], "first": first.tolist(), "tolerance": 0.001}],
        "translations": [
            {
                "model": {"model_type": "nllb-moe"},
                "source": "eng_Latn",
                "target": "fra_Latn",
                "text": TEXT,
                "beams": 4,
                "translation": model.translate(TEXT, "en", "fr"),
            },
            {"source": "eng_Latn", "target": "zho_Hans", "text": TEXT, "beams": 4, "translation": "站"},
        ],
    }


@pytest.fixture
def stated(facts: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """The same to be changed, in the place of what is published."""
    own = copy.deepcopy(facts)
    monkeypatch.setattr(published, "_published", lambda: {"NLLB": own})
    return own


def verdicts(translator: Translator) -> list[str]:
    return [finding.verdict for finding in published.findings(translator)]


def test_what_is_so_holds(stated: dict[str, Any], model: Translator) -> None:
    assert verdicts(model) == ["holds"] * 4  # Chinese is none of its languages


@pytest.mark.parametrize("place", range(4))
def test_what_is_not_so_is_found(place: int, stated: dict[str, Any], model: Translator) -> None:
    stated["languages"]["fra_Latn"] += place == 0
    stated["texts"][0]["ids"][1] += place == 1
    stated["logits"][0]["first"][3] += 0.5 * (place == 2)
    if place == 3:
        stated["translations"][0]["translation"] = "Bonne nuit, les enfants."
    assert verdicts(model) == ["differs" if place == each else "holds" for each in range(4)]


def test_another_wording_is_close(stated: dict[str, Any], model: Translator) -> None:
    fact = stated["translations"][0]
    fact["translation"] = fact["translation"].replace(" ?", "?").lower()
    assert verdicts(model)[-1] == "close"


def test_fewer_bits_may_change_scores_but_not_make_them_others(stated: dict[str, Any]) -> None:
    stated["logits"][0]["tolerance"] = 1e-6
    with Translator.load(precision="int8") as translator:
        assert verdicts(translator)[2] == "close"
        stated["logits"][0]["first"].reverse()
        assert verdicts(translator)[2] == "differs"


def test_facts_about_other_shapes_are_left_out(stated: dict[str, Any], model: Translator) -> None:
    stated["logits"][0]["model"] = {"d_model": 2048}
    stated["translations"][0]["model"] = {"num_experts": 7}
    assert verdicts(model) == ["holds"] * 2


def test_nothing_is_known_of_the_embedded_model(model: Translator) -> None:
    with pytest.raises(InvalidOption, match=r"nothing is published about mini, whose tokenizer has \d+,\d+"):
        list(published.findings(model))


def test_facts_are_whole() -> None:
    for family in published._published().values():
        assert set(family) == {"pieces", "languages", "texts", "logits", "translations"}
        for fact in family["logits"]:
            assert len(fact["first"]) >= 3
            assert fact["model"]["d_model"] in (1024, 2048)
        for fact in family["translations"]:
            assert set(fact) - {"model"} == {"source", "target", "text", "translation", "beams"}


def test_command_says_what_differs(stated: dict[str, Any], dragoman, tmp_path: Path) -> None:
    found = dragoman("verify", "mini", "--precision", "fp32", "--json")
    assert (found.code, json.loads(found.out)["holds"]) == (0, 4)
    stated["languages"]["fra_Latn"] = 7
    found = dragoman("verify", "mini", "--precision", "fp32")
    assert found.code == 1
    assert "differs" in found.out
    assert "3 holds, 0 close, 1 differs" in found.err
