"""What every storage of a sweep promises, on a folder and on an object store that speaks S3."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest

from service.errors import CheckpointError, SweepRunningError
from service.tuning.assignment import Assignment
from service.tuning.confined import NotOursError, part_in, read_in, read_object_in
from service.tuning.control import Control, read_control, write_control
from service.tuning.events import SweepEnded, SweepPaused
from service.tuning.lease import Holder, Senses, take
from service.tuning.ledger import MERGE_AFTER, Ledger, LedgerTail, read_ledger
from service.tuning.marks import is_asked_to_save
from service.tuning.storage import Storage, digested
from service.tuning.storage_place import Place, place_of, storage_at
from service.tuning.sweep_folder import DRAIN_FILE, Job, read_job, write_job
from service.tuning.tracking_cursor import Cursor, read_cursor, write_cursor
from service.tuning.trial_checkpoint import verified_path, write_checkpoint
from tests.object_store import ObjectStore

KINDS = ("folder", "s3")
ELSEWHERE = Holder("another-host", 17, "1")
RACER = """
import sys
from service.tuning.storage_place import open_storage
storage = open_storage(sys.argv[1])
sys.stdout.write("ready\\n")
sys.stdout.flush()
sys.stdin.readline()
try:
    storage.create("lease/00000001.json", sys.argv[2].encode())
    sys.stdout.write("won\\n")
except FileExistsError:
    sys.stdout.write("lost\\n")
