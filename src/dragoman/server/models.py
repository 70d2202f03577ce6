"""The models of a server under one memory budget: loaded when one is needed, and dropped when another is.

A request uses a model for as long as it takes, and nobody drops it meanwhile. Where one waits for room that
others have, these take no new requests once they have had it for a while, so that all get their turn.
"""

import contextlib
import gc
import json
import logging
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from hashlib import sha256
from typing import TYPE_CHECKING, Any, Protocol, Self, cast

import dragoman
from dragoman.errors import NotEnoughMemory
from dragoman.languages import Language
from dragoman.limits import parse_size, written_size
from dragoman.server import logs
from dragoman.server.faults import Fault

if TYPE_CHECKING:
    from dragoman.checkpoints.cards import ModelCard
    from dragoman.generation.remote import RemoteEngine
    from dragoman.systems import Plan
    from dragoman.translation.translator import Translator

STAY = 5.0
"""Seconds that a model has its memory for at least before it makes room for one that waits."""
_LOOK = 0.2
"""Seconds between two looks whether whoever waits still wants to."""


def nothing() -> None:
    """What a caller who never gives up checks."""


class NotAtOnce(Exception):
    """A model has to be waited for."""


class Model(Protocol):
    """A model by its name: what is known of it always, and its translator while it is used."""

    languages: tuple[Language, ...]
    card: "ModelCard"
    defaults: Mapping[str, Any]
    precision: str
    style: str | None
    """Of its prompts, if it reads any."""

    @property
    def fingerprint(self) -> str:
        """As `Translator.fingerprint`."""

    @property
    def is_loaded(self) -> bool:
        """Whether its weights are in memory."""

    @property
    def loaded(self) -> "Translator | None":
        """Its translator if it is in memory, for those who only look at it."""

    def use(
        self, check: Callable[[], None] = nothing, at_once: bool = False
    ) -> contextlib.AbstractContextManager["Translator"]:
        """Its translator for as long as the block takes.

        check: raises if the caller waits no longer; at_once: have NotAtOnce raised rather than wait for room
        or load it.
        """

    def lacks(self, text: str) -> str:
        """As `Translator.lacks`."""

    def measure(self, text: str) -> int:
        """The tokens of a text."""


class Resident:
    """A model that is in memory for as long as the server lives."""

    def __init__(self, translator: "Translator") -> None:
        self.loaded, self.is_loaded = translator, True
        self.languages, self.card = translator.languages, translator.card
        self.defaults: Mapping[str, Any] = translator.defaults
        self.precision = translator.system.precision
        self.style: str | None = getattr(translator.system, "style", None)

    @property
    def fingerprint(self) -> str:
        return self.loaded.fingerprint

    @contextlib.contextmanager
    def use(self, check: Callable[[], None] = nothing, at_once: bool = False) -> "Iterator[Translator]":
        yield self.loaded

    def lacks(self, text: str) -> str:
        return self.loaded.lacks(text)

    def measure(self, text: str) -> int:
        return self.loaded.system.measure(text)


class Away(Resident):
    """A model that replicas have (`deployments`), and of which only the tokenizer is here."""

    def __init__(self, translator: "Translator", is_loaded: bool) -> None:
        """is_loaded: whether replicas always have it."""
        super().__init__(translator)
        self.is_loaded = is_loaded

    @classmethod
    def open(
        cls, model: str, precision: str, vocabulary: int | None, engine: "RemoteEngine", is_loaded: bool
    ) -> Self:
        """model: what it is loaded by, by replicas in this precision and with this vocabulary; engine: what
        has its jobs done."""
        from dragoman.checkpoints.catalog import locate
        from dragoman.systems import remote_system
        from dragoman.translation.options import LoadOptions
        from dragoman.translation.translator import Translator

        system = remote_system(locate(model), engine, model, precision)
        return cls(
            Translator(system, LoadOptions(model, precision=precision, vocabulary=vocabulary)), is_loaded
        )


@dataclass(frozen=True)
class Known:
    """What a model that may come and go is, found out without its weights."""

    languages: tuple[Language, ...]
    card: "ModelCard"
    defaults: Mapping[str, Any]
    precision: str
    style: str | None
    fingerprint: str
    size: int
    """What it takes in memory, in bytes."""
    lacks: Callable[[str], str]
    measure: Callable[[str], int]


