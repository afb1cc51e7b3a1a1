"""A cluster of one's own that comes up beside the service, and comes up again."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

import pytest

from cluster import ray_head
from cluster._supervisor import process_mark, write_record
from cluster.backend import Capacity, JobError, PlaceLostError
from cluster.ray_head import RayHead
from service.control import cluster_place
from service.control.cluster_place import OwnPlace
from tests.pretend_cluster import PretendCluster


class Head:
    """Stands in for a Ray that was started."""

    def __init__(self, home: Path, cpus: float) -> None:
        self._backend, self._is_alive = PretendCluster(home, cpus), True
        self.url = "http://127.0.0.1:8265"

    def backend(self) -> PretendCluster:
        return self._backend

    def is_alive(self) -> bool:
        return self._is_alive

    def dies(self) -> None:
        self._is_alive = False
        self._backend.is_away = True


def test_it_is_away_until_it_is_up_and_comes_up_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cluster_place, "CHECK_S", 0.01)
    monkeypatch.setattr(cluster_place, "WAIT_S", 0.01)
    heads: list[Head] = []
    tries = iter(range(100))

    def own(_folder: Path) -> Head:
        if next(tries) == 0:
            msg = "no port is free"
            raise JobError(msg)
        heads.append(Head(tmp_path, cpus=float(len(heads) + 1)))
        return heads[-1]

    place = OwnPlace(tmp_path, own)  # type: ignore[arg-type]  # stands in for a Ray
    with pytest.raises(PlaceLostError, match="starting"):
        place.statuses(["x"])
    place.start()
    until(lambda: place.capacity() == Capacity(1.0, 0.0, 1))
    heads[0].dies()
    until(lambda: place.capacity() == Capacity(2.0, 0.0, 1))
    place.leave(is_idle=False)


def test_why_it_does_not_come_up_is_told_while_it_is_tried_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cluster_place, "WAIT_S", 0.01)
    is_second, may_end = threading.Event(), threading.Event()
    tries = iter((None, is_second))

    def own(_folder: Path) -> Head:
        again = next(tries, None)
        if again is not None:
            again.set()
            may_end.wait(120)
        msg = "no port is free"
        raise JobError(msg)

    place = OwnPlace(tmp_path, own)  # type: ignore[arg-type]  # stands in for a Ray
    place.start()
    assert is_second.wait(60)
    with pytest.raises(PlaceLostError, match="no port is free"):
        place.capacity()
    may_end.set()
    place.leave(is_idle=False)


def test_one_try_that_goes_wrong_is_not_the_last_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cluster_place, "WAIT_S", 0.01)
    troubles: list[Exception] = [KeyError("state"), RuntimeError("no such process")]

    def own(_folder: Path) -> Head:
        if troubles:
            raise troubles.pop()
        return Head(tmp_path, cpus=1.0)

    place = OwnPlace(tmp_path, own)  # type: ignore[arg-type]  # stands in for a Ray
    place.start()
    until(lambda: place.capacity().nodes == 1)
    place.leave(is_idle=False)


def test_a_ray_that_lives_and_does_not_answer_is_adopted_or_started_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cluster_place, "CHECK_S", 0.01)
    heads: list[Head] = []

    def own(_folder: Path) -> Head:
        monkeypatch.setattr(cluster_place, "SILENT_S", 600.0)  # until the next one is silent: a test may stall
        heads.append(Head(tmp_path, cpus=float(len(heads) + 1)))
        return heads[-1]

    place = OwnPlace(tmp_path, own)  # type: ignore[arg-type]  # stands in for a Ray
    place.start()
    until(lambda: place.capacity().cpus == 1.0)
    heads[0].backend().is_away = True
    monkeypatch.setattr(cluster_place, "SILENT_S", 0.1)
    until(lambda: place.capacity().cpus == 2.0)
    place.leave(is_idle=False)


class Busy(PretendCluster):
    """A Ray that is too busy to answer before it is `until`, on a clock that runs by being waited for."""

    now, until = 0.0, 120.0

    def capacity(self) -> Capacity:
        self.is_away = self.now < self.until
        return super().capacity()

    def passes(self, seconds: float) -> None:
        self.now += seconds


def test_a_ray_that_is_only_busy_keeps_all_that_runs_on_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as process:
        head = RayHead(process.pid, process_mark(process.pid), "127.0.0.2:1", "http://127.0.0.2:2", "token")
        write_record(tmp_path / "head.json", asdict(head))
        busy = Busy(tmp_path)
        with monkeypatch.context() as patch:
            patch.setattr(RayHead, "backend", lambda _: busy)
            patch.setattr(time, "monotonic", lambda: busy.now)
            patch.setattr(time, "sleep", busy.passes)
            patch.setattr(ray_head, "_end", lambda *_: pytest.fail("it was ended"))
            assert ray_head.own(tmp_path) == head


def until(is_so: Callable[[], bool]) -> None:
    for _ in range(6000):
        try:
            if is_so():
                return
        except PlaceLostError:
            pass
        time.sleep(0.01)
    pytest.fail("it did not come to that")
