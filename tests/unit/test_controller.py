"""The controller against the real store: what becomes of a sweep from its submission to its end, whatever happens."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from cluster.backend import JobRequest, JobState, JobStatus
from service.control import ending
from service.errors import SweepNotFoundError
from service.queueing import lifecycle
from service.queueing.lifecycle import Prioritise
from service.records import Quota, State, SweepRecord
from service.sweeps.folders import Sweep
from service.tuning.control import Control, read_control
from tests.controlled import World

USERS = ("ada", "bob")


@pytest.fixture
def world(home: Path) -> Iterator[World]:
    found = World(home)
    yield found
    found.store.close()


def test_a_sweep_from_its_submission_to_its_end(world: World) -> None:
    sweep = world.submit()
    world.passes()
    assert world.cluster.submitted == [(sweep, 1)]
    assert world.cluster.allowed(sweep) == 4
    assert Sweep(world.folder(sweep)).spec()["budget"] == {"max_trials": 4}
    world.passes()
    assert world[sweep].state is State.RUNNING
    best = {"trial": 1, "epoch": 3, "value": 0.9, "params": {}}
    world.cluster.says(sweep, "running", epochs=3, best=best, trial_hours=0.5)
    world.passes()
    world.cluster.finishes(sweep)
    world.passes(2)
    assert (world[sweep].state, world[sweep].reason) == (State.COMPLETED, "all trials are over")
    assert world.told(sweep) == ["submitted", "started", "improved", "finished"]
    assert world.store.usage().users["ada"] == pytest.approx(0.5)
    assert world.cluster.submitted == [(sweep, 1)]


def test_nothing_is_written_while_nothing_happens(world: World) -> None:
    sweep = world.submit()
    world.passes(2)
    before = world[sweep].version
    world.passes(5)
    assert world[sweep].version == before


def test_a_driver_that_is_asked_to_pause_takes_its_time(world: World) -> None:
    sweep = world.submit()
    world.passes(2)
    world.act(sweep, lifecycle.Pause())
    world.passes(3)
    assert world.cluster.is_asked_to_pause(sweep)
    assert (world[sweep].state, world.cluster.stopped) == (State.STOPPING, [])
    world.cluster.pauses(sweep)
    world.passes(2)
    assert (world[sweep].state, world[sweep].failures) == (State.PAUSED, 0)
    world.act(sweep, lifecycle.Resume())
    world.passes(2)
    assert world[sweep].state is State.RUNNING
    assert world.cluster.submitted == [(sweep, 1), (sweep, 2)]
    assert not world.cluster.is_asked_to_pause(sweep)


def test_a_driver_that_does_not_pause_in_time_is_ended(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lifecycle, "PAUSE_WAIT_S", ending.CLEAN_END_S + 0.001)
    now = [0.0]
    monkeypatch.setattr(world.controller._endings, "_clock", lambda: now[0])
    sweep = world.submit()
    world.passes(2)
    world.act(sweep, lifecycle.Pause())
    world.passes()
    assert world.cluster.stopped == []
    now[0] = 99.0
    world.passes(2)
    assert world.cluster.stopped == [(sweep, ending.CLEAN_END_S)]
    assert world[sweep].state is State.PAUSED


def test_cancel_ends_the_driver_at_once(world: World) -> None:
    sweep = world.submit()
    world.passes(2)
    world.cluster.says(sweep, "running", running=[{"trial": 0}])
    world.act(sweep, lifecycle.Cancel())
    world.passes(2)
    assert world[sweep].state is State.CANCELLED
    assert world.told(sweep)[-1] == "cancelled"


def test_a_deleted_sweep_leaves_nothing(world: World) -> None:
    running, waiting, over = world.submit(), world.submit("bob"), world.submit("eve")
    world.passes(2)
    world.cluster.finishes(over)
    world.passes()
    for sweep in (running, waiting, over):
        world.act(sweep, lifecycle.Delete())
    world.passes(3)
    assert sorted(path.name for path in (world.home / "sweeps").iterdir()) == []
    for sweep in (running, waiting, over):
        with pytest.raises(SweepNotFoundError):
            world[sweep]
        assert world.told(sweep) == ["deleted"]
    assert all(status.state.is_over for status in world.cluster.jobs.values())


def test_a_lost_driver_is_started_again_after_a_while_and_given_up_after_many(world: World) -> None:
    sweep = world.submit()
    world.passes(2)
    waits = []
    while world[sweep].state is not State.FAILED:
        world.cluster.ends(sweep, JobState.FAILED, "killed by SIGKILL")
        world.passes()
        if world[sweep].state is State.FAILED:
            break
        assert world[sweep].state is State.QUEUED
        not_before = world[sweep].not_before
        assert not_before is not None
        waits.append(not_before - world[sweep].updated_at)
        world.passes()
        assert len(world.cluster.submitted) == len(waits)
        world.hurry(sweep)
        world.passes(2)
        assert world[sweep].state is State.RUNNING
    assert waits == sorted(waits)
    assert len(set(waits)) > 1
    assert "killed by SIGKILL" in world[sweep].reason


def test_why_a_driver_did_not_even_start_is_told_from_what_its_job_printed(world: World) -> None:
    sweep = world.submit()
    world.passes(2)
    world.cluster.printed[sweep] = "Traceback …\nModuleNotFoundError: No module named 'service'\x1b[0m\n\n"
    world.cluster.ends(sweep, JobState.FAILED, "exit code 1")
    world.passes()
    why = "its driver was lost: exit code 1"
    assert world[sweep].reason == f"{why}: ModuleNotFoundError: No module named 'service'\N{REPLACEMENT CHARACTER}[0m"

    world.hurry(sweep)
    world.passes(2)
    world.cluster.says(sweep, "running")
    world.cluster.ends(sweep, JobState.FAILED, "exit code 1")
    world.passes()
    assert world[sweep].reason == why


def test_a_driver_that_brings_the_sweep_forward_is_started_again_without_end(world: World) -> None:
    sweep = world.submit()
    world.passes(2)
    for epochs in range(1, 10):
        world.cluster.says(sweep, "running", epochs=epochs)
        world.cluster.ends(sweep, JobState.FAILED)
        world.passes()
        assert world[sweep].failures == 1
        world.hurry(sweep)
        world.passes(2)
    assert world[sweep].state is State.RUNNING


def test_a_cluster_that_is_away_is_waited_for(world: World) -> None:
    running, waiting = world.submit(), world.submit("bob", resources={"cpu": 99})
    world.passes(2)
    world.cluster.is_away = True
    before, late = world[running], world.submit("eve")
    world.passes(3)
    assert world[running] == before
    assert [world[sweep].state for sweep in (waiting, late)] == [State.QUEUED, State.QUEUED]
    assert "does not answer" in world.controller.trouble
    world.cluster.is_away = False
    world.passes(2)
    assert [world[sweep].state for sweep in (running, late)] == [State.RUNNING, State.RUNNING]
    assert world.cluster.submitted == [(running, 1), (late, 1)]
    assert world.controller.trouble == ""


def test_a_cluster_that_was_lost_with_its_jobs_gets_them_again(world: World) -> None:
    sweep = world.submit()
    world.passes(2)
    world.cluster.forgets()
    world.passes()
    assert world[sweep].state is State.QUEUED
    world.hurry(sweep)
    world.passes(2)
    assert world[sweep].state is State.RUNNING
    assert world.cluster.submitted == [(sweep, 1), (sweep, 2)]


def test_running_sweeps_share_the_cluster_anew_as_others_come_and_go(world: World) -> None:
    first = world.submit(budget={"max_trials": 100})
    world.passes(2)
    assert world.cluster.allowed(first) == 4
    second = world.submit("bob", budget={"max_trials": 100})
    world.passes(3)
    assert (world.cluster.allowed(first), world.cluster.allowed(second)) == (2, 2)
    world.cluster.finishes(second)
    world.passes(2)
    assert world.cluster.allowed(first) == 4


def test_a_more_urgent_sweep_takes_the_place_which_comes_back_by_itself(world: World) -> None:
    low = world.submit(budget={"max_trials": 100}, resources={"cpu": 4})
    world.passes(2)
    high = world.submit("bob", priority=5, budget={"max_trials": 100}, resources={"cpu": 4})
    world.passes(2)
    assert world[low].state is State.STOPPING
    assert (world.cluster.is_asked_to_pause(low), world.cluster.stopped) == (True, [])
    world.cluster.pauses(low)
    world.passes(4)
    assert (world[low].state, world[low].is_preempted) == (State.QUEUED, True)
    assert world[high].state is State.RUNNING
    world.cluster.finishes(high)
    world.passes(3)
    assert world[low].state is State.RUNNING
    assert "preempted" in world.told(low)


@pytest.mark.parametrize("left", [0.0, 1.0])
def test_a_cluster_whose_nodes_are_away_for_a_moment_costs_no_place(world: World, left: float) -> None:
    whole = world.cluster.cpus
    low, high = world.submit(), world.submit("bob", priority=5, budget={"max_trials": 100, "max_concurrent_trials": 1})
    world.passes(2)
    world.cluster.cpus = left
    world.passes(3)
    assert [world[one].state for one in (low, high)] == [State.RUNNING, State.RUNNING]
    world.cluster.cpus = whole
    world.passes(1)
    assert world[low].concurrency == whole - 1


def test_quotas_hold(world: World) -> None:
    world.store.set_quota("user", "ada", Quota(running_sweeps=1))
    first, second, other = world.submit(), world.submit(), world.submit("bob")
    world.passes(3)
    assert [world[s].state for s in (first, second, other)] == [State.RUNNING, State.QUEUED, State.RUNNING]


def test_no_more_is_given_out_than_there_is_not_even_for_a_moment(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = (world.submit(user, budget={"max_trials": 99, "max_concurrent_trials": 3}) for user in USERS)
    world.passes(3)
    assert [world[s].concurrency for s in (first, second)] == [2, 2]
    given, act = list[int](), world.store.act

    def watched(*arguments: Any, **named: Any) -> SweepRecord:  # noqa: ANN401  # of the real one
        record = act(*arguments, **named)
        given.append(world[first].concurrency + world[second].concurrency)
        return record

    for urgent in (first, second):
        world.act(urgent, Prioritise(5))
        with monkeypatch.context() as patch:
            patch.setattr(world.store, "act", watched)
            world.passes(2)
        assert world[urgent].concurrency == 3
        world.act(urgent, Prioritise(0))
        world.passes(2)
    assert max(given) == 4


def test_more_trials_are_told_to_the_driver_that_goes_on(world: World) -> None:
    sweep = world.submit()
    world.passes(2)
    world.cluster.finishes(sweep)
    world.passes()
    world.act(sweep, lifecycle.Extend(9))
    world.passes(2)
    assert world[sweep].state is State.RUNNING
    assert read_control(world.folder(sweep)) == Control(4, 9)


def test_what_only_the_operator_decides_is_put_into_the_job(world: World) -> None:
    world.controller = world.another(tracking_uri="http://mlflow.example")
    sweep = world.submit(tracking={"experiment": "x", "uri": "http://evil.example"})
    world.passes()
    assert Sweep(world.folder(sweep)).spec()["tracking"] == {"experiment": "x", "uri": "http://mlflow.example"}
    assert "mlflow.example" not in str(world[sweep].spec)


def test_the_driver_reserves_what_the_operator_says(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    world.controller = world.another(driver_cpus=0.5)
    asked, submit = list[JobRequest](), world.cluster.submit

    def noted(request: JobRequest) -> JobStatus:
        asked.append(request)
        return submit(request)

    monkeypatch.setattr(world.cluster, "submit", noted)
    sweep = world.submit()
    world.passes()
    assert [request.cpu for request in asked] == [0.5]
    assert world.cluster.allowed(sweep) == 3


def test_a_sweep_that_can_never_run_fails_with_its_reason(world: World) -> None:
    sweep = world.submit(code={"pip": ["requests"]})
    world.passes()
    assert world[sweep].state is State.FAILED
    assert "code.pip" in world[sweep].reason
    assert world.cluster.submitted == []


def test_of_two_replicas_one_acts_and_the_other_takes_over(world: World) -> None:
    other = world.another("two")
    world.passes()
    sweep = world.submit()
    other.reconcile()
    assert world.cluster.submitted == []
    world.controller.leadership.leave()
    other.reconcile()
    assert world.cluster.submitted == [(sweep, 1)]
