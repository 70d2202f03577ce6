"""The device that a model runs on."""

import pytest
import torch

from dragoman.errors import InvalidOption
from dragoman.systems import devices
from dragoman.systems.devices import usable_device


def test_auto_is_the_accelerator_if_there_is_one(monkeypatch):
    monkeypatch.setattr(devices, "_may_have_accelerator", lambda: True)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert usable_device("auto") == "cpu"
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert usable_device("auto") == "cuda"
    monkeypatch.setattr(devices, "_may_have_accelerator", lambda: False)
    assert usable_device("auto") == "cpu"  # PyTorch isn't even asked


def test_without_pytorch_there_is_the_cpu(monkeypatch):
    monkeypatch.setattr(devices, "has_pytorch", lambda: False)
    assert usable_device("auto") == usable_device("cpu") == "cpu"
    with pytest.raises(
        InvalidOption, match=r"without PyTorch there is only cpu; pip install 'dragoman\[torch\]'"
    ):
        usable_device("cuda")
    with pytest.raises(InvalidOption, match=r"install a C compiler .* or pip install"):
        devices.need_pytorch()


def test_the_cpu_is_always_there():
    assert usable_device("cpu") == "cpu"


@pytest.mark.parametrize("name", ["cuda", "cuda:99", "mps", "xpu", "gpu", "meta", "", "cpu:"])
def test_a_device_that_is_not_there_is_one_line_of_our_own(name):
    if torch.cuda.is_available() and name == "cuda":
        pytest.skip("there is one")
    with pytest.raises(
        InvalidOption, match=rf"^device is '{name}', which can't be used here \(.*\); there is: auto, cpu"
    ) as raised:
        usable_device(name)
    assert "\n" not in str(raised.value)
