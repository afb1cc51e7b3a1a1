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
from service.control import controller, placement
from service.control.hands import Hands
from service.control.leadership import LEASE_S, NotLeadingError
from service.errors import SweepNotFoundError
from service.queueing import lifecycle
from service.records import State
from service.store.schema import leases
from service.sweeps import folders
from service.sweeps.folders import Sweep
from service.tuning.storage_objects import ObjectStorage
from tests.controlled import World
from tests.waiting import until


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
    assert hands.close(120)


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


def test_the_cluster_forgets_the_job_of_a_sweep_that_was_over_long_ago(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    over, running = world.submit(), world.submit()
    world.passes(2)
    world.cluster.finishes(over)
    world.passes(2)
    assert world[over].state is State.COMPLETED
    world.controller._tidy_at = 0.0
    world.passes()
    assert over in world.cluster.jobs, "its output can be looked at for a while"
    monkeypatch.setattr(controller, "JOB_KEPT_S", -60.0)
    world.controller._tidy_at = 0.0
    world.passes()
    assert set(world.cluster.jobs) == {running}
    world.act(over, lifecycle.Extend(8))
    world.passes(2)
    assert (world[over].state, world.cluster.jobs[over].attempt) == (State.RUNNING, 2)


def test_the_cluster_forgets_the_job_of_a_sweep_that_is_deleted(world: World) -> None:
    sweep = world.submit()
    world.passes(2)
    world.act(sweep, lifecycle.Delete())
    world.passes(3)
    assert world.cluster.jobs == {}
    with pytest.raises(SweepNotFoundError):
        world.store.sweep(sweep, None)


def test_a_job_is_not_lost_because_the_cluster_was_seen_before_another_replica_submitted_it(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    sweep = world.submit()
    world.passes(2)
    monkeypatch.setattr(world.cluster, "statuses", lambda _: {})
    world.passes()
    assert (world[sweep].state, world[sweep].attempt) == (State.RUNNING, 1)


@pytest.mark.parametrize("wish", [lifecycle.Cancel(), lifecycle.Delete()])
def test_a_sweep_whose_cluster_is_gone_for_good_is_given_up_and_removed(world: World, wish: lifecycle.Event) -> None:
    sweep = world.submit()
    world.passes(2)
    world.cluster.is_away = True
    world.act(sweep, wish)
    world.passes(3)
    assert world[sweep].state is State.STOPPING
    world.act(sweep, lifecycle.GiveUp())
    assert (world[sweep].state, world[sweep].reason) == (State.CANCELLED, lifecycle.GIVEN_UP)
    world.act(sweep, lifecycle.Delete())
    world.passes(2)
    assert not world.folder(sweep).exists()
    with pytest.raises(SweepNotFoundError):
        world.store.sweep(sweep, None)


def test_a_deleted_sweep_stays_while_its_cluster_is_only_away(world: World) -> None:
    sweep = world.submit()
    world.passes(2)
    world.cluster.finishes(sweep)
    world.passes()
    world.cluster.is_away = True
    world.act(sweep, lifecycle.Delete())
    world.passes(2)
    assert world.folder(sweep).exists()
    world.act(sweep, lifecycle.GiveUp())
    world.passes()
    assert not world.folder(sweep).exists()


def test_what_nobody_needs_any_more_is_tidied_away_each_hour(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    tidied: list[float] = []
    monkeypatch.setattr(world.store, "tidy", tidied.append)
    world.passes(3)
    assert len(tidied) == 1
    assert world.store.now() - tidied[0] >= controller.RECORD_KEPT_S


def test_sweeps_that_learn_for_minutes_keep_no_other_from_starting_or_ending(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    over, ended = threading.Event(), world.submit()
    monkeypatch.setattr(placement.Placement, "_learn", lambda *_: over.wait(120))
    world.passes(2)
    world.cluster.cpus = 100.0
    learning = [world.submit(search={"name": "tpe", "warm_start": ["*"]}) for _ in range(20)]
    hands = Hands()
    world.controller._hands = hands
    world.passes()
    assert {world[sweep].state for sweep in learning} == {State.STARTING}
    begun = world.submit()
    world.act(ended, lifecycle.Cancel())
    world.passes()
    until(lambda: begun in world.cluster.jobs and bool(world.cluster.stopped), 60.0)
    over.set()
    assert [sweep for sweep, _ in world.cluster.stopped] == [ended]
    assert hands.close(120)


def test_what_drivers_were_told_on_an_object_store_is_not_remembered_for_ever(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock, written = [0.0], list[str]()
    place = placement.Placement(
        placement.Ground(world.home, storage=ObjectStorage("s3://bucket")), world.cluster, "auto"
    )
    monkeypatch.setattr(Sweep, "exists", lambda _: True)
    monkeypatch.setattr(placement, "read_control", lambda _: None)
    monkeypatch.setattr(placement, "write_control", lambda at, _: written.append(at.name))
    monkeypatch.setattr("service.control.placement.time.monotonic", lambda: clock[0])
    record = world.store.sweep(world.submit(), None)
    sweeps = [replace(record, id=f"digits-{number}") for number in range(50)]
    for sweep in sweeps:
        place.tell(sweep)
        place.tell(sweep)
        clock[0] += 10.0
    assert len(written) == len(sweeps)
    assert 1 < len(place._told) < 10
