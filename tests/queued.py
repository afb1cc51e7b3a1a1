"""Sweeps, clusters and quotas for the tests of the queue."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from random import Random
from typing import Any

from service.queueing.queue import PATIENCE_S, Capacity, Plan, Usage, allot
from service.records import Quota, State, SweepRecord, Wish

NOW = 1000.0
EIGHT = Capacity(8.0)


def sweep(
    name: str,
    owner: str = "ann",
    *,
    cpu: float = 1,
    gpu: float = 0,
    most: int | None = None,
    **changes: Any,  # noqa: ANN401  # any field of a record
) -> SweepRecord:
    spec = {"resources": {"cpu": cpu, "gpu": gpu}, "budget": {} if most is None else {"max_concurrent_trials": most}}
    return SweepRecord(name, "default", owner, name, spec, queued_at=NOW - 100 + len(name), **changes)


def running(name: str, owner: str = "ann", *, concurrency: int = 1, most: int | None = None) -> SweepRecord:
    waiting = sweep(name, owner, most=most)
    return replace(waiting, state=State.RUNNING, concurrency=concurrency, started_at=NOW - 50)


def plan(*sweeps: SweepRecord, capacity: Capacity = EIGHT, quotas: Mapping[tuple[str, str], Quota] | None = None,
         usage: Usage | None = None) -> Plan:  # fmt: skip
    return allot(sweeps, capacity, quotas or {}, usage or Usage(), NOW)


World = tuple[list[SweepRecord], Capacity, dict[tuple[str, str], Quota], Usage]


def world(seed: int) -> World:
    """Sweeps in all states, a cluster and quotas; drawn by hand, as hypothesis takes far longer than `allot`."""
    draw = Random(seed)
    capacity = Capacity(draw.choice([0.5, 4, 8]), draw.choice([0, 1, 4]), draw.choice([None, None, 1, 3, 5]))
    names = [("user", "a"), ("user", "b"), ("user", "*"), ("project", "p"), ("project", "*")]
    quotas = {name: quota(draw) for name in draw.sample(names, draw.randint(0, 3))}
    used = [{user: draw.uniform(0, 10) for user in draw.sample("abc", draw.randint(0, 3))} for _ in range(2)]
    return [one(draw, number) for number in range(draw.randint(1, 9))], capacity, quotas, Usage(used[0], {}, used[1])


def quota(draw: Random) -> Quota:
    return Quota(
        draw.choice([None, 0, 1, 3]), draw.choice([None, 0, 2, 6]), draw.choice([None, 1, 8]),
        draw.choice([None, 0, 2]), draw.choice([None, None, 5]),
    )  # fmt: skip


def one(draw: Random, number: int) -> SweepRecord:
    state = draw.choice([State.QUEUED] * 4 + [State.RUNNING] * 2 + [State.STARTING, State.STOPPING, State.PAUSED])
    drawn = sweep(
        f"s{number}", draw.choice("abc"), cpu=draw.choice([0, 0.5, 1, 2, 8]), gpu=draw.choice([0, 0, 0.25, 1, 2]),
        most=draw.choice([None, 1, 2, 5]), priority=draw.randint(0, 2), state=state,
    )  # fmt: skip
    if state.is_placed:
        drawn = replace(drawn, concurrency=draw.randint(1, 3), started_at=NOW - 10)
    wish, queued_at = Wish.PAUSE if state is State.PAUSED else Wish.RUN, NOW - draw.choice([1, 10, PATIENCE_S + 1])
    return replace(drawn, wish=wish, project=draw.choice("pq"), queued_at=queued_at)
