"""Routes that show the whole: what waits and why, and what the cluster has."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from cluster.backend import Capacity as Seen
from service.api.guard import Asking, Caller, ProjectQuery, router
from service.api.last_seen import Unseen
from service.api.models import ClusterAnswer, QueueAnswer
from service.api.rules import PREFIX
from service.queueing.queue import Capacity, Wait, allot
from service.records import State, SweepRecord

routes = router()


@routes.get(f"{PREFIX}/queue", response_model=QueueAnswer)
def queue(caller: Asking, project: ProjectQuery = None) -> dict[str, Any]:
    """What runs and what waits, and for each why. Of other projects' sweeps only their number shows."""
    projects, sweeps = caller.within(project), caller.service.store.unfinished()
    capacity = _capacity(caller)
    waits = {} if isinstance(capacity, Unseen) else _waits(caller, sweeps, capacity)
    away = f"the cluster cannot be reached: {_why(caller, capacity)}" if isinstance(capacity, Unseen) else ""
    seen = [sweep for sweep in sweeps if projects is None or sweep.project in projects]
    order = sorted(seen, key=lambda s: (waits[s.id].position if s.id in waits else 0, s.queued_at, s.id))
    return {"items": [_entry(sweep, waits.get(sweep.id), away) for sweep in order]}


def _entry(sweep: SweepRecord, wait: Wait | None, away: str) -> dict[str, Any]:
    names = ("project", "owner", "name", "state", "priority", "concurrency", "queued_at")
    head = {"sweep_id": sweep.id, **{name: getattr(sweep, name) for name in names}}
    reason = away if away and sweep.state is State.QUEUED else sweep.reason
    return {**head, "position": wait and wait.position, "reason": wait.reason if wait is not None else reason}


def _waits(caller: Caller, sweeps: list[SweepRecord], seen: Seen) -> Mapping[str, Wait]:
    """Why sweeps wait, as the controller's next pass will see it."""
    store, capacity = caller.service.store, Capacity.of(seen, caller.service.driver_cpus)
    return allot(sweeps, capacity, store.quotas(), store.usage(), store.now()).waits


@routes.get(f"{PREFIX}/cluster", response_model=ClusterAnswer)
def cluster(caller: Asking) -> dict[str, Any]:
    """What the cluster has, and how much of it is given out."""
    seen = _capacity(caller)
    placed = [sweep for sweep in caller.service.store.unfinished() if sweep.state.is_placed]
    given = {"running_sweeps": len(placed), "concurrent_trials": sum(sweep.concurrency for sweep in placed)}
    if isinstance(seen, Unseen):
        return {"is_reachable": False, "cpus": 0.0, "gpus": 0.0, "nodes": 0, "message": _why(caller, seen), **given}
    return {"is_reachable": True, "cpus": seen.cpus, "gpus": seen.gpus, "nodes": seen.nodes, **given}


def _capacity(caller: Caller) -> Seen | Unseen:
    """What the cluster has, or why that is not known."""
    seen = caller.service.capacity
    return Unseen("this service was started without a cluster") if seen is None else seen()


def _why(caller: Caller, unseen: Unseen) -> str:
    """In the words that are for the caller: where Ray is, and what a path is called, is for operators."""
    return (caller.is_operator and unseen.detail) or unseen.told
