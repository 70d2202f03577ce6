"""What is published about models' results, compared with what a model gives here.

`data/published.json` has it by family, from transformers' own tests (ids of texts and languages; for
nllb-moe-54b and m2m100_418M scores of the first tokens), from the documentation of NLLB, NLLB-MoE and
M2M-100, and from the model cards of SMaLL-100 and X-ALMA (translations).
"""

import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from difflib import SequenceMatcher
from importlib.resources import files
from typing import Any

import numpy as np

from dragoman.errors import InvalidOption
from dragoman.models.prompt import Prompt
from dragoman.systems.base import System
from dragoman.text.tokenizers import MultilingualTokenizer
from dragoman.translation.translator import Translator

HOLDS, CLOSE, DIFFERS = "holds", "close", "differs"
EXACT = ("fp32", "fp16", "bf16")
"""Precisions in which scores must be those that are published."""
ALIKE = 0.6
"""The share of characters in common from which a translation is another wording of the same."""


@dataclass(frozen=True)
class Finding:
    """What became of one published fact."""

    about: str
    verdict: str
    """`holds`, `close` (another wording, or scores that a precision with less bits changes) or `differs`."""
    expected: str
    found: str

    def to_dict(self) -> dict[str, str]:
        return asdict(self)


def findings(translator: Translator) -> Iterator[Finding]:
    """Each fact that is published about the model, compared; the quick ones first.

    InvalidOption if there is none: it is another model than the published ones, or was cut or extended.
    """
    system = translator.system
    facts = _facts(system)
    tokenizer: Any = system.tokenizer
    for code, token in facts["languages"].items():
        yield _equal(f"id of {code}", token, tokenizer.language_id(code))
    for fact in facts["texts"]:
        (ids,) = tokenizer.encode_pieces([fact["text"]])
        yield _equal(f"ids of {fact['text']!r}", fact["ids"], ids)
    for fact in facts["logits"]:
        if _is_about(fact, system):
            yield _scores(fact, system)
    for fact in facts["translations"]:
        if _is_about(fact, system):
            yield _translation(fact, translator)


def _facts(system: System) -> Mapping[str, Any]:
    published = _published()
    family = published.get(str(system.card.family))
    tokenizer: Any = system.tokenizer
    if family is None or tokenizer.vocabulary != family["pieces"]:
        known = ", ".join(f"{name} ({facts['pieces']:,} pieces)" for name, facts in published.items())
        raise InvalidOption(
            f"nothing is published about {system.card.name}, whose tokenizer has {tokenizer.vocabulary:,} "
            f"pieces; there are facts about the published models of {known}"
        )
    found: Mapping[str, Any] = family
    return found


def _published() -> Mapping[str, Any]:
    text = files("dragoman.data").joinpath("published.json").read_text(encoding="utf-8")
    found: Mapping[str, Any] = json.loads(text)
    return found


def _is_about(fact: Mapping[str, Any], system: System) -> bool:
    """Whether the model has the shape of the one that a fact is about, and speaks its languages."""
    config: Any = system.runner.config  # type: ignore[attr-defined]
    spoken = system.card.languages
    return all(getattr(config, name, None) == value for name, value in fact.get("model", {}).items()) and all(
        fact[side] in spoken for side in ("source", "target") if isinstance(fact.get(side), str)
    )


def _equal(about: str, expected: object, found: object) -> Finding:
    return Finding(about, HOLDS if expected == found else DIFFERS, str(expected), str(found))


def _scores(fact: Mapping[str, Any], system: System) -> Finding:
    """The first scores behind a prompt; they are those of tokens that exist in every language."""
    assert isinstance(system.tokenizer, MultilingualTokenizer)
    source, prompt = (np.array([fact[name]], np.int64) for name in ("source", "prompt"))
    runner: Any = system.runner  # type: ignore[attr-defined]
    state = runner.begin(Prompt(source, np.ones_like(source, bool)))
    logits = runner.step(prompt, state).logits()[0]
    expected = np.array(fact["first"], np.float32)
    found = logits[: len(expected)]
    apart = float(np.abs(found - expected).max())
    verdict = HOLDS if apart <= fact["tolerance"] else DIFFERS
    if verdict == DIFFERS and system.precision not in EXACT:
        verdict = CLOSE if _correlate(expected, found) else DIFFERS
    about = f"scores behind {fact['prompt']} of {len(expected)} tokens in {system.precision}"
    return Finding(about, verdict, f"within {fact['tolerance']}", f"{apart:.4f} apart")


def _correlate(one: np.ndarray, other: np.ndarray) -> bool:
    return float(np.corrcoef(one, other)[0, 1]) > 0.9


def _translation(fact: Mapping[str, Any], translator: Translator) -> Finding:
    expected = fact["translation"]
    found = translator.translate(fact["text"], fact["source"], fact["target"], beams=fact["beams"])
    likeness = SequenceMatcher(None, expected, found, autojunk=False).ratio()
    verdict = HOLDS if found == expected else CLOSE if likeness >= ALIKE else DIFFERS
    about = f"{fact['source']} to {fact['target']}: {fact['text']}"
    return Finding(about, verdict, expected, found)
