"""Faults of processes: killed, stopped, told to go, or started twice."""

from __future__ import annotations

import random
import signal
import time
from typing import Final

from service.tuning.events import DriverStarted
from service.tuning.ledger import read_ledger
from service.tuning.sweep_driver import PAUSED, TAKEN
from service.tuning.sweep_folder import DRAIN_FILE
from tests.chaos.arena import PATIENCE_S, Arena
from tests.chaos.checker import Expected
from tests.chaos.faults import Fault

GRACE_S: Final = 25.0  # 20 s are the driver's own, then it leaves
TIMEOUT_S: Final = 3
TAKE_OVER_S: Final = 300.0


def kill_worker(arena: Arena, rng: random.Random) -> Expected:
    """Kill -9 the process of a trial, twice."""
    arena.start()
    for count in sorted(rng.sample(range(2, 12), 2)):
        arena.wait_acknowledged(count)
        rng.choice(arena.wait_workers()).kill()
        arena.strike()
    arena.expect_endings("infrastructure")
    return arena.expected


def kill_driver(arena: Arena, rng: random.Random) -> Expected:
    """Kill -9 the driver at a random moment, and once more; each time the next one starts at once."""
    arena.start()
    for _ in range(2):
        arena.wait_acknowledged(arena.acknowledged() + rng.randint(1, 5))
        time.sleep(rng.random() / 2)
        arena.kill_driver()
        arena.start()
    return arena.expected


def hang(arena: Arena, rng: random.Random) -> Expected:
    """A trial hangs in its own code until the watchdog ends it."""
    arena.extra = {"failure": {"report_timeout": f"{TIMEOUT_S}s"}}
    trial, epoch = rng.randint(0, 5), rng.randint(1, 4)
    arena.plan = [{"trial": trial, "epoch": epoch, "attempt": 1, "do": "hang"}]
    arena.start()
    arena.wait_for(lambda: any(line.trial == trial and line.epoch == epoch for line in arena.truth()), "the hang")
    arena.strike()
    arena.expect_endings("hung")
    return arena.expected


def stop_worker(arena: Arena, rng: random.Random) -> Expected:
    """SIGSTOP a worker; it is taken for hung, and a SIGCONT comes too late."""
    arena.extra = {"failure": {"report_timeout": f"{TIMEOUT_S}s"}}
    arena.start()
    arena.wait_some(rng)
    worker = rng.choice(arena.wait_workers())
    worker.suspend()
    arena.strike()
    arena.wait_for(lambda: not worker.is_running(), "the end of the stopped worker")
    arena.expect_endings("hung")
    return arena.expected


def stop_driver(arena: Arena, rng: random.Random) -> Expected:
    """SIGSTOP the driver: another takes over once the lease has expired; the zombie that comes back must leave."""
    zombie = arena.start()
    arena.wait_some(rng)
    zombie.send_signal(signal.SIGSTOP)
    arena.strike()
    before = arena.acknowledged()
    deadline = time.monotonic() + TAKE_OVER_S
    while time.monotonic() < deadline and not _start_until_it_trains(arena, before):
        pass
    zombie.send_signal(signal.SIGCONT)
    arena.expect_code(zombie, TAKEN, PATIENCE_S, "the zombie that came back")
    return arena.expected


def _start_until_it_trains(arena: Arena, before: int) -> bool:
    """Whether a driver that is started now trains on, rather than leave because another has the sweep."""
    driver = arena.start()
    arena.wait_for(lambda: driver.poll() is not None or arena.acknowledged() > before + 2, "another driver")
    return driver.poll() != TAKEN


def terminate(arena: Arena, rng: random.Random) -> Expected:
    """SIGTERM: a clean pause within the grace, then another driver goes on."""
    driver = arena.start()
    arena.wait_some(rng)
    driver.send_signal(rng.choice([signal.SIGTERM, signal.SIGINT]))
    arena.wait_for(lambda: (arena.folder / DRAIN_FILE).exists() or driver.poll() is not None, "the pause")
    arena.release()
    arena.expect_code(driver, PAUSED, GRACE_S, "the driver that was told to go")
    arena.note(broken=bool(arena.processes()), what=f"left after the pause: {[p.name() for p in arena.processes()]}")
    arena.strike()
    arena.start()
    return arena.expected


def start_twice(arena: Arena, rng: random.Random) -> Expected:
    """Two drivers at the same moment, and a third in the middle: one has the sweep, the others leave."""
    drivers = [arena.start(), arena.start()]
    arena.wait_for(lambda: any(d.poll() is not None for d in drivers), "the end of one driver")
    loser = next(d for d in drivers if d.poll() is not None)
    arena.expect_code(loser, TAKEN, 1, "the driver that came second")
    arena.wait_some(rng)
    arena.expect_code(arena.start(), TAKEN, PATIENCE_S, "the driver that came in the middle")
    arena.drivers.remove(loser)
    arena.drivers.sort(key=lambda d: d.poll() is None)  # the one that has the sweep is waited for
    arena.finish()
    written = sum(isinstance(record.event, DriverStarted) for record in read_ledger(arena.folder))
    arena.note(broken=written != 1, what=f"{written} drivers have written to the ledger, not 1")
    return arena.expected


FAULTS: Final = [
    Fault("F1", "kill -9 a trial's worker", kill_worker),
    Fault("F4", "kill -9 the driver at random", kill_driver, "sequential"),
    Fault("F13a", "a trial hangs", hang),
    Fault("F13b", "SIGSTOP a worker", stop_worker),
    Fault("F13c", "SIGSTOP the driver; a zombie comes back", stop_driver),
    Fault("F14", "SIGTERM or SIGINT with grace", terminate, "sequential"),
    Fault("F15", "the same sweep started twice, and again", start_twice),
]