class Visiting:
    """A model that is loaded when it is first used, and dropped when another one needs the room."""

    def __init__(self, name: str, known: Known, load: "Callable[[], Translator]", room: "Room") -> None:
        self.name, self.known, self._load, self._room = name, known, load, room
        self.languages, self.card, self.defaults = known.languages, known.card, known.defaults
        self.precision, self.style, self.fingerprint = known.precision, known.style, known.fingerprint
        self.lacks, self.measure = known.lacks, known.measure
        self.loaded: Translator | None = None
        self.users = 0
        self.has_place = False
        """Whether memory is set aside for it, loaded or about to be."""
        self.came = self.used = 0.0
        """When it was loaded, and when it was used last."""

    @property
    def is_loaded(self) -> bool:
        return self.loaded is not None

    @contextlib.contextmanager
    def use(self, check: Callable[[], None] = nothing, at_once: bool = False) -> "Iterator[Translator]":
        if at_once:
            self._room.enter_at_once(self)
        elif self._room.enter(self, check):
            self._bring()
        assert self.loaded is not None
        try:
            yield self.loaded
        finally:
            self._room.leave(self)

    def _bring(self) -> None:
        began = time.monotonic()
        try:
            loaded = self._load()
        except BaseException:
            self._room.give_up(self)
            raise
        self._room.brought(self, loaded)
        facts = {"model": self.name, "seconds": round(time.monotonic() - began, 1), "bytes": self.known.size}
        logs.event("a model is loaded", logging.INFO, **facts)


class Room:
    """The memory that models share. Any thread may come."""

    def __init__(self, budget: int, patience: float, stay: float = STAY) -> None:
        """budget: bytes; patience: seconds that a request waits for room; stay: see `STAY`."""
        self.budget, self._patience, self._stay = budget, patience, stay
        self._changed = threading.Condition()
        self._present: list[Visiting] = []
        """Those that have a place."""
        self._wanted: Counter[Visiting] = Counter()
        """How many requests wait for a model; whose first came first is the first."""

    def refuse(self, name: str, size: int) -> None:
        """Raise NotEnoughMemory for a model of so many bytes if it can never have a place."""
        if size > self.budget:
            raise NotEnoughMemory(
                f"the model {name} takes {written_size(size)} with a sentence at work, and all models "
                f"together may take {written_size(self.budget)}; allow for more memory, take a lower "
                "precision, or leave it out"
            )

    def enter(self, model: Visiting, check: Callable[[], None]) -> bool:
        """Begin to use a model; True if the caller has to load it. Raises a Fault if it waits too long."""
        end = time.monotonic() + self._patience
        with self._changed:
            self._wanted[model] += 1
            try:
                while not self._is_open(model):
                    if not model.has_place and self._take(model):
                        model.users += 1
                        return True
                    check()
                    if not model.has_place and time.monotonic() > end:
                        said = f"{model.name} waits for memory that other models use now; try again later"
                        raise Fault(503, "overloaded", said, None, 10)
                    self._changed.wait(_LOOK)
                model.users += 1
                return False
            finally:
                self._wanted[model] -= 1
                if not self._wanted[model]:
                    del self._wanted[model]

    def enter_at_once(self, model: Visiting) -> None:
        """Begin to use a model that is there, and isn't to make room. Raises NotAtOnce."""
        with self._changed:
            if not self._is_open(model):
                raise NotAtOnce
            model.users += 1

    def leave(self, model: Visiting) -> None:
        """A request is done with it."""
        with self._changed:
            model.users -= 1
            model.used = time.monotonic()
            self._changed.notify_all()

    def brought(self, model: Visiting, loaded: "Translator") -> None:
        """It is in memory."""
        with self._changed:
            model.loaded, model.came = loaded, time.monotonic()
            self._changed.notify_all()

    def give_up(self, model: Visiting) -> None:
        """It couldn't be loaded."""
        with self._changed:
            model.users -= 1
            self._drop(model)

    # Inside, with the lock

    @property
    def _first(self) -> Visiting | None:
        """Whoever has waited longest for a place."""
        return next((each for each in self._wanted if not each.has_place), None)

    def _is_open(self, model: Visiting) -> bool:
        """Whether one more request may use it: it is there, and isn't to make room as soon as it is idle."""
        first = self._first
        if not model.is_loaded or first is None or time.monotonic() - model.came < self._stay:
            return model.is_loaded
        loaded = [each for each in self._present if each.is_loaded]
        return model not in self._leaving(first, sorted(loaded, key=lambda each: (each.users > 0, each.came)))

    def _take(self, model: Visiting) -> bool:
        """Give a model a place, if there is room or others that are idle can make some."""
        idle = [each for each in self._present if each.is_loaded and not each.users]
        leaving = self._leaving(model, sorted(idle, key=lambda each: each.used))
        if self._lacking(model, leaving) > 0 or (leaving and self._first is not model):
            return False
        for each in leaving:
            self._drop(each)
        self._present.append(model)
        model.has_place = True
        return True

    def _leaving(self, model: Visiting, others: Sequence[Visiting]) -> list[Visiting]:
        """The first of these, as many as have to go for a model."""
        found: list[Visiting] = []
        for each in others:
            if self._lacking(model, found) <= 0:
                break
            found.append(each)
        return found

    def _lacking(self, model: Visiting, leaving: Sequence[Visiting]) -> int:
        """Bytes that a model lacks once these have gone."""
        staying = sum(each.known.size for each in self._present if each not in leaving)
        return model.known.size + staying - self.budget

    def _drop(self, model: Visiting) -> None:
        self._present.remove(model)
        loaded, model.loaded, model.has_place = model.loaded, None, False
        if loaded is not None:
            loaded.close()
            del loaded
            gc.collect()
            logs.event("a model is dropped", logging.INFO, model=model.name)
        self._changed.notify_all()