"""


@pytest.fixture(params=KINDS)
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Place:
    """An empty place for one sweep."""
    if request.param == "folder":
        return tmp_path
    server: ObjectStore = request.getfixturevalue("s3")
    return place_of(f"{server.url}/sweeps/{tmp_path.name}")


@pytest.fixture
def storage(place: Place) -> Storage:
    return storage_at(place)


class TestFiles:
    def test_what_is_written_is_read_and_listed(self, storage: Storage) -> None:
        assert storage.names("ledger") == []
        storage.create("ledger/2", b"two")
        storage.replace("ledger/1", b"one")
        storage.replace("ledger/1", b"first")
        storage.replace("ledger/deep/3", b"")
        storage.replace("ledgers/4", b"of another folder")
        storage.replace("top", b"")
        assert storage.names("ledger") == ["1", "2", "deep"]
        assert storage.names("") == ["ledger", "ledgers", "top"]
        assert storage.read_each(["ledger/2", "ledger/1"]) == [b"two", b"first"]
        assert storage.stat("ledger/1").size_bytes == 5
        assert abs(storage.stat("ledger/1").changed_at - time.time()) < 60
        assert storage.takes(1)
        assert storage.names("") == ["ledger", "ledgers", "top"]

    def test_what_is_not_there_is_said_to_be_so(self, storage: Storage, tmp_path: Path) -> None:
        storage.delete("nothing")
        storage.delete_each(["nothing", "no/thing"])
        for ask in (storage.read, storage.stat, lambda name: digested(storage.fetch(name, tmp_path))):
            with pytest.raises(FileNotFoundError):
                ask("no/thing")
        with pytest.raises(FileNotFoundError):
            storage.read_each(["no/thing"])
        storage.replace("a", b"")
        storage.delete("a")
        assert storage.names("") == []

    def test_of_twenty_threads_that_create_a_name_one_does(self, storage: Storage) -> None:
        at_once = threading.Barrier(20)

        def create(number: int) -> int | None:
            at_once.wait()
            try:
                storage.create("lease/1", b"%d" % number)
            except FileExistsError:
                return None
            return number

        with ThreadPoolExecutor(20) as pool:
            winners = [number for number in pool.map(create, range(20)) if number is not None]
        assert len(winners) == 1
        assert storage.read("lease/1") == b"%d" % winners[0]

    def test_of_several_processes_that_create_a_name_one_does(self, place: Place) -> None:
        command = [sys.executable, "-c", RACER, str(place)]
        environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
        racers = [subprocess.Popen([*command, str(i)], env=environment, text=True, **pipes) for i in range(5)]  # type: ignore[call-overload]  # pipes
        for racer in racers:
            assert racer.stdout.readline() == "ready\n"
        for racer in racers:
            racer.stdin.write("\n")
            racer.stdin.flush()
        said = [racer.communicate()[0].strip() for racer in racers]
        assert sorted(said) == ["lost", "lost", "lost", "lost", "won"]
        assert storage_at(place).read("lease/00000001.json") == str(said.index("won")).encode()

    def test_a_reader_sees_one_version_or_the_other(self, storage: Storage) -> None:
        versions = [bytes([65 + i]) * 300_000 for i in range(2)]
        storage.replace("progress.json", versions[0])
        over = threading.Event()

        def write() -> None:
            for i in range(15):
                storage.replace("progress.json", versions[i % 2])
            over.set()

        writer = threading.Thread(target=write)
        writer.start()
        while not over.is_set():
            assert storage.read("progress.json") in versions
        writer.join()

    def test_a_large_file_comes_back_as_it_was(self, storage: Storage, tmp_path: Path) -> None:
        content = os.urandom(1 << 20) * 37  # more than one part, and than one request
        written = storage.write_file("checkpoints/0/1-1.ckpt", lambda path: _keep(path, content))
        (tmp_path / "scratch").mkdir()
        found = storage.fetch("checkpoints/0/1-1.ckpt", tmp_path / "scratch")
        assert (written, found.name) == (digested(found), "1-1.ckpt")
        assert found.read_bytes() == content

    def test_a_file_whose_writer_breaks_off_is_absent(self, storage: Storage) -> None:
        def breaks(path: Path) -> None:
            path.write_bytes(b"half")
            raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            storage.write_file("checkpoints/0/1-1.ckpt", breaks)
        assert storage.names("checkpoints/0") == []
        storage.leave("configs/trial-0.yaml", lambda path: _keep(path, b"x: 1"))
        assert storage.read("configs/trial-0.yaml") == b"x: 1"

    def test_a_log_grows_over_several_attempts(self, place: Place, storage: Storage) -> None:
        for line in ("one\n", "two\n"):
            with storage.growing("logs/trial-1.log") as path, path.open("a") as stream:
                stream.write(line)
        assert storage.read("logs/trial-1.log") == b"one\ntwo\n"
        assert part_in(place, "logs/trial-1.log", 2, 3) == (b"e\nt", 2, 8)
        assert part_in(place, "logs/trial-1.log", -3, 100) == (b"wo\n", 5, 8)
        assert part_in(place, "logs/trial-1.log", 100, 100) == (b"", 8, 8)
        with pytest.raises(FileNotFoundError):
            part_in(place, "logs/trial-2.log", 0, 1)

    def test_what_a_job_has_written_is_read_with_care(self, place: Place, storage: Storage) -> None:
        storage.replace("big", b"x" * 2_000_000)
        with pytest.raises(NotOursError, match="larger than"):
            read_object_in(place, "big")
        assert len(read_in(place, "big")) == 2_000_000
        with pytest.raises(NotOursError):
            read_in(place, "../big")
        with pytest.raises(NotOursError):
            part_in(place, "a/../../big", 0, 1)


def _keep(path: Path, content: bytes) -> None:
    path.write_bytes(content)


class TestSweep:
    def test_a_driver_and_those_who_ask_it_understand_each_other(self, place: Place) -> None:
        job = Job("digits-1", {"name": "digits"})
        write_job(place, job)
        assert read_job(place) == job
        assert read_control(place) == Control()
        write_control(place, Control(3, pause=True))
        assert read_control(place) == Control(3, pause=True)
        write_cursor(place, Cursor(7, seen=9, run_id="r"))
        assert read_cursor(place) == Cursor(7, seen=9, run_id="r")

    def test_two_ledgers_cannot_both_go_on(self, storage: Storage) -> None:
        first, second = Ledger(storage, lambda: 1.0), Ledger(storage, lambda: 1.0)
        assert [first.open(), second.open()] == [[], []]
        first.append([SweepPaused("first")])
        with pytest.raises(SweepRunningError):
            second.append([SweepPaused("second")])

    def test_a_commit_whose_answer_was_lost_is_known_again(self, storage: Storage) -> None:
        lost, ledger = Ledger(storage, lambda: 1.0), Ledger(storage, lambda: 1.0)
        lost.open(), ledger.open()
        lost.append([SweepPaused("once")], at=1.0)
        ledger.append([SweepPaused("once")], at=1.0)
        assert len(ledger.open()) == 1

    def test_a_long_ledger_is_merged_followed_and_read_again(self, place: Place, storage: Storage) -> None:
        ledger, tail = Ledger(storage, lambda: 1.0), LedgerTail(place)
        ledger.open()
        for i in range(MERGE_AFTER + 3):
            ledger.append([SweepPaused(str(i))])
        assert len(storage.names("ledger")) == 4
        reasons = [record.event.reason for record in tail.read_new() if isinstance(record.event, SweepPaused)]
        assert reasons == [str(i) for i in range(MERGE_AFTER + 3)]
        again = Ledger(storage, lambda: 2.0)
        assert len(again.open()) == MERGE_AFTER + 3
        again.append([SweepEnded("completed", "")])
        assert [type(record.event) for record in tail.read_new()] == [SweepEnded]
        assert len(read_ledger(place)) == MERGE_AFTER + 4

    def test_a_lease_is_refused_expires_and_is_given_back(self, storage: Storage) -> None:
        now = [0.0]

        def sleep(wait_s: float) -> None:
            now[0] += wait_s + 5.0

        first = take(storage, ELSEWHERE, Senses(lambda: now[0], sleep))
        first.renew()
        second = take(storage, replace(ELSEWHERE, pid=18), Senses(lambda: now[0], sleep))
        assert (second.epoch, now[0] > 15) == (2, True)
        with pytest.raises(SweepRunningError, match="has taken this sweep over"):
            first.renew()
        assert take(storage, replace(ELSEWHERE, pid=18)).epoch == 2, "an earlier try of its own"
        second.release()
        assert take(storage, ELSEWHERE).epoch == 3
        assert storage.names("lease") == ["00000003.json"]

    def test_a_checkpoint_is_saved_and_trusted_by_its_digest_only(self, place: Place, tmp_path: Path) -> None:
        saved = write_checkpoint(_assignment(place), 3, lambda path: _keep(Path(path), b"weights"))
        assert (saved.path, saved.epoch, saved.size_bytes) == ("checkpoints/4/1-3.ckpt", 3, 7)
        assert verified_path(place, saved, tmp_path).read_bytes() == b"weights"
        storage_at(place).replace(saved.path, b"wAights")
        with pytest.raises(CheckpointError, match="is damaged"):
            verified_path(place, saved, tmp_path)
        storage_at(place).delete(saved.path)
        with pytest.raises(CheckpointError, match="cannot be read"):
            verified_path(place, saved, tmp_path)

    def test_a_worker_hears_that_it_is_to_save(self, place: Place) -> None:
        assert not is_asked_to_save(_assignment(place, attempt=1))
        storage_at(place).replace(DRAIN_FILE, b"")
        assert is_asked_to_save(_assignment(place, attempt=2))
        storage_at(place).delete(DRAIN_FILE)
        storage_at(place).replace("drain-4", b"")
        assert is_asked_to_save(_assignment(place, attempt=3))


def _assignment(place: Place, attempt: int = 1) -> Assignment:
    return Assignment("s", 4, attempt, {}, {}, ("loss",), 0, 9, (), str(place))
