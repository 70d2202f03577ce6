"""Every build of the kernels that this machine can run."""

import ctypes
from importlib.util import find_spec

import pytest

import dragoman.kernels.linear
from dragoman.kernels.build import BUILDS, LIBRARY
from dragoman.kernels.library import Kernels, available, kernels

BUILT = available()


@pytest.fixture(params=[*BUILDS, "torch"])
def build(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Kernels | None:
    """Linear layers run in this build; None stands for PyTorch."""
    if request.param == "torch":
        found = None
    elif request.param in BUILT:
        found = Kernels(ctypes.CDLL(str(LIBRARY)), request.param)
    else:
        pytest.skip(f"this machine has no {request.param} kernels")
    if find_spec("torch"):
        monkeypatch.setattr("dragoman.layers.packed.kernels", lambda: found)
    elif found is None:
        pytest.skip("there is no PyTorch here")
    monkeypatch.setattr(dragoman.kernels.linear, "needed", lambda: found)
    return found


@pytest.fixture
def native() -> Kernels:
    """The build for this machine."""
    found = kernels()
    if found is None:
        pytest.skip("there are no native kernels here")
    return found
