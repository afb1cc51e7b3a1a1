"""Routes that show the whole: what waits and why, and what the cluster has."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from cluster.backend import JobError
from service.api_guard import Asking, Caller, router
from service.api_models import ClusterAnswer, QueueAnswer
from service.api_rules import PREFIX
from service.queue import Capacity, Wait, allot
from service.records import SweepRecord

routes = router()


@routes.get(f"{PREFIX}/queue", response_model=QueueAnswer)
def queue(caller: Asking) -> dict[str, Any]:
    """What runs and what waits, and for each why. Of other projects' sweeps only their number shows."""
    waits = _waits(caller)
    seen = [s for s in _unfinished(caller) if caller.principal.role(s.project) is not None]
    order = sorted(seen, key=lambda s: (waits[s.id].position if s.id in waits else 0, s.queued_at, s.id))
    return {"items": [_entry(sweep, waits.get(sweep.id)) for sweep in order]}


def _entry(sweep: SweepRecord, wait: Wait | None) -> dict[str, Any]:
    names = ("project", "owner", "name", "state", "priority", "concurrency", "queued_at")
    head = {"sweep_id": sweep.id, **{name: getattr(sweep, name) for name in names}}
    return {**head, "position": wait and wait.position, "reason": wait.reason if wait is not None else sweep.reason}


def _unfinished(caller: Caller) -> list[SweepRecord]:
    return caller.service.store.unfinished()


@routes.get(f"{PREFIX}/cluster", response_model=ClusterAnswer)
def cluster(caller: Asking) -> dict[str, Any]:
    """What the cluster has, and how much of it is given out."""
    placed = [sweep for sweep in _unfinished(caller) if sweep.state.is_placed]
    return {"running_sweeps": len(placed), "concurrent_trials": sum(s.concurrency for s in placed), **_seen(caller)}
