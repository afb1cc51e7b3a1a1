"""F4 at its sharpest: driver, worker and tracker end themselves at every kind of durable write and request."""

from __future__ import annotations

import json
import random
import signal
from pathlib import Path
from typing import Any, Final

from service.tuning import tracking
from tests.chaos import crash_points
from tests.chaos.arena import PATIENCE_S, Arena
from tests.chaos.checker import Expected
from tests.chaos.faults import Fault

LATEST: Final = 6  # a point is at most the so-many-th call of its kind
SYNCS: Final = 30


def _points(arena: Arena, rng: random.Random, process: str, calls: tuple[str, ...]) -> Path:
    """A queue of all calls, before and after, in random order, each at a random count."""
    found: list[dict[str, Any]] = [
        {"process": process, "call": call, "when": when, "nth": rng.randint(1, LATEST)}
        for call in calls
        for when in ("before", "after")
    ]
    rng.shuffle(found)
    path = arena.place / "crash.json"
    path.write_text(json.dumps(found))
    arena.environment[crash_points.VARIABLE] = str(path)
    return path


def crash_driver(arena: Arena, rng: random.Random) -> Expected:
    """The driver dies at each of its durable writes in turn; the next one starts at once."""
    path = _points(arena, rng, "driver", crash_points.DURABLE)
    while crash_points.left(path):
        code = arena.start().wait(PATIENCE_S)
        if code != -signal.SIGKILL:
            arena.broken.append(f"the driver ended with {code} before it died at {crash_points.left(path)}")
            return arena.expected
        arena.strike()
    del arena.environment[crash_points.VARIABLE]
    arena.start()
    return arena.expected


def crash_worker(arena: Arena, rng: random.Random) -> Expected:
    """Workers die while they write checkpoints."""
    path = _points(arena, rng, "worker", ("fsync", "replace"))
    arena.start()
    arena.finish()
    arena.note(broken=crash_points.hits(path) == 0, what="no worker died: the fault has hit nothing")
    return arena.expected


def crash_tracker(arena: Arena, rng: random.Random) -> Expected:
    """The tracker dies at each commit of its embedded store, and at its own writes, until everything is delivered."""
    return _deliver_in_the_end(arena, _points(arena, rng, "tracker", ("commit", "fsync", "replace")))


def crash_tracker_at_requests(arena: Arena, rng: random.Random) -> Expected:
    """The tracker of an MLflow server dies before and after requests and replies, until everything is delivered."""
    address, arena.tracking_home = arena.house.server()
    arena.extra = {"tracking": {"uri": address, "experiment": arena.place.name}}
    return _deliver_in_the_end(arena, _points(arena, rng, "tracker", ("send", "receive")))


def _deliver_in_the_end(arena: Arena, path: Path) -> Expected:
    arena.start()
    arena.finish()
    codes: list[int] = []
    while len(codes) < SYNCS and tracking.DELIVERED not in codes:
        codes.append(arena.sync())
    arena.note(broken=tracking.DELIVERED not in codes, what=f"the tracker never came to deliver: {codes}")
    arena.note(broken=crash_points.hits(path) == 0, what="no tracker died: the fault has hit nothing")
    return arena.expected


FAULTS: Final = [
    Fault("F4a", "kill -9 the driver at each kind of durable write", crash_driver, "sequential"),
    Fault("F4b", "kill -9 workers at their durable writes", crash_worker),
    Fault("F4c", "kill -9 the tracker at commits and writes", crash_tracker),
    Fault("F4d", "kill -9 the tracker at requests and replies", crash_tracker_at_requests),
]
