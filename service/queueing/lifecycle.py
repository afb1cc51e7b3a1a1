"""What may happen to a sweep of the service, as one pure function: `step(sweep, event, now) -> (sweep, commands)`.

Nothing here is remembered but the record. What has to be done follows from the record alone (`due`), so a controller
that died between writing it and acting on it, or the one that comes after, finds the same commands again.

State       what is due             what leads on
queued      nothing                 Placed → starting
starting    Submit, Allow           JobSeen running → running
running     Allow                   JobSeen over → completed, failed, or queued where the driver was lost
stopping    Stop                    JobSeen over → paused, cancelled, or queued where it was preempted or resumed since
paused      nothing                 Resume → queued
its endings Remove, if deleted      Extend → queued; Resume → queued where a failed sweep's own record is still open

Whoever asks for what cannot be gets IllegalMoveError. What a controller saw is never illegal: where it no longer
applies, because somebody was faster, the record stays as it is.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, Final

from cluster.backend import JobState
from service.errors import TuneyardError
from service.queueing.driver_words import noted, possible_hours
from service.queueing.signals import (
    Allow,
    Asked,
    Cancel,
    Command,
    Delayed,
    Delete,
    Event,
    Extend,
    GiveUp,
    JobLost,
    JobSeen,
    Pause,
    Placed,
    Preempted,
    Prioritise,
    Rebalanced,
    Remove,
    Resume,
    Seen,
    Stop,
    Submit,
    SubmitFailed,
    Unrunnable,
)
from service.records import State, SweepRecord, Wish
from service.spec.budget import max_trials_of, spec_with

__all__ = [
    "Allow",
    "Asked",
    "Cancel",
    "Command",
    "Delayed",
    "Delete",
    "Event",
    "Extend",
    "GiveUp",
    "IllegalMoveError",
    "JobLost",
    "JobSeen",
    "Pause",
    "Placed",
    "Preempted",
    "Prioritise",
    "Rebalanced",
    "Remove",
    "Resume",
    "Seen",
    "Stop",
    "Submit",
    "SubmitFailed",
    "Unrunnable",
    "backoff_s",
    "due",
    "step",
    "wait_s",
]
PAUSE_WAIT_S: Final = 600.0  # trials pause with their next report
CANCEL_WAIT_S: Final = 30.0
MAX_FAILURES: Final = 6  # drivers lost one after the other, none of which brought the sweep forward
FIRST_BACKOFF_S: Final = 5.0
MOST_BACKOFF_S: Final = 300.0
GIVEN_UP: Final = "an operator gave it up with its cluster"  # as a reason: nobody is asked about its job any more


class IllegalMoveError(TuneyardError):
    """The sweep's state does not allow what was asked; the text says what it allows."""


def step(sweep: SweepRecord, event: Event, now: float) -> tuple[SweepRecord, tuple[Command, ...]]:
    """The record after `event`, and what is due then. A record that does not change keeps its version.

    IllegalMoveError where the state does not allow what a person asked for.
    """
    if sweep.wish is Wish.DELETE and isinstance(event, Asked) and not isinstance(event, GiveUp):
        if isinstance(event, Delete | Cancel):
            return sweep, due(sweep)
        raise _illegal(sweep, event, "it is being deleted")
    move: Callable[[SweepRecord, Any, float], SweepRecord] = _MOVES[type(event)]
    after = move(sweep, event, now)
    if after != sweep:
        after = replace(after, version=sweep.version + 1, updated_at=now)
    return after, due(after)


def due(sweep: SweepRecord) -> tuple[Command, ...]:
    """What has to be done for a record as it stands; doing it twice does no harm."""
    if sweep.state is State.STARTING:
        return Allow(sweep.concurrency), Submit(sweep.attempt)
    if sweep.state is State.RUNNING:
        return (Allow(sweep.concurrency),)
    if sweep.state is State.STOPPING:
        return (Stop(PAUSE_WAIT_S if sweep.wish in (Wish.RUN, Wish.PAUSE) else CANCEL_WAIT_S),)
    return (Remove(),) if sweep.wish is Wish.DELETE else ()


