"""What may happen to a sweep, move by move; tests/contract/test_store_lifecycle.py mixes all of them."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from cluster.backend import JobState
from service.queueing.driver_words import SPARE_HOURS
from service.queueing.lifecycle import (
    CANCEL_WAIT_S,
    MAX_FAILURES,
    PAUSE_WAIT_S,
    Allow,
    Cancel,
    Delete,
    Event,
    Extend,
    IllegalMoveError,
    JobLost,
    JobSeen,
    Pause,
    Placed,
    Preempted,
    Prioritise,
    Rebalanced,
    Remove,
    Resume,
    Stop,
    Submit,
    SubmitFailed,
    Unrunnable,
    backoff_s,
    due,
    step,
)
from service.queueing.news import news
from service.records import State, SweepRecord, Wish
from service.tuning.ray_session import MOST_SLOTS

NEW = SweepRecord("s", "default", "ann", "s", {"budget": {"max_trials": 8}}, queued_at=1.0)
DONE = {"state": "completed", "is_final": True, "reason": "max_trials", "trials": {"total": 8}, "epochs": 9}
ENDED = {"state": "paused", "is_final": False, "reason": "received SIGINT", "epochs": 3}


def after(*events: Event, sweep: SweepRecord = NEW, now: float = 10.0) -> SweepRecord:
    """The sweep after events, one second apart."""
    for number, event in enumerate(events):
        sweep, commands = step(sweep, event, now + number)
        assert commands == due(sweep), "what is due follows from the record alone"
    return sweep


def seen(state: JobState, progress: dict[str, Any] | None = None, *, attempt: int = 1) -> JobSeen:
    return JobSeen(attempt, state, progress)


RUNNING = after(Placed(4), seen(JobState.RUNNING))


def test_a_plain_sweep_goes_from_the_queue_to_its_end() -> None:
    starting = after(Placed(4))
    assert (starting.state, starting.attempt, due(starting)) == (State.STARTING, 1, (Allow(4), Submit(1)))
    assert after(seen(JobState.PENDING), sweep=starting) == starting
    assert (RUNNING.state, RUNNING.started_at, due(RUNNING)) == (State.RUNNING, 11.0, (Allow(4),))
    done = after(seen(JobState.SUCCEEDED, DONE), sweep=RUNNING)
    assert (done.state, done.reason, done.concurrency, done.ended_at) == (State.COMPLETED, "max_trials", 0, 10.0)
    assert due(done) == ()


@pytest.mark.parametrize(
    ("asked", "wait_s", "end"),
    [(Pause(), PAUSE_WAIT_S, State.PAUSED), (Cancel(), CANCEL_WAIT_S, State.CANCELLED),
     (Delete(), CANCEL_WAIT_S, State.CANCELLED), (Preempted("urgent"), PAUSE_WAIT_S, State.QUEUED)],
)  # fmt: skip
def test_what_ends_a_driver_stops_it_first_and_then_is_so(asked: Event, wait_s: float, end: State) -> None:
    stopping = after(asked, sweep=RUNNING)
    assert (stopping.state, due(stopping)) == (State.STOPPING, (Stop(wait_s),))
    assert after(asked, sweep=stopping) == stopping, "twice is once"
    for gone in (seen(JobState.STOPPED, ENDED), seen(JobState.FAILED), JobLost(1)):
        assert after(gone, sweep=stopping).state is end
    finished = after(seen(JobState.SUCCEEDED, DONE), sweep=stopping)
    assert finished.state is State.COMPLETED, "what was over before stays over"


def test_a_preempted_sweep_keeps_its_turn_and_resumes_by_itself() -> None:
    waiting = after(Preempted("urgent"), seen(JobState.STOPPED, ENDED), sweep=RUNNING)
    assert (waiting.is_preempted, waiting.queued_at, waiting.reason, waiting.failures) == (True, 1.0, "urgent", 0)
    again = after(Placed(1), sweep=waiting)
    assert (again.attempt, again.is_preempted, again.reason) == (2, False, "")


def test_a_resumed_sweep_waits_at_the_end_of_the_queue() -> None:
    for resumed in (
        after(Pause(), Resume()),
        after(Pause(), Resume(), seen(JobState.STOPPED, ENDED), sweep=RUNNING),
    ):
        assert (resumed.state, resumed.wish) == (State.QUEUED, Wish.RUN)
        assert resumed.queued_at > 1.0


def test_a_lost_driver_is_started_again_after_a_while_but_not_for_ever() -> None:
    sweep = RUNNING
    for failures in range(1, MAX_FAILURES):
        sweep = after(JobLost(sweep.attempt, message="node died"), sweep=sweep, now=100.0)
        assert (sweep.state, sweep.not_before) == (State.QUEUED, 100.0 + backoff_s(failures))
        assert after(Placed(1), sweep=sweep, now=101.0) == sweep, "not yet"
        sweep = after(Placed(1), sweep=sweep, now=1000.0)
    failed = after(SubmitFailed(sweep.attempt, "no room"), sweep=sweep)
    assert (failed.state, failed.failures) == (State.FAILED, MAX_FAILURES)
    assert "no room" in failed.reason
    assert after(Resume(), sweep=failed).state is State.QUEUED


def test_a_clock_that_is_set_back_does_not_put_off_a_lost_sweep() -> None:
    lost = after(JobLost(1), sweep=RUNNING, now=90_000.0)
    assert lost.state is State.QUEUED
    assert after(Placed(1), sweep=lost, now=90_001.0) == lost, "its driver has been lost just now"
    assert after(Placed(1), sweep=lost, now=10.0).state is State.STARTING


def test_a_driver_that_brought_the_sweep_forward_is_the_first_to_be_lost() -> None:
    lost = after(JobLost(1, {"epochs": 5}), sweep=replace(RUNNING, failures=4))
    assert lost.failures == 1


def test_what_was_said_before_an_extension_is_not_its_end() -> None:
    extended = after(seen(JobState.SUCCEEDED, DONE), Extend(12), sweep=RUNNING)
    assert (extended.state, extended.spec["budget"], extended.ended_at) == (State.QUEUED, {"max_trials": 12}, None)
    again = after(Placed(1), seen(JobState.RUNNING, DONE, attempt=2), sweep=extended)
    assert again.state is State.RUNNING
    assert after(seen(JobState.FAILED, DONE, attempt=2), sweep=again).state is State.QUEUED
    longer = {**DONE, "trials": {"total": 12}}
    assert after(seen(JobState.SUCCEEDED, longer, attempt=2), sweep=again).state is State.COMPLETED
    while_running = after(Extend(12), seen(JobState.SUCCEEDED, DONE), sweep=RUNNING)
    assert (while_running.state, while_running.wish) == (State.QUEUED, Wish.RUN)


def test_a_refused_sweep_has_failed_with_its_fault() -> None:
    refused = {"state": "refused", "is_final": False, "faults": [{"message": "no such class"}]}
    failed = after(seen(JobState.FAILED, refused), sweep=RUNNING)
    assert (failed.state, failed.reason) == (State.FAILED, "no such class")
    assert after(Unrunnable("no code package")).reason == "no code package"


def test_an_earlier_drivers_end_is_of_no_account() -> None:
    assert after(seen(JobState.FAILED, ENDED, attempt=0), sweep=RUNNING) == RUNNING
    assert after(JobLost(0), sweep=RUNNING) == RUNNING


def test_a_driver_that_was_never_submitted_is_not_waited_for() -> None:
    stopping = after(JobLost(1), Resume(), Placed(1), Pause(), sweep=RUNNING)
    assert (stopping.state, stopping.attempt) == (State.STOPPING, 2)
    assert after(seen(JobState.RUNNING), sweep=stopping) == stopping
    assert after(seen(JobState.FAILED), sweep=stopping).state is State.PAUSED


def test_a_driver_that_runs_after_all_is_adopted_or_stopped() -> None:
    given_up = after(JobLost(1), sweep=RUNNING)
    assert after(seen(JobState.RUNNING), sweep=given_up).state is State.RUNNING
    assert after(seen(JobState.PENDING), sweep=given_up).state is State.STARTING
    unwanted = after(JobLost(1), Pause(), seen(JobState.RUNNING), sweep=RUNNING)
    assert (unwanted.state, unwanted.wish) == (State.STOPPING, Wish.PAUSE)


def test_deletion_removes_once_nothing_runs_and_hears_nothing_else() -> None:
    deleted = after(Delete(), seen(JobState.STOPPED), sweep=RUNNING)
    assert due(deleted) == due(after(Delete())) == (Remove(),)
    assert after(Cancel(), sweep=deleted) == deleted
    for asked in (Resume(), Pause(), Extend(99), Prioritise(1)):
        with pytest.raises(IllegalMoveError, match="being deleted"):
            step(deleted, asked, 20.0)


@pytest.mark.parametrize(
    ("sweep", "asked", "why"),
    [(after(Cancel()), Pause(), "only a sweep that waits or runs"), (after(Cancel()), Resume(), "tuneyard extend"),
     (after(seen(JobState.SUCCEEDED, DONE), sweep=RUNNING), Cancel(), "it is over"), (NEW, Extend(8), "more than that"),
     (replace(NEW, spec={}), Extend(8), "no max_trials"), (after(Cancel()), Prioritise(1), "it is over"),
     (after(Cancel(), sweep=RUNNING), Extend(9), "being cancelled")],
)  # fmt: skip
def test_what_cannot_be_is_refused_with_what_can(sweep: SweepRecord, asked: Event, why: str) -> None:
    with pytest.raises(IllegalMoveError, match=why):
        step(sweep, asked, 20.0)


def test_decisions_that_come_too_late_change_nothing() -> None:
    paused = after(Pause())
    for decision in (Placed(1), Rebalanced(2), Preempted("urgent"), SubmitFailed(0, "no"), Unrunnable("no")):
        assert after(decision, sweep=paused) == paused
    assert after(Rebalanced(2), sweep=RUNNING).concurrency == 2


def test_a_record_changes_only_where_there_is_something_new() -> None:
    said = {"epochs": 1, "at": 5.0, "elapsed_s": 1.0}
    noted = after(seen(JobState.RUNNING, said), sweep=RUNNING)
    assert noted.version == RUNNING.version + 1
    assert after(seen(JobState.RUNNING, {**said, "at": 6.0, "elapsed_s": 2.0}), sweep=noted) == noted


def test_changes_are_told_in_words() -> None:
    best = {"trial": 1, "epoch": 2, "value": 0.5, "params": {"token": "secret"}}
    better = after(seen(JobState.RUNNING, {"best": best, "metric": {"name": "acc", "goal": "maximize"}}), sweep=RUNNING)
    (told,) = news(RUNNING, better, "c")
    assert told == ("improved", {"trial": 1, "epoch": 2, "value": 0.5, "metric": "acc", "goal": "maximize"})

    def kinds(*events: Event, sweep: SweepRecord = RUNNING) -> list[str]:
        told = []
        for event in events:
            before, sweep = sweep, after(event, sweep=sweep, now=50.0)
            told += [kind for kind, _ in news(before, sweep, "ann")]
        return told

    gone = seen(JobState.STOPPED, ENDED)
    assert kinds(Pause(), Resume(), gone) == ["pausing", "resumed", "queued"]
    assert kinds(Preempted("x"), Pause(), gone, Resume()) == ["preempted", "pausing", "paused", "resumed"]
    assert kinds(Delete(), gone) == ["deleting", "cancelled"]
    assert kinds(JobLost(1), Prioritise(2), Extend(9)) == ["lost", "prioritised", "extended"]
    assert kinds(seen(JobState.SUCCEEDED, DONE), Extend(9)) == ["finished", "extended", "resumed"]
    assert kinds(Placed(1), seen(JobState.RUNNING), Cancel(), sweep=NEW) == ["started", "cancelling"]


def test_a_driver_that_the_record_knows_nothing_of_yet_is_adopted() -> None:
    for sweep in (RUNNING, after(Placed(4))):
        assert after(seen(JobState.SUCCEEDED, DONE, attempt=3), sweep=sweep).state is State.COMPLETED
        adopted = after(seen(JobState.RUNNING, attempt=3), sweep=sweep)
        assert (adopted.state, adopted.attempt) == (State.RUNNING, 3)
        assert after(JobLost(3), Placed(1), sweep=adopted, now=100.0).failures == 1


def test_a_driver_that_counts_as_lost_is_looked_for_before_its_sweep_is_cancelled() -> None:
    for asked, end in ((Cancel(), State.CANCELLED), (Pause(), State.PAUSED), (Delete(), State.CANCELLED)):
        unheard = after(Placed(1), SubmitFailed(1, "no answer"), asked)
        assert (unheard.state, unheard.concurrency, unheard.not_before) == (State.STOPPING, 1, None)
        assert after(JobLost(1), sweep=unheard).state is end
        assert due(after(seen(JobState.RUNNING), sweep=unheard)) == due(unheard)


def test_a_sweep_has_not_trained_for_longer_than_it_can_have() -> None:
    """What a job claims, in trial-hours, counts against all of its project."""
    narrow = replace(RUNNING, spec={"budget": {"max_trials": 8, "max_concurrent_trials": 2}})
    claim = JobSeen(1, JobState.RUNNING, trial_hours=1e6)
    later = after(claim, sweep=narrow, now=11.0 + 3600)
    assert later.trial_hours == 2 + SPARE_HOURS
    assert after(claim, sweep=later, now=11.0 + 7200).trial_hours == 4 + SPARE_HOURS
    assert after(claim, sweep=RUNNING, now=11.0 + 3600).trial_hours == MOST_SLOTS + SPARE_HOURS
    assert after(replace(claim, trial_hours=1.5), sweep=narrow, now=11.0 + 3600).trial_hours == 1.5
