"""Waiting for what other threads and processes do, and work that is certainly not done before."""

import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")

SECONDS = 300.0
"""For anything, on a machine that is slow and has much else to do."""
_PAUSE = 0.005

ENDLESS = [f"I would like to buy {number} tickets for the train to the old town." for number in range(5000)]
"""Sentences that take any machine far longer than a test; who asks for them goes away, or is ended."""


def wait_until(condition: Callable[[], T], seconds: float = SECONDS) -> T:
    """What a condition gives, once it is something."""
    end = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < end, f"it never came to that: {condition}"
        time.sleep(_PAUSE)
    return found