# ---- loading -----------------------------------------------------------------------------------------------


def as_model(given: "Translator | Model") -> Model:
    """A translator as a model that stays."""
    return given if isinstance(given, (Resident, Visiting)) else Resident(cast("Translator", given))


def load_all(
    names: Mapping[str, str], memory: str | int | None, patience: float, options: Mapping[str, Any]
) -> dict[str, Model]:
    """The models of a server by name: a single one is loaded and stays; of several the first is loaded, and
    each other once it is needed.

    names: what each is loaded by; memory: what they may take together; patience: as for `Room`; options:
    those of `Translator.load`, for each. Raises NotEnoughMemory for one that doesn't fit even by itself.
    """
    from dragoman.translation.translator import Translator

    if len(names) == 1:
        own = options if memory is None else {**options, "memory": memory}
        return {name: Resident(Translator.load(model, **own)) for name, model in names.items()}
    plans = {name: _plan(model, memory, options) for name, model in names.items()}
    budget = next(iter(plans.values())).placement.budget.usual if memory is None else parse_size(memory)
    room = Room(budget, patience)
    found: dict[str, Model] = {}
    for name, model in names.items():
        known = _known(plans[name], model, budget, options)
        room.refuse(name, plans[name].bytes)
        chosen = {**options, "precision": known.precision, "memory": known.size}
        found[name] = Visiting(name, known, partial(Translator.load, model, **chosen), room)
    with next(iter(found.values())).use():
        return found


def _plan(model: str, memory: str | int | None, options: Mapping[str, Any]) -> "Plan":
    from dragoman.checkpoints.catalog import locate
    from dragoman.systems import plan_system

    return plan_system(locate(model), options["device"], model, options["precision"], memory)


def _known(plan: "Plan", model: str, budget: int, options: Mapping[str, Any]) -> Known:
    from dragoman.checkpoints.catalog import identity
    from dragoman.languages import of_code
    from dragoman.text.checks import Alphabet
    from dragoman.translation.options import card_defaults

    decisive = [
        dragoman.__version__,
        identity(plan.folder),
        plan.placement.precision,
        sorted(options.items()),
    ]
    weights, least = plan.placement.budget.weights, plan.placement.budget.least
    # Some more than a sentence needs, so that many can be at work together.
    size = min(budget, weights + max(least, min(weights, budget // 8)))
    return Known(
        tuple(of_code(code) for code in plan.card.languages),
        plan.card,
        card_defaults(plan.card),
        plan.placement.precision,
        plan.style,
        sha256(json.dumps(decisive).encode()).hexdigest()[:32],
        max(size, plan.bytes),
        Alphabet(plan.tokenizer).lacks,
        lambda text: len(plan.tokenizer.encode_pieces([text])[0]),
    )
