"""Waits until something is so, and says when it never came."""

from __future__ import annotations

import time
from collections.abc import Callable


def until(
    condition: Callable[[], bool], timeout_s: float = 120.0, *, every_s: float = 0.02, told: Callable[[], str] = str
) -> None:
    """Wait until `condition` is true; AssertionError after so many seconds, with what `told` says then."""
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, f"it did not happen within {timeout_s:g} s\n{told()}"
        time.sleep(every_s)
