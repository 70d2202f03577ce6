"""Which experts of a mixture-of-experts model which languages use: counted, saved, compared.

An encoder's experts go by the language of the source, a decoder's by that of the target (arXiv 2212.09811).
Arrays are [layers, experts], layers being those that have experts.
"""

import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from dragoman.errors import ConfigError, InvalidOption
from dragoman.files import read_json, replacing_file

Array = Any

STATISTICS = "expert-statistics.json"
VERSION = 1
SIDES = ("encoder", "decoder")
DIGITS = 6
"""Of a share in the file."""


@dataclass(frozen=True, eq=False)
class Routing:
    """How the tokens of a language are shared out. A token has a first and a second choice in each layer."""

    tokens: int
    first: Array
    """The share of the tokens whose first choice an expert is; 1 in all, in each layer."""
    second: Array
    """The same of second choices."""
    confidence: Array
    """What a first choice counts for on the average, of the two: from a half to 1; 0 if it never is one."""

    @property
    def rate(self) -> Array:
        """The share of the tokens that an expert is given."""
        return self.first + self.second

    @property
    def importance(self) -> Array:
        """first * exp(confidence), by which experts are kept or left out (arXiv 2212.09811)."""
        return self.first * np.exp(self.confidence)


class Tally:
    """Counts what passes choose; it is told as `native.passes.Watch` is."""

    def __init__(self, layers: Sequence[int], experts: int) -> None:
        """layers: those with experts; experts: how many each has."""
        self._layers, self._experts = list(layers), experts
        self.tokens = 0
        self._first, self._second, self._share = (np.zeros((len(self._layers), experts)) for _ in range(3))

    def __call__(self, chosen: Array, share: Array) -> None:
        """chosen: experts, int32 [layers of the model, rows, 2]; share: what each counts for."""
        self.tokens += chosen.shape[1]
        for place, layer in enumerate(self._layers):
            first, second = chosen[layer].T
            self._first[place] += np.bincount(first, minlength=self._experts)
            self._second[place] += np.bincount(second, minlength=self._experts)
            self._share[place] += np.bincount(first, share[layer, :, 0], self._experts)

    def routing(self) -> Routing:
        """What has been counted, which must be something."""
        confidence = self._share / np.maximum(self._first, 1)
        return Routing(self.tokens, self._first / self.tokens, self._second / self.tokens, confidence)


@dataclass(frozen=True, eq=False)
class Side:
    """The experts of an encoder or of a decoder."""

    layers: tuple[int, ...]
    """The numbers of the layers that have experts."""
    experts: int
    """In each of them."""
    languages: Mapping[str, Routing]
    """By NLLB code."""

    def importance(self, languages: Collection[str] | None = None) -> Array:
        """The mean over some languages (None: all). InvalidOption if nothing is known of one."""
        return np.mean([self.of(code).importance for code in languages or self.languages], axis=0)

    def chance(self, rows: int) -> Array:
        """How likely a pass of so many rows uses an expert, as a mean over the languages."""
        return np.mean(
            [1 - (1 - np.minimum(each.rate, 1)) ** rows for each in self.languages.values()], axis=0
        )

    def similarity(self) -> Array:
        """The cosine between the importances of each two languages, [languages, languages]."""
        vectors = np.array([each.importance.ravel() for each in self.languages.values()])
        vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
        return vectors @ vectors.T

    def of(self, code: str) -> Routing:
        found = self.languages.get(code)
        if found is None:
            raise InvalidOption(
                f"the statistics say nothing of {code}; they have {', '.join(self.languages)}. Collect them "
                "from texts of all languages: dragoman experts report"
            )
        return found


def variation(load: Array) -> Array:
    """The coefficient of variation of each layer: 0 if all of its experts have equally much to do."""
    return load.std(-1) / load.mean(-1)


