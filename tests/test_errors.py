"""Errors reach other processes as what they are."""

import importlib
import pickle
from collections.abc import Iterator

import dragoman
from dragoman.errors import DragomanError, KeyMismatch, NoNumbers


def kinds(base: type[DragomanError] = DragomanError) -> Iterator[type[DragomanError]]:
    yield base
    for kind in base.__subclasses__():
        yield from kinds(kind)


def test_every_error_survives_the_way_to_another_process():
    for name in ("server.replica", "server.supervisor", "jobs.run", "cli.documents"):
        importlib.import_module(f"{dragoman.__name__}.{name}")
    found = [kind for kind in kinds() if kind.__module__.startswith("dragoman.")]
    assert len(found) > 20
    for kind in found:
        made = kind("it is so")
        again = pickle.loads(pickle.dumps(made))
        assert (type(again), str(again)) == (kind, str(made))
    assert str(pickle.loads(pickle.dumps(NoNumbers()))) == str(NoNumbers())


def test_what_an_error_knows_comes_along():
    made = KeyMismatch.in_folder("m", ["a"], ["b"], {"c": ((1,), (2,))})
    again = pickle.loads(pickle.dumps(made))
    assert (str(again), again.missing, again.misshapen) == (str(made), ["a"], {"c": ((1,), (2,))})
