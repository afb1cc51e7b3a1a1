"""What a place cannot do just now costs no sweep anything: it stays due, is tried again ever more rarely, says why."""

from __future__ import annotations

import errno
import itertools
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from cluster.backend import PlaceLostError
from service.control import controller
from service.queueing import lifecycle
from service.records import State
from tests.controlled import World


@pytest.fixture
def world(home: Path) -> Iterator[World]:
    found = World(home)
    yield found
    found.store.close()


@pytest.mark.parametrize(
    ("trouble", "said"),
    [(OSError(errno.ENOSPC, "No space left on device"), "No space left"), (PlaceLostError("HTTP 500"), "HTTP 500")],
)
def test_trouble_of_the_place_fails_no_sweep(
    world: World, monkeypatch: pytest.MonkeyPatch, trouble: Exception, said: str
) -> None:
    now, tried = [0.0], list[float]()
    monkeypatch.setattr(time, "monotonic", lambda: now[0])

    def fails(_request: object) -> None:
        tried.append(now[0])
        raise trouble

    sweep = world.submit()
    with monkeypatch.context() as patch:
        patch.setattr(world.cluster, "submit", fails)
        for _ in range(1000):
            world.passes()
            now[0] += 1.0
    found = world[sweep]
    assert (found.state, found.failures, found.attempt) == (State.STARTING, 0, 1)
    assert said in found.reason
    pauses = [later - earlier for earlier, later in itertools.pairwise(tried)]
    assert pauses == sorted(pauses)
    assert (pauses[0], pauses[-1]) == (lifecycle.FIRST_BACKOFF_S, controller.MOST_DELAY_S)
    now[0] += controller.MOST_DELAY_S
    world.passes(2)
    assert (world[sweep].state, world[sweep].reason) == (State.RUNNING, "")
    assert world.cluster.submitted == [(sweep, 1)]


def test_a_sweep_whose_start_is_delayed_can_be_cancelled(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(_request: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(world.cluster, "submit", fails)
    sweep = world.submit()
    world.passes()
    world.act(sweep, lifecycle.Cancel())
    world.passes(2)
    assert world[sweep].state is State.CANCELLED