def backoff_s(failures: int) -> float:
    """How long a sweep whose driver was lost for the `failures`-th time waits before the next one."""
    return float(min(MOST_BACKOFF_S, FIRST_BACKOFF_S * 3 ** (failures - 1)))


def wait_s(sweep: SweepRecord, now: float) -> float:
    """For how long the sweep is not to be started whatever is free; a clock that was set back makes nobody wait."""
    left_s = 0.0 if sweep.not_before is None else sweep.not_before - now
    return left_s if 0 < left_s <= MOST_BACKOFF_S else 0.0


def _pause(sweep: SweepRecord, event: Pause, now: float) -> SweepRecord:
    if sweep.state.is_over or sweep.wish is Wish.CANCEL:
        raise _illegal(sweep, event, "only a sweep that waits or runs can be paused")
    return _wished(sweep, Wish.PAUSE, State.PAUSED, now)


def _resume(sweep: SweepRecord, event: Resume, now: float) -> SweepRecord:
    if sweep.state is State.FAILED and not _is_final(sweep, sweep.progress):
        return _requeued(sweep, now)
    if sweep.state.is_over or sweep.wish is Wish.CANCEL:
        raise _illegal(sweep, event, "there is nothing left to resume; `tuneyard extend` adds trials to it")
    if sweep.state is State.PAUSED:
        return _requeued(sweep, now)
    return replace(sweep, wish=Wish.RUN, not_before=None)  # one that still stops is queued again once it has


def _cancel(sweep: SweepRecord, event: Cancel, now: float) -> SweepRecord:
    if sweep.state is State.CANCELLED:
        return sweep
    if sweep.state.is_over:
        raise _illegal(sweep, event, "it is over")
    return _wished(sweep, Wish.CANCEL, State.CANCELLED, now)


def _give_up(sweep: SweepRecord, event: GiveUp, now: float) -> SweepRecord:
    if sweep.state.is_over and sweep.wish is not Wish.DELETE:
        raise _illegal(sweep, event, "it is over")
    given_up = replace(sweep, reason=GIVEN_UP)
    if sweep.wish is not Wish.DELETE:
        given_up = replace(given_up, wish=Wish.CANCEL)
    return _ended(given_up, sweep.state if sweep.state.is_over else State.CANCELLED, now)


def _delete(sweep: SweepRecord, _event: Delete, now: float) -> SweepRecord:
    ending = sweep.state if sweep.state.is_over else State.CANCELLED
    return _wished(sweep, Wish.DELETE, ending, now)


def _wished(sweep: SweepRecord, wish: Wish, end: State, now: float) -> SweepRecord:
    """`end` at once where no driver can be at work, else by way of stopping.

    The job of one that counts as lost may run all the same: the cluster was not heard when it took it.
    """
    may_have_driver = sweep.state is State.QUEUED and sweep.attempt > 0 and sweep.not_before is not None
    if sweep.state.is_placed or may_have_driver:
        held = replace(sweep, concurrency=max(1, sweep.concurrency), not_before=None)
        return replace(held, wish=wish, state=State.STOPPING, is_preempted=False, reason="")
    kept = sweep.reason if sweep.state.is_over else ""
    return _ended(replace(sweep, wish=wish, reason=kept), end, now)


def _extend(sweep: SweepRecord, event: Extend, now: float) -> SweepRecord:
    before = max_trials_of(sweep.spec)
    if sweep.state is State.STOPPING and sweep.wish is Wish.CANCEL:
        raise _illegal(sweep, event, "it is being cancelled; wait until it is, then extend it")
    if before is None:
        raise _illegal(sweep, event, "its budget has no max_trials that could grow")
    if event.max_trials <= before:
        raise _illegal(sweep, event, f"max_trials is {before} now; give more than that")
    longer = replace(sweep, spec=spec_with(sweep.spec, event.max_trials))
    if sweep.state.is_over or sweep.state is State.PAUSED:
        return _requeued(longer, now)
    return replace(longer, wish=Wish.RUN)


