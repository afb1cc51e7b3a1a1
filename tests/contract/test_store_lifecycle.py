"""Sweeps under everything that people, controllers and clusters may do to them at once, in the real store."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule, run_state_machine_as_test

from cluster.backend import JobState
from service.errors import SweepNotFoundError
from service.queueing import lifecycle
from service.queueing.lifecycle import Cancel, Delete, Extend, IllegalMoveError, JobLost, JobSeen, Pause, Resume
from service.records import NewSweep, State, SweepRecord, Wish
from service.spec.budget import max_trials_of
from service.store import Store
from service.sweeps.folders import new_id

TRIALS = 3
WISHES = {
    State.QUEUED: {Wish.RUN},
    State.STARTING: {Wish.RUN},
    State.RUNNING: {Wish.RUN},
    State.PAUSED: {Wish.PAUSE},
    State.CANCELLED: {Wish.CANCEL, Wish.DELETE},
}


DECISIONS = [
    lifecycle.Placed(2),
    lifecycle.Rebalanced(1),
    lifecycle.Preempted("urgent"),
    lifecycle.Unrunnable("no code"),
]


class Cluster:
    """Jobs, and what drivers leave in sweep folders, as the real parts do it."""

    def __init__(self) -> None:
        self.jobs: dict[str, tuple[int, JobState]] = {}
        self.said: dict[str, dict[str, Any]] = {}
        self.budgets: dict[str, int] = {}  # of the newest driver: it reads its budget when it begins

    def carry_out(self, sweep: SweepRecord, command: lifecycle.Command) -> lifecycle.Event | None:
        """What a controller has to tell of it."""
        if isinstance(command, lifecycle.Submit):
            return self._submit(sweep, command.attempt)
        if isinstance(command, lifecycle.Stop):
            self._stop(sweep)
        if isinstance(command, lifecycle.Remove):
            self.said.pop(sweep.id, None)
        return None

    def _submit(self, sweep: SweepRecord, attempt: int) -> lifecycle.Event | None:
        before, state = self.jobs.get(sweep.id, (0, JobState.STOPPED))
        if before >= attempt:
            return None
        if not state.is_over:
            return lifecycle.SubmitFailed(attempt, "an earlier attempt still runs")
        self.jobs[sweep.id] = (attempt, JobState.PENDING)
        self.budgets[sweep.id] = max_trials_of(sweep.spec) or 0
        return None

    def _stop(self, sweep: SweepRecord) -> None:
        attempt, state = self.jobs.get(sweep.id, (0, JobState.STOPPED))
        if not state.is_over:
            self.jobs[sweep.id] = (attempt, JobState.STOPPED)
            if sweep.id in self.said and not self.said[sweep.id]["is_final"]:
                self.said[sweep.id] = {**self.said[sweep.id], "state": "paused"}

    def seen(self, sweep: SweepRecord) -> JobSeen | JobLost:
        """What a controller that looks now will tell."""
        said = self.said.get(sweep.id)
        if sweep.id not in self.jobs:
            return JobLost(sweep.attempt, said)
        attempt, state = self.jobs[sweep.id]
        return JobSeen(attempt, state, said, trial_hours=(said or {}).get("epochs", 0) / 10)

    def work(self, sweep_id: str, trials: int) -> None:
        """Let a driver begin, then end some trials."""
        attempt, state = self.jobs.get(sweep_id, (0, JobState.STOPPED))
        if state.is_over:
            return
        total = self.budgets[sweep_id]
        done = min(total, self.said.get(sweep_id, {}).get("epochs", 0) + trials)
        is_over = done == total
        best = {"trial": done - 1, "epoch": 1, "value": done / 10} if done else None
        self.said[sweep_id] = {
            "state": "completed" if is_over else "running", "is_final": is_over, "epochs": done, "best": best,
            "trials": {"total": total, "completed": done},
        }  # fmt: skip
        self.jobs[sweep_id] = (attempt, JobState.SUCCEEDED if is_over else JobState.RUNNING)

    def die(self, sweep_id: str, *, without_trace: bool) -> None:
        """A driver is killed; the cluster may forget that it ever was."""
        attempt, state = self.jobs.get(sweep_id, (0, JobState.STOPPED))
        if without_trace:
            self.jobs.pop(sweep_id, None)
        elif not state.is_over:
            self.jobs[sweep_id] = (attempt, JobState.FAILED)


def last_event(store: Store) -> int:
    """The number of the newest event; 0 before the first."""
    number = 0
    while found := store.events(None, after=number):
        number = found[-1].number
    return number


class World(RuleBasedStateMachine):
    """Up to three sweeps, whose acknowledged state is remembered beside the store."""

    def __init__(self, store: Store) -> None:
        super().__init__()
        self.store, self.cluster = store, Cluster()
        self.known: dict[str, SweepRecord] = {}
        self.late: list[tuple[str, lifecycle.Event]] = []
        self.gone: set[str] = set()
        self.first_event = last_event(store)

    @precondition(lambda self: len(self.known) < 3)
    @rule(name=st.sampled_from(["a", "b"]))
    def submit(self, name: str) -> None:
        new = NewSweep(new_id(name), "default", "ann", name, {"budget": {"max_trials": TRIALS}})
        record, was_created = self.store.create_sweep(new, key=new.id, body_digest=name)
        assert was_created
        assert self.store.create_sweep(new, key=new.id, body_digest=name) == (record, False)
        self.known[record.id] = record

    @precondition(lambda self: self.known)
    @rule(
        data=st.data(),
        event=st.one_of(
            st.sampled_from([Pause(), Resume(), Cancel(), Delete()]),
            st.builds(Extend, st.integers(TRIALS, TRIALS + 4)),
            st.builds(lifecycle.Prioritise, st.integers(-1, 1)),
        ),
    )
    def ask(self, data: st.DataObject, event: lifecycle.Event) -> None:
        self.act(self.pick(data), event, may_be_illegal=True)

    @precondition(lambda self: self.known)
    @rule(data=st.data(), event=st.sampled_from(DECISIONS))
    def decide(self, data: st.DataObject, event: lifecycle.Event) -> None:
        self.act(self.pick(data), event)

    @precondition(lambda self: self.known)
    @rule(data=st.data(), is_late=st.booleans())
    def look(self, data: st.DataObject, *, is_late: bool) -> None:
        record = self.pick(data)
        if record.state is State.STARTING and record.id not in self.cluster.jobs:
            return  # a controller submits before it looks
        if is_late:
            self.late.append((record.id, self.cluster.seen(record)))
        else:
            self.act(record, self.cluster.seen(record))

    @precondition(lambda self: self.late)
    @rule()
    def tell_late(self) -> None:
        sweep_id, event = self.late.pop(0)
        if sweep_id in self.known:
            self.act(self.known[sweep_id], event)

    @precondition(lambda self: self.known)
    @rule(data=st.data())
    def carry_out(self, data: st.DataObject) -> None:
        self.do_what_is_due(self.pick(data))

    @precondition(lambda self: self.known)
    @rule(data=st.data(), trials=st.integers(0, 3))
    def work(self, data: st.DataObject, trials: int) -> None:
        self.cluster.work(self.pick(data).id, trials)

    @precondition(lambda self: self.known)
    @rule(data=st.data(), without_trace=st.booleans())
    def die(self, data: st.DataObject, *, without_trace: bool) -> None:
        self.cluster.die(self.pick(data).id, without_trace=without_trace)

    @invariant()
    def everything_acknowledged_is_there(self) -> None:
        for sweep_id, record in self.known.items():
            assert self.store.sweep(sweep_id, None) == record
            assert record.wish in WISHES.get(record.state, set(Wish))
            assert (record.concurrency > 0) == record.state.is_placed
            assert (record.ended_at is not None) == record.state.is_over
            assert not (record.is_preempted and record.wish is not Wish.RUN)
            if record.state is State.COMPLETED:
                assert record.progress["epochs"] >= (max_trials_of(record.spec) or 0)

    def teardown(self) -> None:
        """Left alone, every sweep comes to what is wanted of it, and nobody's driver is left over."""
        for _ in range(12):
            for sweep_id in list(self.known):
                self.settle(sweep_id)
        for sweep_id, record in self.known.items():
            assert record.state is State.PAUSED or record.state.is_over
            assert self.cluster.jobs.get(sweep_id, (0, JobState.STOPPED))[1].is_over
            if record.wish is Wish.RUN:
                assert record.state in (State.COMPLETED, State.FAILED)
            kinds = [e.kind for e in self.store.events(None, after=self.first_event, sweep_id=sweep_id)]
            ends = {"completed": "finished", "failed": "failed", "cancelled": "cancelled", "paused": "paused"}
            assert ends[record.state] in kinds
        for sweep_id in self.gone:
            with pytest.raises(SweepNotFoundError):
                self.store.act(sweep_id, None, Resume(), by="ann")

    def settle(self, sweep_id: str) -> None:
        """One pass of a controller on a quiet cluster."""
        self.do_what_is_due(self.known[sweep_id])
        record = self.known.get(sweep_id)
        if record is None:
            return
        if record.wish is Wish.RUN:
            self.cluster.work(sweep_id, 5)
        self.act(record, self.cluster.seen(record))
        if self.known[sweep_id].state is State.QUEUED:
            self.act(self.known[sweep_id], Resume())  # do not wait before another driver
            self.act(self.known[sweep_id], lifecycle.Placed(1))

    def do_what_is_due(self, record: SweepRecord) -> None:
        for command in lifecycle.due(record):
            told = self.cluster.carry_out(record, command)
            if told is not None:
                self.act(self.known[record.id], told)
            if isinstance(command, lifecycle.Remove):
                self.store.forget_sweep(record.id)
                self.gone.add(record.id)
                del self.known[record.id]

    def act(self, record: SweepRecord, event: lifecycle.Event, *, may_be_illegal: bool = False) -> None:
        before = last_event(self.store)
        try:
            after = self.store.act(record.id, None, event, by="somebody", expected_version=record.version)
        except IllegalMoveError:
            assert may_be_illegal
            return
        assert after.version == record.version + (after != record)
        if after.state is not record.state and after.state is not State.STARTING:
            assert last_event(self.store) > before, "every move is told"
        self.known[record.id] = after

    def pick(self, data: st.DataObject) -> SweepRecord:
        records = list(self.known.values())
        return records[data.draw(st.integers(0, len(records) - 1))]


@pytest.fixture
def store(store_url: str) -> Iterator[Store]:
    opened = Store.open(store_url)
    yield opened
    opened.close()


def test_sweeps_come_to_what_is_wanted_of_them(store: Store, store_url: str) -> None:
    class Here(World):
        def __init__(self) -> None:
            super().__init__(store)

    run_state_machine_as_test(
        Here,
        settings=settings(
            max_examples=30 if store_url.startswith("sqlite") else 8,
            stateful_step_count=30,
            deadline=None,
            suppress_health_check=list(HealthCheck),
        ),
    )
