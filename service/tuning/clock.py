"""Time that a stepping wall clock cannot break: seconds since the epoch that only ever go forward, evenly."""

from __future__ import annotations

import time
from collections.abc import Callable


def steady_clock() -> Callable[[], float]:
    """A clock that starts at the wall clock's time and then counts by itself: a jump of an hour changes nothing."""
    offset = time.time() - time.monotonic()
    return lambda: offset + time.monotonic()
