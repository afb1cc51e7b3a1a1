"""Faults of the user's own code, done to plain Ray Tune: sick metrics, memory, exits, a searcher that misbehaves."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import replace
from typing import Any, Final

import psutil

from tests.chaos.baseline.arena import Arena, wait_for
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
    """A searcher of one's own raises at one of its suggestions, once."""
    return _raises(arena, rng, calm, "once")


def searcher_always_raises(arena: Arena, rng: random.Random, calm: Expected) -> Expected:
    """The same each time it is asked for that one: its trial may have any configuration."""
    return _raises(arena, rng, calm, "always")


def _raises(arena: Arena, rng: random.Random, calm: Expected, when: str) -> Expected:
    trial = rng.randint(2, 6)
    arena.options = ["--own", f"raise-{when}:{trial}"]
    arena.start()
    return calm if when == "once" else replace(calm, free_proposals=frozenset({trial}))


def unimportable(arena: Arena, rng: random.Random, calm: Expected) -> Expected:
    """The training code cannot be imported; once mended, the script is started again."""
    del rng
    arena.plan({trial: {"what": "import_error", "epoch": 1} for trial in range(8)})
    driver = arena.start()
    wait_for(lambda: driver.poll() is not None, 120)
    arena.plan({})
    arena.start()
    return calm


def searcher_outside(arena: Arena, rng: random.Random, calm: Expected) -> Expected:
    """A searcher of one's own proposes a point outside the space."""
    trial = rng.randint(2, 6)
    arena.options = ["--own", f"outside:{trial}"]
    arena.start()
    return replace(calm, spoiled={trial: None}, free_proposals=frozenset({trial}))


SICK: Final[dict[str, str | None]] = {
    **dict.fromkeys(["nan", "inf", "-inf", "huge"], "diverged"),
    **dict.fromkeys(["missing", "wrong_type"], "failed"),
}
ONCE: Final[dict[str, str | None]] = dict.fromkeys(["sys_exit", "exit", "print", "unpicklable", "raise"], "")
CASES: Final = [
    Case("F11", "NaN, inf, -inf, huge, missing, wrong type", _planned(SICK)),
    Case("F11a", "NaN and infinities only", _planned({"nan": "diverged", "inf": "diverged", "-inf": "diverged"})),
    Case("F11b", "a missing metric only", _planned({"missing": "failed"})),
    Case("F12a", "MemoryError in a trial", _planned({"memory_error": "failed"})),
    Case("F12b", "Ray's memory monitor kills a trial", memory),
    Case("F17a", "user code cannot be imported", unimportable),
    Case("F17b", "user code exits, prints 100 MB, is unpicklable", _planned(ONCE, attempts=[1])),
    Case("F17c", "user code always ends its process", _planned({"exit": "failed"})),
    Case("F18a", "the searcher raises once", searcher_raises, "own"),
    Case("F18b", "the searcher always raises for a trial", searcher_always_raises, "own"),
    Case("F18c", "the searcher proposes a point outside the space", searcher_outside, "own"),
]
