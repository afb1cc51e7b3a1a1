"""What people are told of a change of a sweep: the kinds of event records, worked out from the record before and after.

submitted · started · improved · extended · prioritised · pausing · preempted · cancelling · queued (again) ·
resumed · lost (its driver) · paused · finished · failed · cancelled · deleting · deleted (told last, by the store).
`started` is told with each driver that begins to work, so the first one is the one whose attempt is 1.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from service.records import State, SweepRecord, Wish
from service.spec.budget import max_trials_of

News = tuple[str, dict[str, Any]]
_ENDINGS: Final = {State.COMPLETED: "finished", State.FAILED: "failed", State.CANCELLED: "cancelled"}
_STOPPING: Final = {Wish.PAUSE: "pausing", Wish.CANCEL: "cancelling"}


def news(before: SweepRecord, after: SweepRecord, by: str) -> list[News]:
    """(kind, data) of everything worth telling, in the order in which it happened; `by` is who or what did it."""
    told = [*_improved(before, after), *_wished(before, after, by)]
    if after.state is not before.state:
        told += _moved(before, after, by)
    return told


def _improved(before: SweepRecord, after: SweepRecord) -> list[News]:
    best, known = after.progress.get("best"), before.progress.get("best")
    if best is None or (known is not None and _key(best) == _key(known)):
        return []
    metric = after.progress.get("metric") or {}
    return [("improved", {**_key(best), "metric": metric.get("name"), "goal": metric.get("goal")})]


def _key(best: Mapping[str, Any]) -> dict[str, Any]:
    return {name: best.get(name) for name in ("trial", "epoch", "value")}


def _wished(before: SweepRecord, after: SweepRecord, by: str) -> list[News]:
    told: list[News] = []
    if max_trials_of(after.spec) != max_trials_of(before.spec):
        told.append(("extended", {"by": by, "max_trials": max_trials_of(after.spec)}))
    if after.priority != before.priority:
        told.append(("prioritised", {"by": by, "priority": after.priority}))
    if after.wish is Wish.DELETE is not before.wish:
        told.append(("deleting", {"by": by}))
    is_back = after.state.is_placed and after.wish is Wish.RUN and before.wish is Wish.PAUSE
    if is_back:
        told.append(("resumed", {"by": by}))
    is_other = after.state is State.STOPPING is before.state and after.wish is not before.wish
    if is_other and after.wish in _STOPPING:
        told.append((_STOPPING[after.wish], {"by": by}))
    return told


def _moved(before: SweepRecord, after: SweepRecord, by: str) -> list[News]:
    if after.state in _ENDINGS:
        return [(_ENDINGS[after.state], {"by": by, "reason": after.reason, **_result(after)})]
    if after.state is State.RUNNING:
        return [("started", {"attempt": after.attempt, "concurrency": after.concurrency})]
    if after.state is State.PAUSED:
        return [("paused", {"by": by})]
    if after.state is State.STOPPING:
        return _stopping(after, by)
    if after.state is State.QUEUED:
        return _queued(before, after, by)
    return []


def _stopping(after: SweepRecord, by: str) -> list[News]:
    if after.wish in _STOPPING:
        return [(_STOPPING[after.wish], {"by": by})]
    return [("preempted", {"reason": after.reason})] if after.is_preempted else []


def _queued(before: SweepRecord, after: SweepRecord, by: str) -> list[News]:
    if after.not_before is not None:
        return [("lost", {"reason": after.reason, "failures": after.failures, "not_before": after.not_before})]
    is_asked = before.state in (State.PAUSED, *_ENDINGS)
    return [("resumed", {"by": by})] if is_asked else [("queued", {"reason": after.reason})]


def _result(after: SweepRecord) -> dict[str, Any]:
    best = after.progress.get("best")
    return {} if best is None else {"best": _key(best)}