def _prioritise(sweep: SweepRecord, event: Prioritise, _now: float) -> SweepRecord:
    if sweep.state.is_over:
        raise _illegal(sweep, event, "it is over")
    return replace(sweep, priority=event.priority)


def _requeued(sweep: SweepRecord, now: float) -> SweepRecord:
    """Back in the queue, at its end, as somebody wished."""
    return replace(
        sweep, state=State.QUEUED, wish=Wish.RUN, reason="", queued_at=now, ended_at=None, failures=0, not_before=None
    )


def _placed(sweep: SweepRecord, event: Placed, now: float) -> SweepRecord:
    if sweep.state is not State.QUEUED or wait_s(sweep, now) or event.concurrency < 1:
        return sweep
    begun = replace(sweep, state=State.STARTING, attempt=sweep.attempt + 1, concurrency=event.concurrency)
    return replace(begun, is_preempted=False, not_before=None, reason="")


def _rebalanced(sweep: SweepRecord, event: Rebalanced, _now: float) -> SweepRecord:
    has_place = sweep.state in (State.STARTING, State.RUNNING) and event.concurrency >= 1
    return replace(sweep, concurrency=event.concurrency) if has_place else sweep


def _preempted(sweep: SweepRecord, event: Preempted, _now: float) -> SweepRecord:
    if sweep.state not in (State.STARTING, State.RUNNING):
        return sweep
    return replace(sweep, state=State.STOPPING, is_preempted=True, reason=event.reason)


def _job_seen(sweep: SweepRecord, event: JobSeen, now: float) -> SweepRecord:
    # Told to stop before its driver was even submitted, a sweep has only an earlier driver's job to show.
    has_not_begun = sweep.state is State.STOPPING and event.attempt < sweep.attempt and event.state.is_over
    if event.attempt < sweep.attempt and not has_not_begun:
        return sweep  # an earlier driver's, from which the present one has taken over
    if event.attempt > sweep.attempt:  # the records were restored from before it was started
        sweep = replace(sweep, attempt=event.attempt)
    hours = None if event.trial_hours is None else min(event.trial_hours, possible_hours(sweep, now))
    sweep = noted(sweep, event.progress, hours)
    if event.state.is_over:
        return _driver_gone(sweep, event.message, now) if sweep.state.is_placed else sweep
    if sweep.state is State.STARTING and event.state is JobState.RUNNING:
        return replace(sweep, state=State.RUNNING, started_at=sweep.started_at or now, reason="")
    if sweep.state.is_placed or _is_final(sweep, sweep.progress):
        return sweep
    return _found_running(sweep, event.state, now)


def _found_running(sweep: SweepRecord, job: JobState, now: float) -> SweepRecord:
    """A driver that was given up, or that nobody wants any more, is at work after all."""
    found = replace(sweep, concurrency=max(1, sweep.concurrency), not_before=None, ended_at=None, reason="")
    if sweep.wish is not Wish.RUN:
        return replace(found, state=State.STOPPING)
    if job is JobState.PENDING:
        return replace(found, state=State.STARTING, is_preempted=False)
    return replace(found, state=State.RUNNING, started_at=sweep.started_at or now, is_preempted=False)


def _job_lost(sweep: SweepRecord, event: JobLost, now: float) -> SweepRecord:
    if event.attempt != sweep.attempt or not sweep.state.is_placed:
        return sweep
    return _driver_gone(noted(sweep, event.progress, None), event.message, now)


def _submit_failed(sweep: SweepRecord, event: SubmitFailed, now: float) -> SweepRecord:
    if event.attempt != sweep.attempt or sweep.state is not State.STARTING:
        return sweep
    return _lost(sweep, f"the cluster did not take it: {event.message}", now)