def in_effect(load: Array) -> Array:
    """How many equally busy experts would share the load as unevenly: e to the entropy, in each layer."""
    shares = load / load.sum(-1, keepdims=True)
    return np.exp(-(shares * np.log(np.where(shares > 0, shares, 1))).sum(-1))


@dataclass(frozen=True, eq=False)
class ExpertStatistics:
    """What is known of a model's experts."""

    model: str
    sides: Mapping[str, Side]
    """By "encoder" and "decoder", where they have experts."""

    @property
    def languages(self) -> tuple[str, ...]:
        """All that either side knows something of."""
        return tuple(dict.fromkeys(code for side in self.sides.values() for code in side.languages))

    def to_dict(self) -> dict[str, Any]:
        """As in the file; docs/experts.md explains the fields."""
        sides = {name: _side_to_dict(side) for name, side in self.sides.items()}
        return {"version": VERSION, "model": self.model, **sides}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any], where: object = STATISTICS) -> "ExpertStatistics":
        """ConfigError if it isn't what `to_dict` gives. where: named in errors."""
        if data.get("version") != VERSION:
            raise ConfigError(
                f"{where} is of version {data.get('version')!r}, and this release reads version {VERSION}. "
                "Collect it anew with dragoman experts report"
            )
        try:
            sides = {name: _side_from_dict(data[name]) for name in SIDES if name in data}
            return cls(str(data["model"]), sides)
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise ConfigError(
                f"{where} holds no statistics of experts ({error!r}). Collect them anew with dragoman "
                "experts report"
            ) from None

    def save(self, path: Path) -> None:
        with replacing_file(path) as file:
            file.write((json.dumps(self.to_dict()) + "\n").encode())

    def prior(self, side: str, layers: Sequence[int], experts: int, rows: int) -> Array | None:
        """`Side.chance` for a pass of so many rows; None if nothing is known of the side.

        The others and errors are as in `check`.
        """
        if side not in self.sides:
            return None
        self.check(side, layers, experts)
        return self.sides[side].chance(rows)

    def check(self, side: str, layers: Sequence[int], experts: int) -> None:
        """ConfigError if what is known of a side isn't of a model with so many experts in these layers."""
        found = self.sides[side]
        if found.layers != tuple(layers) or found.experts != experts:
            raise ConfigError(
                f"the statistics of experts ({STATISTICS}) are about another model: {found.experts} in the "
                f"{side}'s layers {list(found.layers)}, not {experts} in {list(layers)}. Remove them, or "
                "collect them anew"
            )

    @classmethod
    def read(cls, path: Path) -> "ExpertStatistics":
        """ConfigError for a file that holds no statistics, InvalidOption if there is none."""
        try:
            return cls.from_dict(read_json(path, ConfigError), path)
        except FileNotFoundError:
            raise InvalidOption(f"{path} doesn't exist; dragoman experts report makes such a file") from None


def _side_to_dict(side: Side) -> dict[str, Any]:
    languages = {code: _routing_to_dict(routing) for code, routing in side.languages.items()}
    return {"layers": list(side.layers), "experts": side.experts, "languages": languages}


def _routing_to_dict(routing: Routing) -> dict[str, Any]:
    shares = {
        "first": routing.first,
        "second": routing.second,
        "confidence": routing.confidence,
        "importance": routing.importance,
    }
    return {"tokens": routing.tokens} | {
        name: np.round(share, DIGITS).tolist() for name, share in shares.items()
    }


def _side_from_dict(data: Mapping[str, Any]) -> Side:
    layers, experts = tuple(map(int, data["layers"])), int(data["experts"])
    languages = {}
    for code, each in data["languages"].items():
        arrays = [np.array(each[name], np.float64) for name in ("first", "second", "confidence")]
        for array in arrays:
            if array.shape != (len(layers), experts) or not np.isfinite(array).all():
                raise ValueError(f"{code} has an array of shape {array.shape}")
        languages[str(code)] = Routing(int(each["tokens"]), *arrays)
    if not languages:
        raise ValueError("no language")
    return Side(layers, experts, languages)
