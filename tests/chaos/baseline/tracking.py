"""Faults of MLflow, done to plain Ray Tune: away, failing, slow, losing its replies, locked."""

from __future__ import annotations

import contextlib
import random
import sqlite3
import threading
import time
from typing import Final

from tests.chaos.baseline.arena import Arena
from tests.chaos.baseline.cases import Case
from tests.chaos.checker import Expected
from tests.integration.mlflow_peer import Proxy, mlflow_server

OUTAGE_S: Final = 8.0
HUNG_S: Final = 25.0
SLOW_S: Final = 30.0
LOCKED_S: Final = 40.0
LOST_OF_100: Final = 4


def _served(arena: Arena) -> Proxy:
    """An MLflow server on the arena's store, behind a proxy; the sweep logs to it."""
    stack = contextlib.ExitStack()
    arena.undo.append(stack.close)
    proxy = Proxy(stack.enter_context(mlflow_server(arena.root)))
    arena.tracking = stack.enter_context(proxy.serve())
    return proxy


def _outage(arena: Arena, rng: random.Random, action: str) -> None:
    proxy = _served(arena)
    arena.start()
    arena.wait_acknowledged(rng.randint(2, 10))
    proxy.plan = lambda _number, _path: action
    time.sleep(OUTAGE_S)
    proxy.plan = lambda _number, _path: "pass"
    arena.struck()


def refused(arena: Arena, rng: random.Random, calm: Expected) -> Expected:
    """MLflow breaks every connection for 8 s."""
    _outage(arena, rng, "refuse")
    return calm


def unavailable(arena: Arena, rng: random.Random, calm: Expected) -> Expected:
    """MLflow answers 503 for 8 s."""
    _outage(arena, rng, "503")
    return calm


def hung(arena: Arena, rng: random.Random, calm: Expected) -> Expected:
    """MLflow takes requests and answers none for 25 s, then breaks them."""
    proxy, over = _served(arena), threading.Event()

    def plan(_number: int, _path: str) -> str:
        if over.is_set():
            return "pass"
        over.wait()
        return "refuse"

    arena.start()
    arena.wait_acknowledged(rng.randint(2, 10))
    proxy.plan = plan
    arena.undo.append(over.set)
    time.sleep(HUNG_S)
    over.set()
    arena.struck()
    return calm


def slow(arena: Arena, rng: random.Random, calm: Expected) -> Expected:
    """MLflow takes 30 s to answer what it is asked in the next 30 s."""
    proxy, over = _served(arena), threading.Event()

    def plan(_number: int, _path: str) -> str:
        if not over.is_set():
            over.wait(SLOW_S)
            over.set()
        return "pass"

    arena.start()
    arena.wait_acknowledged(rng.randint(2, 10))
    proxy.plan = plan
    arena.struck()
    return calm


def away(arena: Arena, rng: random.Random, calm: Expected) -> Expected:
    """MLflow goes away in the middle and does not come back while the sweep runs."""
    proxy = _served(arena)
    arena.start()
    arena.wait_acknowledged(rng.randint(2, 10))
    proxy.plan = lambda _number, _path: "refuse"
    arena.struck()
    return calm


def lose_replies(arena: Arena, rng: random.Random, calm: Expected) -> Expected:
    """MLflow does the work, but four in a hundred of its replies are lost, and that of the first new run."""
    proxy, seen = _served(arena), set[str]()

    def plan(_number: int, path: str) -> str:
        is_first = path not in seen and "runs/create" in path
        seen.add(path)
        return "lose" if is_first or rng.randrange(100) < LOST_OF_100 else "pass"

    proxy.plan = plan
    arena.start()
    return calm


def lock(arena: Arena, rng: random.Random, calm: Expected) -> Expected:
    """Somebody locks the tracking database for 40 s."""
    arena.start()
    arena.wait_acknowledged(rng.randint(2, 10))
    with contextlib.closing(sqlite3.connect(arena.database, timeout=30, isolation_level=None)) as connection:
        connection.execute("BEGIN EXCLUSIVE")
        time.sleep(LOCKED_S)
        connection.execute("ROLLBACK")
    arena.struck()
    return calm


CASES: Final = [
    Case("F5a", "MLflow refuses for 8 s", refused),
    Case("F5b", "MLflow answers 503 for 8 s", unavailable),
    Case("F5c", "MLflow takes 30 s to answer", slow),
    Case("F5d", "MLflow hangs for 25 s", hung),
    Case("F5e", "MLflow goes away for good", away),
    Case("F6", "MLflow does the work, the reply is lost", lose_replies),
    Case("F7", "the tracking database is locked for 40 s", lock),
]
