"""Faults of the user's own code, done to plain Ray Tune: sick metrics, memory, exits, a searcher that misbehaves."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import replace
from typing import Any, Final

import psutil

from tests.chaos.baseline.arena import Arena
from tests.chaos.baseline.cases import Case
from tests.chaos.checker import Expected

HEADROOM_BYTES: Final = 2_500_000_000
Deed = Callable[[Arena, random.Random, Expected], Expected]


def _planned(deeds: dict[str, str | None], epochs: tuple[int, int] = (1, 4), attempts: list[int] | None = None) -> Deed:
    """A trial for each deed; the ending that is right for it (None: any that is told once; "": it is no excuse)."""

    def run(arena: Arena, rng: random.Random, calm: Expected) -> Expected:
        trials = rng.sample(range(8), len(deeds))
        plan: dict[int, dict[str, Any]] = {}
        for trial, deed in zip(trials, deeds, strict=True):
            plan[trial] = {"what": deed, "epoch": rng.randint(*epochs)}
            if attempts:
                plan[trial]["attempts"] = attempts
        arena.plan(plan)
        arena.start()
        endings = zip(trials, deeds.values(), strict=True)
        return replace(calm, spoiled={trial: ending for trial, ending in endings if ending != ""})

    return run


def memory(arena: Arena, rng: random.Random, calm: Expected) -> Expected:
    """A trial takes memory until Ray's memory monitor kills its worker, at each attempt."""
    total = psutil.virtual_memory().total
    threshold = (total - psutil.virtual_memory().available + HEADROOM_BYTES) / total
    arena.environment |= {"RAY_memory_usage_threshold": f"{threshold:.3f}", "RAY_memory_monitor_refresh_ms": "100"}
    return _planned({"memory": "failed"})(arena, rng, calm)


def searcher_raises(arena: Arena, rng: random.Random, calm: Expected) -> Expected:
    """A searcher of one's own raises at one of its suggestions, each time it is asked for that one."""
    arena.options = ["--own", f"raise:{rng.randint(2, 6)}"]
    arena.start()
    return calm


def searcher_outside(arena: Arena, rng: random.Random, calm: Expected) -> Expected:
    """A searcher of one's own proposes a point outside the space."""
    trial = rng.randint(2, 6)
    arena.options = ["--own", f"outside:{trial}"]
    arena.start()
    return replace(calm, spoiled={trial: None}, is_proposal_free=frozenset({trial}))


CASES: Final = [
    Case("F11a", "NaN and infinities", _planned({"nan": "diverged", "inf": "diverged", "-inf": "diverged"}, (1, 3))),
    Case("F11b", "a huge value", _planned({"huge": "diverged"}, (1, 3))),
    Case("F11c", "a missing metric", _planned({"missing": "failed"})),
    Case("F11d", "a metric of the wrong type", _planned({"wrong_type": "failed"})),
    Case("F12a", "MemoryError in a trial", _planned({"memory_error": "failed"})),
    Case("F12b", "Ray's memory monitor kills a trial", memory),
    Case(
        "F17",
        "user code raises on import, leaves, prints 100 MB, returns what cannot be pickled",
        _planned(
            {"import_error": "failed", "sys_exit": "failed", "exit": "failed", "print": "", "unpicklable": None},
        ),
    ),
    Case("F18a", "the searcher raises", searcher_raises, "own"),
    Case("F18b", "the searcher proposes a point outside the space", searcher_outside, "own"),
]
