"""Which devices a model may run on, as far as PyTorch is there to run it on others than the CPU."""

from importlib.util import find_spec
from pathlib import Path
from typing import Any

from dragoman.errors import InvalidOption

CPU = "cpu"
TRACES = ("/dev/nvidiactl", "/dev/nvidia0", "/dev/kfd", "/dev/dxg")
"""Where there is none of these, a Linux system has no accelerator that PyTorch could use: nobody has to wait
until it is imported and says so."""


def has_pytorch() -> bool:
    """Whether PyTorch can be imported; it isn't by this."""
    return find_spec("torch") is not None


def need_pytorch() -> None:
    """InvalidOption if a model can't run without PyTorch, and there is none."""
    if not has_pytorch():
        raise InvalidOption(
            "this needs the compiled kernels or PyTorch, and neither is here (or the kernels lack what this "
            "model does): install a C compiler and then Dragoman again, or pip install 'dragoman[torch]'"
        )


def usable_device(name: str) -> str:
    """The device that a user asks for; "auto" is the accelerator if there is one, or the CPU.

    InvalidOption, with the devices that there are, if it doesn't exist or can't be used.
    """
    if name == CPU:
        return CPU
    if name == "auto":
        return "cuda" if _may_have_accelerator() and _pytorch().cuda.is_available() else CPU
    if not has_pytorch():
        raise InvalidOption(
            f"device is {name!r}, but without PyTorch there is only cpu; pip install 'dragoman[torch]'"
        )
    torch = _pytorch()
    try:
        device = torch.device(name)
        if device.type == "meta":
            raise RuntimeError("it holds no numbers")
        torch.zeros(1, device=device)
    # What there is to catch differs from backend to backend.
    except Exception as error:
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".")
        there = ", ".join(("auto", *_devices(torch)))
        raise InvalidOption(
            f"device is {name!r}, which can't be used here ({reason:.100}); there is: {there}"
        ) from None
    return str(device)


def free_memory(device: str) -> int:
    """Bytes that can be had on one of CUDA's devices."""
    torch = _pytorch()
    return int(torch.cuda.mem_get_info(torch.device(device))[0])


def _may_have_accelerator() -> bool:
    if not has_pytorch():
        return False
    return not Path("/proc").is_dir() or any(Path(trace).exists() for trace in TRACES)


def _pytorch() -> Any:
    import torch

    return torch


def _devices(torch: Any) -> list[str]:
    """The names of this computer's devices."""
    found = [CPU]
    for kind in ("cuda", "xpu"):
        backend = getattr(torch, kind, None)
        if backend is not None and backend.is_available():
            found += [kind, *(f"{kind}:{index}" for index in range(backend.device_count()))]
    if torch.backends.mps.is_available():
        found.append("mps")
    return found