def _delayed(sweep: SweepRecord, event: Delayed, _now: float) -> SweepRecord:
    is_due = event.attempt == sweep.attempt and sweep.state is State.STARTING
    return replace(sweep, reason=f"its driver cannot be started yet: {event.message}") if is_due else sweep


def _unrunnable(sweep: SweepRecord, event: Unrunnable, now: float) -> SweepRecord:
    if sweep.state not in (State.QUEUED, State.STARTING):
        return sweep
    return _ended(replace(sweep, reason=event.message), State.FAILED, now)


def _driver_gone(sweep: SweepRecord, message: str, now: float) -> SweepRecord:
    """No driver is at work any more: the sweep's own word says whether it is over, the wish what comes if not."""
    said = sweep.progress
    if _is_final(sweep, said):
        return _ended(replace(sweep, reason=str(said.get("reason", ""))), State(said["state"]), now)
    if said.get("state") == "refused" and sweep.wish in (Wish.RUN, Wish.PAUSE):
        faults = said.get("faults") or [{}]
        return _ended(replace(sweep, reason=str(faults[0].get("message", message))), State.FAILED, now)
    if sweep.state is not State.STOPPING and said.get("is_final"):
        return _lost(sweep, "it ended at the budget that it began with, and the sweep has a larger one by now", now)
    if sweep.state is not State.STOPPING:
        return _lost(sweep, str(said.get("reason") or "") or message or "its driver ended without a word", now)
    if sweep.wish is Wish.RUN:
        waits = sweep if sweep.is_preempted else replace(sweep, reason="", queued_at=now)
        return replace(waits, state=State.QUEUED, concurrency=0)
    return _ended(sweep, State.PAUSED if sweep.wish is Wish.PAUSE else State.CANCELLED, now)


def _is_final(sweep: SweepRecord, said: Mapping[str, Any]) -> bool:
    """Whether the driver's word is the sweep's end, and not that of a budget that has been extended since."""
    if not said.get("is_final") or said.get("state") not in (State.COMPLETED, State.FAILED):
        return False
    wanted, known = max_trials_of(sweep.spec), (said.get("trials") or {}).get("total")
    return wanted is None or known is None or known >= wanted


def _lost(sweep: SweepRecord, cause: str, now: float) -> SweepRecord:
    """Back in the queue where it was, for another driver after a while; too often in a row, the sweep has failed."""
    failures = sweep.failures + 1
    if failures >= MAX_FAILURES:
        reason = f"{failures} drivers in a row were lost, the last one because: {cause}"
        return _ended(replace(sweep, failures=failures, reason=reason), State.FAILED, now)
    waits = replace(sweep, state=State.QUEUED, failures=failures, not_before=now + backoff_s(failures), concurrency=0)
    return replace(waits, reason=f"its driver was lost: {cause}")


def _ended(sweep: SweepRecord, state: State, now: float) -> SweepRecord:
    ended_at = (sweep.ended_at or now) if state.is_over else None
    return replace(sweep, state=state, ended_at=ended_at, concurrency=0, is_preempted=False, not_before=None)


def _illegal(sweep: SweepRecord, event: Event, why: str) -> IllegalMoveError:
    return IllegalMoveError(f"{type(event).__name__.lower()} is refused for {sweep.id}, which is {sweep.state}: {why}")


_MOVES: Final[Mapping[type[Event], Callable[..., SweepRecord]]] = {
    Pause: _pause, Resume: _resume, Cancel: _cancel, GiveUp: _give_up, Delete: _delete, Extend: _extend,
    Prioritise: _prioritise, Placed: _placed, Rebalanced: _rebalanced, Preempted: _preempted, JobSeen: _job_seen,
    JobLost: _job_lost, SubmitFailed: _submit_failed, Delayed: _delayed, Unrunnable: _unrunnable,
}  # fmt: skip
