"""Waiting for what comes by itself."""

import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")

PATIENCE_S = 40.0
"""Longer than anything takes here on a busy machine; the client alone may back off for 20 s."""

INTERVAL_S = 0.05


def wait_until(what: str, look: Callable[[], T | None], within_s: float = PATIENCE_S) -> T:
    """Looks until what it sees is true, and returns that. `what` completes the sentence "it did not happen that …"."""
    deadline = time.monotonic() + within_s
    while True:
        seen = look()
        if seen:
            return seen
        if time.monotonic() > deadline:
            raise AssertionError(f"it did not happen within {within_s:g} s that {what}; last seen: {seen!r}")
        time.sleep(INTERVAL_S)
