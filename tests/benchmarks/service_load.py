"""What the service can take: durable submissions over real HTTP, long lists, memory, and how soon it is there.

The service has a disk of its own to write to, a cluster that is away, and no more than this machine's processors, which
it shares with the clients that press it.
"""

from __future__ import annotations

import asyncio
import json
import statistics
import sys
import time
import uuid
from pathlib import Path
from typing import Any, Final

import httpx2
import psutil

from service.records import NewSweep, State
from service.spec.sweep_spec import load_sweep
from service.store import Store
from tests.benchmarks.measure import ROOT, Measure
from tests.served import Served

SUBMISSIONS: Final = 3000
CLIENTS: Final = 16
LISTED: Final = 1000
TRIALS: Final = 100
LISTS: Final = 200
STARTS: Final = 3
NOWHERE: Final = "http://127.0.0.1:9"  # a cluster that never answers: nothing but the service is measured


def measure(folder: Path) -> list[Measure]:
    """Everything that is promised of the service itself."""
    home = folder / "home"
    starts = [_start(folder / f"start-{number}") for number in range(STARTS)]
    with Served(home, "--cluster", NOWHERE, environment={"TUNEYARD_LOG_LEVEL": "warning"}) as served:
        rate, p99_ms = asyncio.run(_submit(served.url))
        after_submitting = _memory_mib(served)
    listed = folder / "listed"
    _fill(listed)
    with Served(listed, "--cluster", NOWHERE, environment={"TUNEYARD_LOG_LEVEL": "warning"}) as served:
        list_ms = _list(served.url)
        memory = max(after_submitting, _memory_mib(served))
    return [
        Measure("service: time for 200 durable submissions", 200 / rate, "s", 1.0, f"{rate:.0f} submissions/s"),
        Measure("service: a submission, 99th percentile", p99_ms, "ms", 150.0, f"{CLIENTS} clients at once"),
        Measure("service: a list of 1,000 sweeps, 99th percentile", list_ms, "ms", 200.0, f"{TRIALS} trials each"),
        Measure("service: memory", memory, "MiB", 250.0, "after all of this"),
        Measure("service: start until it answers", statistics.median(starts), "s", 3.0, f"median of {STARTS}"),
    ]


def _start(home: Path) -> float:
    with Served(home, "--cluster", NOWHERE) as served:
        return served.start_s


async def _submit(url: str) -> tuple[float, float]:
    """(submissions a second, 99th percentile in ms) of clients that each send one after the other."""
    spec = load_sweep(ROOT / "trainables/recipes/digits.yaml", []).to_dict()
    body = json.dumps({"spec": {name: value for name, value in spec.items() if name != "base"}}).encode()
    left, times = iter(range(SUBMISSIONS)), []
    async with httpx2.AsyncClient(base_url=url, limits=httpx2.Limits(max_connections=CLIENTS)) as client:

        async def send_some() -> None:
            for _ in left:
                headers = {"Idempotency-Key": uuid.uuid4().hex, "Content-Type": "application/json"}
                began = time.perf_counter()
                answer = await client.post("/api/v1/sweeps", content=body, headers=headers)
                times.append(time.perf_counter() - began)
                if answer.status_code != httpx2.codes.CREATED:
                    sys.exit(f"a submission was answered with {answer.status_code}: {answer.text[:500]}")

        began = time.perf_counter()
        await asyncio.gather(*(send_some() for _ in range(CLIENTS)))
        seconds = time.perf_counter() - began
    return SUBMISSIONS / seconds, _p99_ms(times)


def _fill(home: Path) -> None:
    """A store with sweeps that are over, each with the last word of a driver that ran many trials."""
    home.mkdir(parents=True)
    spec = load_sweep(ROOT / "trainables/recipes/digits.yaml", []).to_dict()
    store = Store.open(f"sqlite:///{home / 'service.db'}")
    for number in range(LISTED):
        new = NewSweep(f"digits-20261123-{number:06x}", "default", f"user-{number % 20}", "digits", spec)
        store.create_sweep(new, key=None, body_digest="")
    _end_all(store)
    store.close()


def _end_all(store: Store) -> None:
    import sqlalchemy as sa

    from service.store.schema import sweeps

    running = [{"trial": number, "epoch": 9, "value": 0.9, "params": {"lr": 0.1}} for number in range(8)]
    progress: dict[str, Any] = {
        "state": "completed", "is_final": True, "trials": {"total": TRIALS, "completed": TRIALS}, "running": running,
        "best": {"trial": 7, "epoch": 27, "value": 0.98, "params": {"lr": 0.01}}, "epochs": 27 * TRIALS,
    }  # fmt: skip
    change = sa.update(sweeps).values(state=State.COMPLETED.value, progress=progress, ended_at=time.time())
    store._database.write(lambda connection: connection.execute(change))


def _list(url: str) -> float:
    """The 99th percentile, in ms, of reading all sweeps page by page."""
    times = []
    with httpx2.Client(base_url=url, timeout=60) as client:
        for _ in range(LISTS):
            began, after, count = time.perf_counter(), None, 0
            while True:
                page = client.get(
                    "/api/v1/sweeps", params={"limit": 1000, **({"after": after} if after else {})}
                ).json()
                count, after = count + len(page["items"]), page["next"]
                if after is None:
                    break
            times.append(time.perf_counter() - began)
            if count != LISTED:
                sys.exit(f"{count} sweeps were listed, not {LISTED}")
    return _p99_ms(times)


def _p99_ms(times: list[float]) -> float:
    return 1000 * statistics.quantiles(times, n=100)[98]


def _memory_mib(served: Served) -> float:
    """Resident memory of the service and the processes it has started."""
    assert served.process is not None
    top = psutil.Process(served.process.pid)
    return sum(process.memory_info().rss for process in (top, *top.children(recursive=True))) / 2**20
