"""Whatever a sweep leaves in its folder, and whatever the store makes of it, other sweeps have their turn."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from cluster.backend import JobState
from service.queueing import lifecycle
from service.records import State, SweepRecord
from service.store.database import UnstorableError
from service.sweeps.driver_word import MOST_HOURS
from tests.controlled import World


@pytest.fixture
def world(home: Path) -> Iterator[World]:
    found = World(home)
    yield found
    found.store.close()


NONSENSE = {
    "half": b"{",
    "list": b"[]",
    "null": b"null",
    "bytes": b"\xff\xfe{}",
    "blanks": b" " * 2**21,
    "depth": b'{"best": ' + b"[" * 200_000 + b"]" * 200_000 + b"}",
    "state": b'{"state": 7, "is_final": true, "reason": [], "faults": 5}',
    "refused": b'{"state": "refused", "faults": ["x"]}',
    "hours": b'{"trial_hours": "all"}',
    "best": b'{"best": 5, "metric": 3}',
    "best of strings": b'{"best": {"trial": {}, "value": "x"}, "metric": []}',
    "trials": b'{"trials": {"completed": "many", "total": "x"}, "epochs": []}',
    "trials as a list": b'{"trials": [1], "tracking": 7, "running": {"a": 1}}',
    "surrogates": b'{"state": "running", "reason": "\\ud800", "best": {"trial": 1, "params": {"\\udfff": "\\u0000"}}}',
    "large numbers": b'{"trial_hours": 1e308, "epochs": 1' + b"0" * 4000 + b', "elapsed_s": 1e999}',
    "tracking": b'{"state": "running", "tracking": {"run_id": {}}}',
}


@pytest.mark.parametrize("nonsense", NONSENSE.values(), ids=NONSENSE.keys())
def test_nonsense_in_one_folder_holds_up_nobody_else(world: World, nonsense: bytes) -> None:
    odd, other = world.submit(), world.submit("bob")
    world.passes(2)
    (world.folder(odd) / "progress.json").write_bytes(nonsense)
    (world.folder(odd) / "tracking.json").write_bytes(nonsense)
    _the_other_goes_on(world, odd, other)


@pytest.mark.parametrize("name", ["progress.json", "tracking.json", "control.json"])
@pytest.mark.parametrize("what", ["pipe", "link", "folder", "device"])
def test_what_stands_in_the_place_of_a_file_holds_up_nobody_else(world: World, name: str, what: str) -> None:
    odd, other = world.submit(), world.submit("bob")
    world.passes(2)
    path = world.folder(odd) / name
    path.unlink(missing_ok=True)
    {
        "pipe": lambda: os.mkfifo(path),
        "link": lambda: path.symlink_to("/etc/passwd"),
        "folder": lambda: (path / "x").mkdir(parents=True),
        "device": lambda: path.symlink_to("/dev/zero"),
    }[what]()
    _the_other_goes_on(world, odd, other)


def _the_other_goes_on(world: World, odd: str, other: str) -> None:
    """`other` gets its trials and its end; `odd`, too, ends when its job does, and can be deleted."""
    assert world.controller.trouble == ""
    urgent = world.submit("eve")
    world.passes(2)
    world.cluster.finishes(other)
    world.passes(2)
    assert [world[sweep].state for sweep in (other, urgent)] == [State.COMPLETED, State.RUNNING]
    assert world.store.usage().users.get("ada", 0.0) <= MOST_HOURS
    world.cluster.ends(odd, JobState.FAILED)
    world.passes(2)
    assert not world[odd].state.is_placed
    world.act(odd, lifecycle.Delete())
    world.passes(3)
    assert not world.folder(odd).exists()


def test_a_sweep_that_the_store_cannot_take_in_holds_up_nobody_else(
    world: World, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    odd, other = world.submit(), world.submit("bob")
    world.passes(2)
    act = world.store.act

    def fails(sweep_id: str, *arguments: Any, **more: Any) -> SweepRecord:  # noqa: ANN401  # as the store takes them
        if sweep_id == odd:
            msg = "no such words"
            raise UnstorableError(msg)
        return act(sweep_id, *arguments, **more)

    monkeypatch.setattr(world.store, "act", fails)
    world.cluster.finishes(odd)
    world.cluster.finishes(other)
    world.passes(4)
    assert world[other].state is State.COMPLETED
    assert len([r for r in caplog.records if odd in r.getMessage()]) <= 2
    monkeypatch.setattr(world.store, "act", act)
    world.passes()
    assert world[odd].state is State.COMPLETED
