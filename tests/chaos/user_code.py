"""Faults of what the user wrote: numbers that are none, memory that is not there, code that breaks in every way."""

from __future__ import annotations

import json
import random
from dataclasses import replace
from typing import Any, Final

from service.tuning.events import AttemptEnded, AttemptStarted
from service.tuning.ledger import read_ledger
from service.tuning.sweep_driver import UNRUNNABLE
from tests.chaos import bad_searcher, trainable, unimportable
from tests.chaos.arena import PATIENCE_S, Arena, FaultNotPossibleError
from tests.chaos.checker import Expected
from tests.chaos.faults import Fault

TRIALS: Final = 8
NOT_FINITE: Final = ("nan", "inf", "-inf", "huge")
NOT_THERE: Final = ("missing", "wrong_type")
ONCE: Final = ("sys_exit", "exit", "print_100_mb", "unpicklable", "raise")


def _plan(rng: random.Random, deeds: tuple[str, ...], **more: Any) -> dict[int, dict[str, Any]]:  # noqa: ANN401  # JSON
    """A trial and an epoch for each deed."""
    trials = rng.sample(range(TRIALS), len(deeds))
    return {t: {"trial": t, "epoch": rng.randint(1, 4), "do": do, **more} for t, do in zip(trials, deeds, strict=True)}


def numbers(arena: Arena, rng: random.Random) -> Expected:
    """Six of eight trials report NaN, ±inf, something huge, nothing, or a word."""
    plan = _plan(rng, NOT_FINITE + NOT_THERE)
    arena.plan = list(plan.values())
    arena.start()
    return _spoiled(arena, {t: "diverged" if step["do"] in NOT_FINITE else "failed" for t, step in plan.items()})


def _spoiled(arena: Arena, endings: dict[int, str | None]) -> Expected:
    """The fault spoils these trials; each is told once and never tried again."""
    arena.finish()
    events = [record.event for record in read_ledger(arena.folder)]
    for trial in endings:
        attempts = sum(isinstance(e, AttemptStarted) and e.trial == trial for e in events)
        arena.note(broken=attempts != 1, what=f"trial {trial} was tried {attempts} times")
    return replace(arena.expected, spoiled=endings)


def memory_error(arena: Arena, rng: random.Random) -> Expected:
    """A trial runs out of memory: it is not tried again with the same configuration."""
    plan = _plan(rng, ("memory",))
    arena.plan = list(plan.values())
    arena.start()
    expected = _spoiled(arena, dict.fromkeys(plan, "failed"))
    kinds = {e.trial: e.kind for r in read_ledger(arena.folder) if isinstance(e := r.event, AttemptEnded)}
    arena.note(broken=any(kinds.get(t) != "memory" for t in plan), what=f"it is not known as memory: {kinds}")
    return expected


def memory_monitor(arena: Arena, rng: random.Random) -> Expected:
    """A trial takes all memory there is, and Ray's memory monitor kills its worker."""
    from ray._private import utils  # ray takes seconds to import

    total, used = utils.get_system_memory(), utils.get_used_memory()
    if total - used < 2 * trainable.HOARD_BYTES:
        msg = "too little memory is free here"
        raise FaultNotPossibleError(msg)
    threshold = (used + trainable.HOARD_BYTES / 2) / total
    arena.environment |= {
        "RAY_memory_usage_threshold": f"{threshold:.3f}",
        "RAY_memory_monitor_refresh_ms": "100",
    }
    trial = rng.randrange(3)
    arena.plan = [{"trial": trial, "epoch": rng.randint(1, 3), "do": "allocate"}]
    arena.start()
    return _spoiled(arena, {trial: "failed"})


def unimportable_code(arena: Arena, rng: random.Random) -> Expected:
    """The training code cannot be imported: the sweep refuses with the cause; once mended, it runs."""
    del rng
    arena.runner = "tests.chaos.unimportable:train"
    arena.environment[unimportable.VARIABLE] = "1"
    driver = arena.start()
    arena.expect_code(driver, UNRUNNABLE, PATIENCE_S, "the driver with code that cannot be imported")
    said = json.dumps(arena.progress()["faults"])
    arena.note(broken=unimportable.MESSAGE not in said, what=f"the cause is not told: {said}")
    del arena.environment[unimportable.VARIABLE]
    arena.start()
    return arena.expected


def breaks_once(arena: Arena, rng: random.Random) -> Expected:
    """Five of eight trials exit, print 100 MB, raise, or return what cannot be sent, each in its first attempt."""
    arena.plan = list(_plan(rng, ONCE, attempt=1).values())
    arena.start()
    arena.expect_endings("user", "infrastructure")
    return arena.expected


def breaks_always(arena: Arena, rng: random.Random) -> Expected:
    """One trial ends its worker with os._exit in every attempt: it fails, and the others do not notice."""
    plan = _plan(rng, ("exit",))
    arena.plan = list(plan.values())
    arena.start()
    return replace(arena.expected, spoiled=dict.fromkeys(plan, "failed"))


def _searcher(arena: Arena, rng: random.Random, how: str, times: int) -> list[int]:
    proposals = sorted(rng.sample(range(TRIALS), 3))
    arena.environment[bad_searcher.VARIABLE] = json.dumps({"how": how, "at": proposals, "times": times})
    arena.start()
    arena.finish()
    said = arena.progress()["warnings"]
    is_known = any("the searcher failed" in text for text in said)
    arena.note(broken=not is_known, what=f"the searcher's fault is not told, or has hit nothing: {said}")
    return proposals


def searcher_raises_once(arena: Arena, rng: random.Random) -> Expected:
    """The searcher raises or leaves the space when first asked, and answers when asked again."""
    _searcher(arena, rng, rng.choice(["raise", "outside"]), 1)
    return arena.expected


def searcher_raises_always(arena: Arena, rng: random.Random) -> Expected:
    """For three trials the searcher never answers well: they are drawn at random instead, and the sweep goes on."""
    proposals = _searcher(arena, rng, rng.choice(["raise", "outside"]), 10**6)
    return replace(arena.expected, free_proposals=frozenset(proposals))


FAULTS: Final = [
    Fault("F11", "NaN, inf, -inf, huge, missing, wrong type", numbers),
    Fault("F12a", "MemoryError in a trial", memory_error),
    Fault("F12b", "a worker killed for memory by Ray's monitor", memory_monitor, "alone", is_alone=True),
    Fault("F17a", "user code cannot be imported", unimportable_code),
    Fault("F17b", "user code exits, prints 100 MB, is unpicklable", breaks_once),
    Fault("F17c", "user code always ends its process", breaks_always),
    Fault("F18a", "searcher raises or leaves the space, once", searcher_raises_once),
    Fault("F18b", "searcher raises or leaves the space, always", searcher_raises_always),
]
