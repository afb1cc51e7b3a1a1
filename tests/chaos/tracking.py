"""Faults of MLflow: away, slow, hanging, forgetful or locked. None may touch scheduling, and all must arrive."""

from __future__ import annotations

import contextlib
import random
import sqlite3
import threading
import time
from http.server import BaseHTTPRequestHandler
from itertools import pairwise
from typing import Final

from service.tuning import tracking
from tests.chaos.arena import Arena
from tests.chaos.checker import Expected
from tests.chaos.faults import Fault
from tests.integration.mlflow_peer import Proxy

AWAY_S: Final = 8.0
SLOW_S: Final = 30.0
HUNG_S: Final = 25.0
LOCKED_S: Final = 40.0
MAX_STANDSTILL_S: Final = 5.0  # between two epochs while MLflow is away: far more than an epoch takes
LOSSES: Final = 0.4


class _PatientProxy(Proxy):
    """A proxy that does not mind when who asked has gone."""

    def handle(self, request: BaseHTTPRequestHandler) -> None:
        """As the proxy, quietly."""
        with contextlib.suppress(OSError):
            super().handle(request)


def _proxy(arena: Arena) -> Proxy:
    """A real MLflow server with a proxy before it, which the sweep is told to track to."""
    address, arena.tracking_home = arena.house.server()
    proxy = _PatientProxy(address)
    uri = arena.stack.enter_context(proxy.serve())
    arena.extra = {"tracking": {"uri": uri, "experiment": arena.place.name}}
    return proxy


def _away(arena: Arena, rng: random.Random, action: str) -> Expected:
    """MLflow answers with `action` for some seconds."""
    proxy = _proxy(arena)
    arena.start()
    arena.wait_some(rng, 1, 6)
    before = len(proxy.paths)
    proxy.plan = lambda _number, _path: action
    arena.strike()
    time.sleep(AWAY_S)
    proxy.plan = lambda _number, _path: "pass"
    arena.note(broken=len(proxy.paths) == before, what="MLflow was not asked for anything: the fault has hit nothing")
    _went_on(arena)
    return arena.expected


def _went_on(arena: Arena) -> None:
    """No trial waits for MLflow."""
    arena.finish()
    since = arena.struck[-1]
    at = [since, *sorted(line.at for line in arena.truth() if line.kind == "acknowledged" and line.at > since)]
    longest = max((b - a for a, b in pairwise(at)), default=0.0)
    arena.note(broken=longest > MAX_STANDSTILL_S, what=f"training stood still for {longest:.1f} s")


def refused(arena: Arena, rng: random.Random) -> Expected:
    """Connections are cut before any answer."""
    return _away(arena, rng, "refuse")


def unavailable(arena: Arena, rng: random.Random) -> Expected:
    """What stands before MLflow answers 503."""
    return _away(arena, rng, "503")


def slow(arena: Arena, rng: random.Random) -> Expected:
    """A request takes 30 s, which is longer than the tracker waits."""
    proxy = _proxy(arena)
    over = threading.Event()

    def plan(_number: int, _path: str) -> str:
        if not over.is_set():
            over.wait(SLOW_S)
            over.set()
        return "pass"

    arena.start()
    arena.wait_some(rng, 1, 6)
    proxy.plan = plan
    arena.strike()
    _went_on(arena)
    return arena.expected


def hung(arena: Arena, rng: random.Random) -> Expected:
    """Requests are taken and never answered, until MLflow is restarted."""
    proxy = _proxy(arena)
    over = threading.Event()

    def plan(_number: int, _path: str) -> str:
        if over.is_set():
            return "pass"
        over.wait()
        return "refuse"

    arena.start()
    arena.wait_some(rng, 1, 6)
    proxy.plan = plan
    arena.strike()
    timer = threading.Timer(HUNG_S, over.set)
    arena.stack.callback(over.set)
    timer.start()
    _went_on(arena)
    return arena.expected


def away_for_good(arena: Arena, rng: random.Random) -> Expected:
    """MLflow stays away: the sweep ends well all the same, says what is owed, and a later sync delivers."""
    proxy = _proxy(arena)
    arena.start()
    arena.wait_some(rng, 0, 6)
    proxy.plan = lambda _number, _path: "refuse"
    arena.strike()
    _went_on(arena)
    said = arena.progress()["tracking"]["delivered"]
    arena.note(broken=said is not False, what=f"the sweep does not say that MLflow is owed something: {said}")
    proxy.plan = lambda _number, _path: "pass"
    code = arena.sync()
    arena.note(broken=code != tracking.DELIVERED, what=f"sync ended with {code}")
    return arena.expected


def lost_replies(arena: Arena, rng: random.Random) -> Expected:
    """MLflow does the work, but many of its replies never arrive."""
    proxy = _proxy(arena)
    seed = rng.random()

    def plan(number: int, _path: str) -> str:
        return "lose" if random.Random(f"{seed}-{number}").random() < LOSSES else "pass"

    proxy.plan = plan
    arena.start()
    arena.wait_acknowledged(1)
    arena.strike()
    return arena.expected


def locked(arena: Arena, rng: random.Random) -> Expected:
    """Somebody holds the embedded store's database for 40 s."""
    arena.start()
    arena.wait_some(rng, 1, 6)
    arena.wait_for((arena.home / "mlflow.db").exists, "the embedded store")
    held = threading.Event()

    def hold() -> None:
        with contextlib.closing(sqlite3.connect(arena.home / "mlflow.db", timeout=30)) as connection:
            connection.execute("BEGIN EXCLUSIVE")
            held.set()
            time.sleep(LOCKED_S)
            connection.rollback()

    threading.Thread(target=hold, daemon=True).start()
    arena.note(broken=not held.wait(LOCKED_S), what="the database could not be locked")
    arena.strike()
    return arena.expected


FAULTS: Final = [
    Fault("F5a", "MLflow refuses connections", refused),
    Fault("F5b", "MLflow answers 503", unavailable),
    Fault("F5c", "MLflow takes 30 s to answer", slow),
    Fault("F5d", "MLflow hangs", hung),
    Fault("F5e", "MLflow stays away, sync delivers later", away_for_good),
    Fault("F6", "MLflow works, replies are lost", lost_replies),
    Fault("F7", "tracking database locked for 40 s", locked),
]
