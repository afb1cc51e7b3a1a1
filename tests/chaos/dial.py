"""A wall clock that the fault sets, in every Python process of an arena, while time as such goes on evenly.

libfaketime, which would reach further, makes sleeping fail with EINVAL in Python 3.11 (an absolute `clock_nanosleep` on
the monotonic clock), so that Ray does not even start under it.
"""

from __future__ import annotations

import os
import time
from pathlib import Path

VARIABLE = "CHAOS_CLOCK"  # names a file with the seconds by which the clock is wrong


def install() -> None:
    """Have `time.time` and `time.time_ns` show what the dial says."""
    dial, real, real_ns = Path(os.environ[VARIABLE]), time.time, time.time_ns

    def offset_s() -> int:
        return int(dial.read_text() or 0)

    time.time = lambda: real() + offset_s()
    time.time_ns = lambda: real_ns() + offset_s() * 10**9
