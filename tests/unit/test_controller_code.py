"""Each sweep has a copy of its code to itself, and what was sent is removed once no sweep is about it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from cluster.backend import JobState
from service.control import controller
from service.queueing import lifecycle
from service.records import State
from service.shipping.packages import build
from service.shipping.unpacking import package_file
from service.sweeps.folders import Sweep
from service.tuning.sweep_folder import read_job
from tests.controlled import World


@pytest.fixture
def world(home: Path) -> Iterator[World]:
    found = World(home)
    yield found
    found.store.close()


def sent(world: World, text: bytes) -> str:
    """The digest of a package that the service has."""
    folder = world.home / "code of ada"
    folder.mkdir(exist_ok=True)
    (folder / "net.py").write_bytes(text)
    package = build(folder)
    path = package_file(world.home, package.digest)
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(package.content)
    world.store.add_package("default", package.digest, len(package.content))
    return package.digest


def test_a_sweep_has_its_code_to_itself_and_takes_it_along(world: World) -> None:
    digest = sent(world, b"x = 1")
    first, second = world.submit(sent=digest), world.submit("bob", sent=digest)
    world.passes(2)
    for sweep in (first, second):
        root = world.folder(sweep) / "code"
        assert (read_job(world.folder(sweep)).code_root, Sweep(root.parent).launch()["folder"]) == (str(root),) * 2
        assert (root / "net.py").read_bytes() == b"x = 1"
    (world.folder(first) / "code" / "net.py").write_text("changed by its job")
    assert (world.folder(second) / "code" / "net.py").read_bytes() == b"x = 1"
    world.cluster.ends(first, JobState.FAILED)
    world.passes()
    world.hurry(first)
    world.passes(2)
    assert world[first].state is State.RUNNING
    world.act(first, lifecycle.Delete())
    world.passes(3)
    assert not world.folder(first).exists()


def test_what_no_sweep_is_about_is_removed_after_a_while(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    unused, used = sent(world, b"unused = 1"), sent(world, b"used = 1")
    sweep = world.submit(sent=used)
    world.passes()
    assert package_file(world.home, unused).exists()
    monkeypatch.setattr(controller, "PACKAGE_GRACE_S", -1.0)  # a week later
    monkeypatch.setattr(controller, "TIDY_EVERY_S", 0.0)
    os.utime(package_file(world.home, unused), (0, 0))
    os.utime(package_file(world.home, used), (0, 0))
    world.controller = world.another()
    world.passes()
    assert [package_file(world.home, digest).exists() for digest in (unused, used)] == [False, True]
    assert [package.digest for package in world.store.packages(None)] == [used]
    world.act(sweep, lifecycle.Delete())
    world.passes(3)
    assert world.store.packages(None) == []
    assert not package_file(world.home, used).exists()


def test_code_that_is_sent_again_just_now_stays(world: World) -> None:
    digest = sent(world, b"x = 1")
    world.controller.placement.remove_package(digest, before=world.store.now() - 60)
    assert package_file(world.home, digest).exists()


def test_a_damaged_zip_is_dropped_so_that_it_can_be_sent_again(world: World) -> None:
    digest = sent(world, b"x = 1")
    package_file(world.home, digest).write_bytes(b"damaged")
    sweep = world.submit(sent=digest)
    world.passes(2)
    assert world[sweep].state is State.FAILED
    assert "damaged; submit it again" in world[sweep].reason
    assert not package_file(world.home, digest).exists()
