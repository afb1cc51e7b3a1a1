"""How fast the service's database is: durable submissions by several clients at once, and long lists."""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from cluster.backend import JobState
from service.queueing import lifecycle
from service.queueing.queue import Capacity, Usage, allot
from service.records import NewSweep
from service.store import Store
from service.sweeps.folders import new_id
from tests.benchmarks.measure import Measure

SWEEPS, CLIENTS, LISTS, TRIALS = 1000, 16, 50, 100
SPEC = {
    "name": "bench", "budget": {"max_trials": TRIALS}, "resources": {"cpu": 1},
    "fit": {"model": {f"argument_{n}": "x" * 40 for n in range(40)}},
    "parameters": {f"model.init_args.p{n}": {"min": 0.0, "max": 1.0} for n in range(10)},
}  # fmt: skip
PROGRESS = {
    "state": "running", "epochs": 10 * TRIALS, "trials": {"total": TRIALS, "completed": TRIALS - 8, "running": 8},
    "best": {"trial": 3, "epoch": 9, "value": 0.9, "params": {f"p{n}": 0.5 for n in range(10)}},
    "running": [{"trial": n, "epoch": 4, "value": 0.5, "params": {f"p{i}": 0.5 for i in range(10)}} for n in range(8)],
}  # fmt: skip


def measure(folder: Path) -> list[Measure]:
    """Rates and latencies of the store on SQLite, with a flush to the disk before each answer."""
    store = Store.open(f"sqlite:///{folder / 'service.db'}")
    try:
        return [*_submissions(store), *_lists(store), _sharing(store)]
    finally:
        store.close()


def _submissions(store: Store) -> list[Measure]:
    def submit(number: int) -> float:
        new = NewSweep(new_id("bench"), "default", f"user{number % 7}", "bench", SPEC)
        return _seconds(lambda: store.create_sweep(new, key=f"k{number}", body_digest="d"))

    began = time.perf_counter()
    with ThreadPoolExecutor(CLIENTS) as pool:
        taken = list(pool.map(submit, range(SWEEPS)))
    whole = time.perf_counter() - began
    note = f"{SWEEPS / whole:.0f}/s by {CLIENTS} clients at once"
    return [
        Measure("durable submission, mean time between two", 1000 * whole / SWEEPS, "ms", 5.0, note),
        Measure("durable submission, p99", 1000 * _p99(taken), "ms", 150.0),
    ]


def _lists(store: Store) -> list[Measure]:
    seen = lifecycle.JobSeen(1, JobState.RUNNING, PROGRESS, trial_hours=1.0)

    def run(sweep_id: str) -> float:
        store.act(sweep_id, None, lifecycle.Placed(8), by="bench")
        return _seconds(lambda: store.act(sweep_id, None, seen, by="bench"))

    with ThreadPoolExecutor(CLIENTS) as pool:
        changes = list(pool.map(run, [s.id for s in store.unfinished()]))
    lists = [_seconds(lambda: store.sweeps(None, limit=SWEEPS)) for _ in range(LISTS)]
    return [
        Measure(f"change of a sweep, p99 of {SWEEPS}", 1000 * _p99(changes), "ms"),
        Measure(f"list of {SWEEPS} sweeps of {TRIALS} trials, p99", 1000 * _p99(lists), "ms", 200.0),
    ]


def _sharing(store: Store) -> Measure:
    sweeps = store.unfinished()
    taken = _seconds(lambda: allot(sweeps, Capacity(500.0), {}, Usage(), store.now()))
    return Measure(f"sharing 500 CPUs out among {SWEEPS} sweeps", 1000 * taken, "ms")


def _seconds(work: Callable[[], object]) -> float:
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def _p99(values: list[float]) -> float:
    return sorted(values)[int(0.99 * (len(values) - 1))]
