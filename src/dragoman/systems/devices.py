"""Which devices a model may run on."""

import torch

from dragoman.errors import InvalidOption


def usable_device(name: str) -> str:
    """The device that a user asks for; "auto" is the accelerator if there is one, or the CPU.

    InvalidOption, with the devices that there are, if it doesn't exist or can't be used.
    """
    if name == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    try:
        device = torch.device(name)
        if device.type == "meta":
            raise RuntimeError("it holds no numbers")
        torch.zeros(1, device=device)
    # What there is to catch differs from backend to backend.
    except Exception as error:
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".")
        there = ", ".join(("auto", *_devices()))
        raise InvalidOption(
            f"device is {name!r}, which can't be used here ({reason:.100}); there is: {there}"
        ) from None
    return str(device)


def _devices() -> list[str]:
    """The names of this computer's devices."""
    found = ["cpu"]
    for kind in ("cuda", "xpu"):
        backend = getattr(torch, kind, None)
        if backend is not None and backend.is_available():
            found += [kind, *(f"{kind}:{index}" for index in range(backend.device_count()))]
    if torch.backends.mps.is_available():
        found.append("mps")
    return found
