"""The clock of the machine jumps by an hour, forwards and backwards, while a sweep runs."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Final

from tests.chaos import dial
from tests.chaos.arena import Arena
from tests.chaos.checker import Expected
from tests.chaos.faults import Fault

JUMPS: Final = ((3600, -3600), (-3600, 3600), (3600, 0), (-3600, 0))


def jumps(arena: Arena, rng: random.Random) -> Expected:
    """Two jumps of up to two hours in the middle of the sweep, and a driver killed after the second."""
    place = arena.place / "clock"
    _set(place, 0)
    arena.environment[dial.VARIABLE] = str(place)
    arena.start()
    arena.wait_some(rng, 2, 6)
    first, second = rng.choice(JUMPS)
    _set(place, first)
    arena.strike()
    arena.wait_acknowledged(arena.acknowledged() + rng.randint(2, 8))
    _set(place, second)
    arena.kill_driver()
    arena.start()
    return arena.expected


def _set(place: Path, seconds: int) -> None:
    """Turn the dial, whole or not at all: it is read all the time."""
    draft = place.with_name("clock.draft")
    draft.write_text(str(seconds))
    draft.replace(place)


FAULTS: Final = [Fault("F16", "the clock jumps by an hour, twice, and the driver is killed", jumps)]
