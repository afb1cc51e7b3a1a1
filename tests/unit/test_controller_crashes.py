"""A controller that dies between any two of its steps changes nothing about what becomes of a sweep."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from cluster.backend import JobState
from service.control import placement
from service.errors import SweepNotFoundError
from service.queueing import lifecycle
from service.records import State
from service.store import Store
from tests.controlled import World
from tests.pretend_cluster import PretendCluster

PASSES = 12
STEPS = [
    (Store, "act"),
    (Store, "forget_sweep"),
    (PretendCluster, "submit"),
    (PretendCluster, "stop"),
    (placement.Placement, "remove"),
    (placement.Placement, "tell"),
    (placement, "create"),
]


class Killed(BaseException):
    """The process is gone."""


class Fate:
    """Counts the steps of controllers, and kills right after one of them: what lasts is only ever done by a step."""

    def __init__(self, at: int | None) -> None:
        self.at, self.count = at, 0
        self.is_on = False

    def met_by(self, step: Callable[..., Any]) -> Callable[..., Any]:
        def fated(*args: Any, **kwargs: Any) -> Any:  # noqa: ANN401  # any step
            if not self.is_on:
                return step(*args, **kwargs)
            self.count += 1
            is_last = self.count == self.at
            result = step(*args, **kwargs)
            if is_last:
                raise Killed
            return result

        return fated


def life(world: World, fate: Fate) -> dict[str, Any]:
    """A sweep is paused, resumed, loses its driver, is preempted, finishes, and is deleted; what others saw of it."""

    def until(is_so: Callable[[], bool]) -> None:
        for _ in range(PASSES):
            fate.is_on = True
            try:
                world.passes()
            except Killed:
                world.controller = world.another()
            finally:
                fate.is_on = False
            let_pause(world)
            if is_so():
                return
        pytest.fail("it did not come to that")

    def is_in(sweep: str, state: State) -> Callable[[], bool]:
        return lambda: world[sweep].state is state

    sweep = world.submit(resources={"cpu": 4})
    until(is_in(sweep, State.RUNNING))
    world.act(sweep, lifecycle.Pause())
    until(is_in(sweep, State.PAUSED))
    world.act(sweep, lifecycle.Resume())
    until(is_in(sweep, State.RUNNING))
    world.cluster.says(sweep, "running", epochs=1, trial_hours=0.25)
    world.cluster.ends(sweep, JobState.FAILED, "killed")
    until(is_in(sweep, State.QUEUED))
    world.hurry(sweep)
    until(is_in(sweep, State.RUNNING))
    urgent = world.submit("bob", priority=1, resources={"cpu": 4})
    until(is_in(urgent, State.RUNNING))
    world.cluster.finishes(urgent)
    until(is_in(sweep, State.RUNNING))
    world.cluster.finishes(sweep)
    until(is_in(sweep, State.COMPLETED))
    told, hours = world.told(sweep), world[sweep].trial_hours
    world.act(sweep, lifecycle.Delete())
    until(lambda: is_gone(world, sweep))
    names = {sweep: "sweep", urgent: "urgent"}
    return {
        "told": told,
        "hours": hours,
        "submitted": [(names[job], attempt) for job, attempt in world.cluster.submitted],
        "left": sorted(names[path.name] for path in (world.home / "sweeps").iterdir()),
        "alive": [job for job, status in world.cluster.jobs.items() if not status.state.is_over],
    }


def let_pause(world: World) -> None:
    """Drivers that are asked to pause do."""
    for job, status in list(world.cluster.jobs.items()):
        if not status.state.is_over and world.cluster.is_asked_to_pause(job):
            world.cluster.pauses(job)


def is_gone(world: World, sweep: str) -> bool:
    try:
        world[sweep]
    except SweepNotFoundError:
        return True
    return False


@pytest.fixture
def lives(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[Fate], dict[str, Any]]:
    numbers = itertools.count()
    real = {step: getattr(*step) for step in STEPS}

    def live(fate: Fate) -> dict[str, Any]:
        for (owner, name), step in real.items():
            monkeypatch.setattr(owner, name, fate.met_by(step))
        home = tmp_path / str(next(numbers))
        home.mkdir()
        world = World(home)
        try:
            return life(world, fate)
        finally:
            world.store.close()

    return live


def test_the_outcome_is_the_same_wherever_it_dies(lives: Callable[[Fate], dict[str, Any]]) -> None:
    undisturbed = Fate(None)
    expected = lives(undisturbed)
    assert expected["submitted"] == [("sweep", 1), ("sweep", 2), ("sweep", 3), ("urgent", 1), ("sweep", 4)]
    assert expected["left"] == ["urgent"]
    assert expected["alive"] == []
    assert undisturbed.count > 25
    found = {at: lives(Fate(at)) for at in range(1, undisturbed.count + 1)}
    assert [(at, outcome) for at, outcome in found.items() if outcome != expected] == []
