"""Other code in the process decides what PyTorch makes by default; translations don't notice.

Each test has a process of its own: what goes wrong here ends in a crash.
"""

import subprocess
import sys
from pathlib import Path

import pytest

GOLDEN = Path(__file__).parents[1] / "data" / "golden" / "xalma"
COMMON = """
import contextlib, threading, torch

@contextlib.contextmanager
def foreign(state):
    torch.set_default_device(state) if isinstance(state, str) else torch.set_default_dtype(state)
    try:
        yield
    finally:
        torch.set_default_dtype(torch.float32)
        torch.set_default_device(None)

@contextlib.contextmanager
def toggled():
    # As `from_pretrained(dtype=...)` of other models does in its thread.
    over = threading.Event()
    def toggle():
        while not over.is_set():
            for dtype in (torch.bfloat16, torch.float64, torch.float16, torch.float32):
                torch.set_default_dtype(dtype)
    thread = threading.Thread(target=toggle)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()
        torch.set_default_dtype(torch.float32)

STATES = (torch.float64, torch.bfloat16, torch.float16, "meta")
"""
NLLB = """
from dragoman import Translator
from dragoman.native.nllb import NativeNllb

def load():
    made = Translator.load("mini", precision=PRECISION)
    assert isinstance(made.system.runner, NativeNllb)
    return made

def say(translator):
    return translator.translate(["Where is the station?", "I would like to buy a ticket."], "en", "fr")

usual = load()
expected = say(usual)
for state in STATES:
    with foreign(state):
        assert say(usual) == expected, state
        assert say(load()) == expected, state
with toggled():
    for _ in range(5):
        assert say(usual) == expected
"""
XALMA = """
import numpy as np
from dragoman.models.prompt import Prompt
from dragoman.native.llama import NativeLlama
from dragoman.checkpoints.llama import load_xalma
from dragoman.surgery.packing import pack_

ids = np.random.default_rng(5).integers(3, 90, (3, 15))
tokens, rows = np.arange(6)[:, None] + 20, np.arange(3).repeat(2)

def load():
    model = load_xalma(GOLDEN)
    pack_(model, PRECISION)
    return NativeLlama.of(model)

def read(model):
    state = model.begin(Prompt(keep=ids >= 0, groups=[6, 1, 8]))
    found = [*model.step(ids, state).top(5)]
    state.select(rows, 2)
    return [*found, *model.step(tokens, state).top(5), model.step(tokens, state).logits()]

def same(one, other):
    return all(map(np.array_equal, one, other))

usual = load()
expected = read(usual)
for state in STATES:
    with foreign(state):
        assert same(read(usual), expected), state
        assert same(read(load()), expected), state
with toggled():
    for _ in range(20):
        assert same(read(usual), expected)
"""


@pytest.mark.parametrize(("program", "precision"), [(NLLB, "fp32"), (NLLB, "int8"), (XALMA, "int4")])
def test_default_types_and_devices_of_other_code_change_nothing(program: str, precision: str) -> None:
    pytest.importorskip("torch")
    code = f"PRECISION, GOLDEN = {precision!r}, {str(GOLDEN)!r}\n{COMMON}{program}"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
