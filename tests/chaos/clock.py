"""The clock of the machine jumps by an hour, forwards and backwards, while a sweep runs."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Final

from tests.chaos.arena import Arena, FaultNotPossibleError
from tests.chaos.checker import Expected
from tests.chaos.faults import Fault

LIBRARIES: Final = "*/faketime/libfaketimeMT.so.1"  # where distributions put it, below /usr/lib


def jumps(arena: Arena, rng: random.Random) -> Expected:
    """Two jumps of an hour in the middle of the sweep; time as such (the monotonic clock) goes on evenly."""
    library = next(iter(Path("/usr/lib").glob(LIBRARIES)), None)
    if library is None:
        msg = "libfaketime is not installed here"
        raise FaultNotPossibleError(msg)
    dial = arena.place / "clock"
    dial.write_text("+0\n")
    arena.environment |= {
        "LD_PRELOAD": str(library),
        "FAKETIME_TIMESTAMP_FILE": str(dial),
        "FAKETIME_NO_CACHE": "1",
        "DONT_FAKE_MONOTONIC": "1",
        "FAKETIME_DONT_FAKE_MONOTONIC": "1",
    }
    arena.start()
    arena.wait_some(rng, 2, 6)
    first, second = rng.choice(
        [("+3600\n", "-3600\n"), ("-3600\n", "+3600\n"), ("+3600\n", "+0\n"), ("-3600\n", "+0\n")]
    )
    dial.write_text(first)
    arena.strike()
    arena.wait_acknowledged(arena.acknowledged() + rng.randint(2, 8))
    dial.write_text(second)
    arena.strike()
    return arena.expected


FAULTS: Final = [Fault("F16", "the clock jumps by an hour, twice", jumps)]
