"""What tests of engines share: jobs for a toy, and a gate that holds its steps."""

import threading
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from dragoman.generation.engine import Engine, Job
from dragoman.generation.hypotheses import Array, Hypothesis
from dragoman.generation.options import GenerationOptions
from dragoman.generation.search import generate

Toys = Callable[..., Any]
GREEDY = GenerationOptions(beams=1)
BEAM = GenerationOptions(beams=3, n_best=2)
SAMPLE = GenerationOptions(beams=1, sample=True, n_best=2, seed=3)
SOON = 60.0  # seconds after which a test has failed


def job(kind: int, options: GenerationOptions = BEAM, length: int = 1, most: int = 8) -> Job:
    """One for the toy, whose source's first token is all it reads; token 0 is the end."""
    source = [kind, *range(1, length)]
    return Job(source, replace(options, max_new_tokens=most), prompt=(0, 1), forced=1)


def alone(model: Any, one: Job) -> list[Hypothesis]:
    """What comes out when there is nothing else."""
    ids = np.array([one.source])
    return generate(model, ids, ids >= 0, np.array([one.prompt]), one.options, one.forced, eos=0)[0]


def engine_of(model: Any, **limits: Any) -> Engine:
    return Engine(model, pad=0, eos=0, **limits)


def same(found: list[Hypothesis], expected: list[Hypothesis]) -> bool:
    return [h.tokens for h in found] == [h.tokens for h in expected] and [
        h.score for h in found
    ] == pytest.approx([h.score for h in expected], abs=1e-4)


def never_ending(kinds: int, vocabulary: int = 8) -> Array:
    table = np.random.default_rng(0).standard_normal((kinds, *[vocabulary] * 3), np.float32)
    table[..., 0] = -200.0
    return table


class Gate:
    """Holds a toy's steps until it is opened."""

    def __init__(self, model: Any) -> None:
        self.reached, self._open = threading.Event(), threading.Event()
        model.before_step = self

    def __call__(self, state: Any) -> None:
        self.reached.set()
        assert self._open.wait(SOON)

    def open(self) -> None:
        self._open.set()


def threads_of_engines() -> int:
    return sum(thread.name == "dragoman-engine" for thread in threading.enumerate())


def ended(thread: threading.Thread) -> bool:
    thread.join(SOON)
    return not thread.is_alive()


def thread_of(engine: Engine) -> threading.Thread:
    return engine.between_steps(threading.current_thread)
