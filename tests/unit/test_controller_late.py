"""What a controller does late, it does only if that is still due, and still its own to do."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from cluster.backend import JobState, JobStatus
from service.control import placement
from service.control.hands import Hands
from service.control.leadership import LEASE_S, NotLeadingError
from service.queueing import lifecycle
from service.records import State
from service.store.schema import leases
from service.sweeps import folders
from service.sweeps.folders import Sweep
from tests.controlled import World


@pytest.fixture
def world(home: Path) -> Iterator[World]:
    found = World(home)
    yield found
    found.store.close()


@pytest.mark.parametrize("what", ["another replica leads", "paused", "submitted anew"])
def test_a_submission_that_takes_long_is_not_made_once_it_is_not_due_any_more(
    world: World, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    sweep, make = world.submit(), folders.create

    def slowly(*arguments: Any) -> Sweep:  # noqa: ANN401  # as `create` takes them
        if what == "another replica leads":
            expired = sa.update(leases).values(expires_at=0.0)
            world.store._database.write(lambda connection: connection.execute(expired))
            assert world.another("two").leadership.take()
        else:
            world.act(sweep, lifecycle.Pause())
        if what == "submitted anew":
            world.act(sweep, lifecycle.JobLost(1))
            world.act(sweep, lifecycle.Resume())
            world.act(sweep, lifecycle.Placed(1))
        return make(*arguments)

    monkeypatch.setattr(placement, "create", slowly)
    world.passes()
    assert world.cluster.submitted == []


def test_what_cannot_be_learned_in_time_is_tried_again(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(placement, "_PAST_TIMEOUT_S", 0.0)
    sweep = world.submit(search={"warm_start": ["*"]})
    world.passes()
    assert world[sweep].state is State.QUEUED
    assert world[sweep].failures == 1


def test_two_replicas_that_make_one_folder_do_not_disturb_each_other(world: World) -> None:
    sweep = world.submit()
    half = world.folder(sweep).with_name(f".{sweep}.00000000")
    half.mkdir(parents=True)  # somebody is at it
    world.passes(2)
    assert half.is_dir()
    assert world[sweep].state is State.RUNNING
    world.act(sweep, lifecycle.Delete())
    world.passes(3)
    assert not half.exists()


def test_a_stop_that_comes_late_does_not_end_the_next_driver(world: World) -> None:
    sweep = world.submit()
    world.passes(2)
    world.act(sweep, lifecycle.Cancel())
    before = world[sweep]
    world.act(sweep, lifecycle.JobSeen(1, JobState.STOPPED))
    world.act(sweep, lifecycle.Extend(9))
    world.passes(2)
    world.cluster.stopped.clear()
    world.controller._stop(before, 0.0)
    assert world.cluster.stopped == []


def test_the_lease_is_given_up_only_once_nothing_goes_on(world: World) -> None:
    may_end = threading.Event()
    hands = Hands(1)
    hands.start("slow", lambda: (may_end.wait(), None)[1])
    assert not hands.close(0.01)
    world.passes()
    world.controller.leadership.leave(is_idle=hands.close(0.01))
    assert not world.another("two").leadership.take()
    may_end.set()
    assert hands.close(20)


@pytest.mark.parametrize("state", [JobState.RUNNING, JobState.SUCCEEDED])
def test_records_from_before_the_newest_driver_do_not_wait_for_ever(world: World, state: JobState) -> None:
    sweep = world.submit()
    world.passes(2)
    if state is JobState.SUCCEEDED:
        world.cluster.says(sweep, "completed", is_final=True, reason="all trials are over")
    world.cluster.jobs[sweep] = JobStatus(sweep, 3, state)
    world.passes(2)
    expected = State.RUNNING if state is JobState.RUNNING else State.COMPLETED
    assert (world[sweep].state, world[sweep].attempt) == (expected, 3)


def test_an_earlier_driver_that_comes_late_is_ended_and_counts_for_nothing(world: World) -> None:
    sweep = world.submit()
    world.passes(2)
    world.cluster.forgets()
    world.passes()
    world.cluster.jobs[sweep] = JobStatus(sweep, 1, JobState.RUNNING)
    world.act(sweep, lifecycle.Pause())
    world.act(sweep, lifecycle.JobLost(1))
    world.act(sweep, lifecycle.Resume())
    world.act(sweep, lifecycle.Placed(1))
    world.passes(2)
    assert world.cluster.stopped == [(sweep, 30.0)]
    assert world.cluster.submitted == [(sweep, 1), (sweep, 2)]
    assert (world[sweep].state, world[sweep].failures) == (State.RUNNING, 0)


def test_an_earlier_driver_that_will_not_end_is_waited_for(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    sweep = world.submit()
    world.passes(2)
    world.act(sweep, lifecycle.Pause())
    world.act(sweep, lifecycle.JobLost(1))
    world.act(sweep, lifecycle.Resume())
    world.act(sweep, lifecycle.Placed(1))
    monkeypatch.setattr(world.cluster, "stop", lambda job_id, **_: world.cluster.jobs[job_id])
    world.passes(2)
    assert (world[sweep].state, world[sweep].failures) == (State.STARTING, 0)
    assert "an earlier driver" in world[sweep].reason


def test_a_driver_that_was_taken_unheard_is_ended_with_its_sweep(world: World) -> None:
    sweep = world.submit()
    world.passes()
    world.act(sweep, lifecycle.SubmitFailed(1, "no answer"))
    world.act(sweep, lifecycle.Cancel())
    world.passes(2)
    assert world[sweep].state is State.CANCELLED
    assert world.cluster.jobs[sweep].state.is_over


@pytest.mark.parametrize("command", [lifecycle.Allow(1), lifecycle.Stop(lifecycle.PAUSE_WAIT_S)])
def test_one_who_may_not_lead_any_more_tells_a_driver_nothing(world: World, command: lifecycle.Command) -> None:
    sweep = world.submit()
    world.passes(2)
    before = (world.folder(sweep) / "control.json").read_text()
    world.controller.leadership._asked_at -= 2 * LEASE_S
    with pytest.raises(NotLeadingError):
        world.controller._carry_out(replace(world[sweep], concurrency=1), command)
    assert (world.folder(sweep) / "control.json").read_text() == before
