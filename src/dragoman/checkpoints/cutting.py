"""Leaving experts of NLLB-MoE and rows of embeddings out, before any of the weights is read."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace

from dragoman.checkpoints.nllb_files import OUTPUT, SHARED, NllbFiles
from dragoman.checkpoints.places import Change, Place
from dragoman.errors import InvalidOption

Kept = Mapping[str, Mapping[int, Sequence[int]]]
"""The numbers of the experts that stay, by "encoder" and "decoder" and the numbers of their layers."""

_ROUTER = re.compile(r"(encoder|decoder)\.layers\.(\d+)\.ffn\.router\.classifier\.(?:weight|bias)")
_EXPERT = re.compile(r"((encoder|decoder)\.layers\.(\d+)\.ffn\.experts\.expert_)(\d+)(\..+)")


def keep_experts(files: NllbFiles, kept: Kept) -> NllbFiles:
    """The same model with some of its experts, renumbered in their order, and the routers cut accordingly.

    Routers then choose, and weigh the two choices, among those that are left. InvalidOption unless `kept`
    names existing experts of all sparse layers of both sides, and equally many, two at least, in all
    layers of a side.
    """
    counts = {side: _count(files, side, kept.get(side, {})) for side in ("encoder", "decoder")}
    config = replace(files.config, encoder_experts=counts["encoder"], decoder_experts=counts["decoder"])
    places = {name: place for old, place in files.places.items() for name in _renamed(old, kept)}
    changes = {name: change for old, change in files.changes.items() for name in _renamed(old, kept)}
    return NllbFiles(
        config,
        {name: _cut_place(name, place, kept) for name, place in places.items()},
        {name: _cut_change(name, change, kept) for name, change in changes.items()},
    )


def keep_rows(files: NllbFiles, rows: Sequence[int]) -> NllbFiles:
    """The same model with some rows of its vocabulary, in this order: of the embedding and the output layer.

    InvalidOption unless there is a row for each of them.
    """
    there = files.config.vocab_size
    strange = [row for row in rows if not 0 <= row < there]
    if strange or not rows:
        raise InvalidOption(f"rows {strange[:3]} of the vocabulary are to stay; it has {there}, from 0 on")
    cut = {name: place.cut(rows) for name, place in files.places.items() if name in (SHARED, OUTPUT)}
    changes = {
        name: replace(change, b=change.b.cut(rows)) if name in (SHARED, OUTPUT) else change
        for name, change in files.changes.items()
    }
    config = replace(files.config, vocab_size=len(rows))
    return NllbFiles(config, {**files.places, **cut}, changes)


def _count(files: NllbFiles, side: str, kept: Mapping[int, Sequence[int]]) -> int | None:
    """How many experts stay in each layer of a side; None if it has none."""
    layers, there = files.config.sparse_layers(side), files.config.experts(side)
    if sorted(kept) != sorted(layers):
        raise InvalidOption(
            f"experts of the {side}'s layers {sorted(kept)} are to stay; it has {list(layers)}"
        )
    counts = {len(set(numbers)) for numbers in kept.values()}
    strange = [number for numbers in kept.values() for number in numbers if not 0 <= number < there]
    if strange:
        raise InvalidOption(f"expert {strange[0]} of the {side} is to stay; it has {there}, from 0 on")
    if len(counts) > 1 or min(counts, default=2) < 2:
        raise InvalidOption(
            f"{sorted(counts)} experts are to stay in the {side}'s layers; it must be the same number in "
            "all, and at least 2"
        )
    return counts.pop() if counts else None


def _renamed(name: str, kept: Kept) -> list[str]:
    """What a tensor is called now; nothing if it is left out."""
    match = _EXPERT.fullmatch(name)
    if match is None:
        return [name]
    stem, side, layer, number, rest = match.groups()
    order = sorted(kept[side][int(layer)])
    return [f"{stem}{order.index(int(number))}{rest}"] if int(number) in order else []


def _rows(name: str, kept: Kept) -> list[int] | None:
    """The rows of a router that stay; None for what is no router."""
    match = _ROUTER.fullmatch(name)
    return None if match is None else sorted(kept[match[1]][int(match[2])])


def _cut_place(name: str, place: Place, kept: Kept) -> Place:
    rows = _rows(name, kept)
    return place if rows is None else place.cut(rows)


def _cut_change(name: str, change: Change, kept: Kept) -> Change:
    rows = _rows(name, kept)
    return change if rows is None else replace(change, b=change.b.cut(rows))
