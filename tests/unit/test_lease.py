"""A sweep has one driver: the lease is refused, expires, is given back, and tells a driver that slept too long."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from service.errors import SweepRunningError
from service.tuning.lease import EXPIRES_S, Holder, Lease, Senses, is_at_work, take
from service.tuning.process_identity import started_at, this_machine, this_process
from service.tuning.storage import FolderStorage

ELSEWHERE = Holder("another-host", 17, "1")


@dataclass
class World:
    """A clock that only moves while somebody waits; what happens meanwhile is a list of leases to renew."""

    now: float = 0.0
    renewing: list[Lease] = field(default_factory=list)

    def sleep(self, wait_s: float) -> None:
        self.now += wait_s
        for lease in self.renewing:
            lease.renew()

    def senses(self) -> Senses:
        return Senses(lambda: self.now, self.sleep)


def test_the_second_driver_is_refused_while_the_first_is_at_work(tmp_path: Path) -> None:
    storage = FolderStorage(tmp_path)
    first = take(storage)
    with pytest.raises(SweepRunningError, match=f"process {os.getpid()} on "):
        take(storage, Holder(this_machine(), 1, started_at(1)))
    first.check()


def test_a_lease_that_was_given_back_is_free_at_once(tmp_path: Path) -> None:
    storage, world = FolderStorage(tmp_path), World()
    take(storage).release()
    assert take(storage, ELSEWHERE, world.senses()).epoch == 2
    assert world.now == 0.0
    assert storage.names("lease") == ["00000002.json"]


def test_a_process_that_is_gone_has_nothing(tmp_path: Path) -> None:
    storage, world = FolderStorage(tmp_path), World()
    child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    holder = Holder(this_machine(), child.pid, started_at(child.pid))
    take(storage, holder)
    assert is_at_work(holder)
    child.communicate()
    assert is_at_work(holder) is False
    assert take(storage, senses=world.senses()).epoch == 2
    assert world.now == 0.0


def test_a_number_that_another_process_got_is_not_the_same_process() -> None:
    machine, pid, start = this_process()
    assert is_at_work(Holder(machine, pid, start))
    assert is_at_work(Holder(machine, pid, "1")) is False


def test_a_driver_elsewhere_that_renews_is_left_alone(tmp_path: Path) -> None:
    storage = FolderStorage(tmp_path)
    world = World(renewing=[take(storage, ELSEWHERE)])
    with pytest.raises(SweepRunningError, match=r"process 17 on another-host\) runs this sweep"):
        take(storage, senses=world.senses())
    assert world.now < EXPIRES_S


def test_a_driver_elsewhere_that_is_silent_loses_the_sweep_and_finds_out(tmp_path: Path) -> None:
    storage, world = FolderStorage(tmp_path), World()
    silent = take(storage, ELSEWHERE)
    assert take(storage, senses=world.senses()).epoch == 2
    assert EXPIRES_S <= world.now < EXPIRES_S + 1
    for act in (silent.check, silent.renew):
        with pytest.raises(SweepRunningError, match="lease 2, this one's is 1"):
            act()
    silent.release()
    assert storage.names("lease") == ["00000002.json"]


def test_of_two_that_want_the_same_number_one_gets_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    storage, world = FolderStorage(tmp_path), World()
    create = FolderStorage.create

    def create_second(self: FolderStorage, name: str, data: bytes) -> None:
        monkeypatch.undo()
        take(storage, ELSEWHERE)
        create(self, name, data)

    monkeypatch.setattr(FolderStorage, "create", create_second)
    with pytest.raises(SweepRunningError, match="has just started on this sweep"):
        take(storage, senses=world.senses())


def test_a_lease_that_could_not_say_it_was_written_is_ones_own(tmp_path: Path) -> None:
    storage = FolderStorage(tmp_path)
    assert take(storage).epoch == 1
    assert take(storage).epoch == 1


def test_a_lease_that_cannot_be_read_is_nobodys(tmp_path: Path) -> None:
    storage = FolderStorage(tmp_path)
    take(storage)
    storage.replace("lease/00000001.json", b"{half")
    assert take(storage, ELSEWHERE).epoch == 2
