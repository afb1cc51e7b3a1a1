"""A service whose sweeps live on an object store: it makes them there, reads them, steers them, and leaves nothing."""

from __future__ import annotations

import fcntl
import hashlib
import io
import json
import os
import time
import zipfile
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from cluster.backend import JobRequest, JobState, JobStatus
from service.control.placement import Ground, Placement
from service.control.sighting import newest_word
from service.errors import SpecError, StorageError
from service.queueing import lifecycle
from service.records import State
from service.server.settings import settings_of
from service.sweeps.folders import every, find
from service.sweeps.past_sweeps import with_past
from service.tuning import code_cache
from service.tuning.code_cache import local_code
from service.tuning.control import Control, read_control
from service.tuning.events import DriverStarted, SweepEnded, SweepStarted
from service.tuning.ledger import Ledger
from service.tuning.storage_objects import ObjectStorage, object_storage
from service.tuning.sweep_folder import Job, read_job
from tests.controlled import World
from tests.object_store import ObjectStore
from tests.pretend_cluster import PretendCluster
from tests.serving import Served, life_of, serving, spec


@dataclass
class Cluster(PretendCluster):
    """Its drivers leave their words on the object store."""

    root: ObjectStorage = field(default_factory=lambda: object_storage("s3://unset"))
    requests: list[JobRequest] = field(default_factory=list)

    def submit(self, request: JobRequest) -> JobStatus:
        self.requests.append(request)
        return super().submit(request)

    def says(self, sweep_id: str, state: str, **more: Any) -> None:  # noqa: ANN401  # what a progress holds
        said = {"epochs": 0, "trials": {"total": 4}, "state": state, **more}
        self.root.replace(f"sweeps/{sweep_id}/progress.json", json.dumps(said).encode())


class Stored(World):
    """A controller whose sweeps live under `root`."""

    cluster: Cluster

    def __init__(self, home: Path, root: ObjectStorage) -> None:
        self.root = root
        super().__init__(home)
        self.cluster = Cluster(home, root=root)
        self.controller = self.another()

    def another(self, holder: str = "one", **ground: Any) -> Any:  # noqa: ANN401  # as in World
        found = super().another(holder, **ground)
        found.placement = Placement(Ground(self.home, storage=self.root), self.cluster, "auto")
        found._endings._placement = found.placement
        return found

    def place(self, sweep_id: str) -> ObjectStorage:
        return self.root / "sweeps" / sweep_id


@pytest.fixture
def root(s3: ObjectStore, tmp_path: Path) -> ObjectStorage:
    return object_storage(f"{s3.url}/{tmp_path.name}")


@pytest.fixture
def world(home: Path, root: ObjectStorage) -> Iterator[Stored]:
    found = Stored(home, root)
    yield found
    found.store.close()


@pytest.fixture
def served(world: Stored) -> Iterator[Served]:
    with serving(world.home, storage=world.root) as found:
        yield found


def package(text: str = "x = 1\n") -> tuple[str, bytes]:
    """(digest, zip) of a module."""
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        member = zipfile.ZipInfo("run.sh")
        member.external_attr = 0o100755 << 16
        archive.writestr(member, "echo\n")
        archive.writestr(zipfile.ZipInfo("net/model.py"), text)
    return hashlib.sha256(packed.getvalue()).hexdigest(), packed.getvalue()


def record(place: ObjectStorage, losses: list[float]) -> None:
    """A whole ledger: one trial of one epoch for each loss."""
    job = read_job(place)
    ledger = Ledger(place, lambda: 0.0)
    ledger.open()
    ledger.append([SweepStarted(job.sweep_id, job.spec), DriverStarted(1, "here", 1)], at=100.0)
    for trial, loss in enumerate(losses):
        ledger.append(life_of(trial, loss, job.spec), at=110.0 + 10 * trial)
    ledger.append([SweepEnded("completed", "all done")], at=500.0)


def test_a_sweep_is_made_run_told_and_deleted_on_the_store_alone(world: Stored) -> None:
    digest, content = package()
    world.root.replace(f"packages/{digest}.zip", content)
    world.store.add_package("default", digest, len(content))
    sweep = world.submit(sent=digest)
    world.passes(2)
    place = world.place(sweep)
    assert read_job(place).code_root == f"{world.root}/packages/{digest}.zip"
    (request,) = world.cluster.requests
    assert request.folder == "."
    driver = request.argv.index("service.tuning.driver")
    assert request.argv[driver + 1 : driver + 3] == (str(place), "--home")
    assert read_control(place) == Control(4, 4)

    world.cluster.says(sweep, "running", epochs=3)
    world.passes()
    assert world[sweep].state is State.RUNNING
    world.cluster.ends(sweep, JobState.FAILED)
    world.passes()
    world.hurry(sweep)
    world.passes(2)
    assert [attempt for _, attempt in world.cluster.submitted] == [1, 2]
    world.cluster.says(sweep, "running", trial_hours=0.5)
    world.cluster.finishes(sweep)  # within the seconds for which a word is remembered
    world.passes()
    assert world[sweep].state is State.COMPLETED
    world.act(sweep, lifecycle.Delete())
    world.passes(2)
    assert place.names("") == []
    assert world.root.names("packages") == [f"{digest}.zip"]
    assert not (world.home / "sweeps").exists()
    world.controller.placement.remove_package(digest, before=2e9)
    assert world.root.names("packages") == []


def test_code_that_is_gone_is_asked_for_again(world: Stored) -> None:
    digest, content = package()
    world.store.add_package("default", digest, len(content))
    sweep = world.submit(sent=digest)
    world.passes(2)
    assert (world[sweep].state, "is gone; submit it again" in world[sweep].reason) == (State.FAILED, True)


def test_the_interface_takes_code_and_shows_a_sweep_with_its_log_report_and_best(world: Stored, served: Served) -> None:
    digest, content = package()
    assert served.ask("submitter", "HEAD", f"/packages/{digest}").status_code == 404
    assert served.ask("submitter", "PUT", f"/packages/{digest}", content=content).status_code == 201
    assert world.root.read(f"packages/{digest}.zip") == content
    assert list((world.home / "packages").iterdir()) == []
    assert served.ask("submitter", "HEAD", f"/packages/{digest}").status_code == 200
    sweep = served.submit(spec=spec("minimal"), code=digest)["id"]
    assert served.ask("viewer", "GET", f"/sweeps/{sweep}/trials").json()["trials"] == []
    assert served.ask("viewer", "GET", f"/sweeps/{sweep}/report").status_code == 404
    assert served.ask("viewer", "GET", f"/sweeps/{sweep}/logs").json()["text"] == ""

    world.passes(2)
    place = world.place(sweep)
    record(place, [0.5, 0.2, 0.9])
    place.replace("logs/driver.log", "begun\nè tutto\n".encode())
    place.replace("logs/trial-1.log", b"loss 0.2\n")
    best = {"trial": 1, "epoch": 1, "value": 0.2, "params": {}}
    world.cluster.says(sweep, "completed", is_final=True, trials={}, best=best)
    world.cluster.ends(sweep, JobState.SUCCEEDED)
    world.passes()
    assert world[sweep].state is State.COMPLETED, world[sweep].reason
    found = served.ask("viewer", "GET", f"/sweeps/{sweep}/trials").json()
    assert [trial["trial"] for trial in found["trials"]] == [1, 0, 2]
    assert found["progress"]["state"] == "completed"
    log = served.ask("viewer", "GET", f"/sweeps/{sweep}/logs?limit=7").json()
    assert (log["text"], log["next_offset"], log["is_complete"]) == ("begun\n", 6, False)
    assert served.ask("viewer", "GET", f"/sweeps/{sweep}/logs?offset=6").json()["text"] == "è tutto\n"
    assert served.ask("viewer", "GET", f"/sweeps/{sweep}/trials/1/logs?offset=-4").json()["text"] == "0.2\n"
    assert served.ask("viewer", "GET", f"/sweeps/{sweep}/report").json()["best"]["trial"] == 1
    assert "<html" in served.ask("viewer", "GET", f"/sweeps/{sweep}/report.html").text
    assert "lr: 0.01" in served.ask("viewer", "GET", f"/sweeps/{sweep}/best").json()["config"]
    place.replace("report/report.json", b'{"left": "at its end"}')
    assert served.ask("viewer", "GET", f"/sweeps/{sweep}/report").json() == {"left": "at its end"}


def test_a_store_that_is_away_is_said_to_be_so(world: Stored, served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    sweep = served.submit()["id"]
    world.passes(2)

    def away(*_: object) -> bytes:
        raise OSError(5, "connection refused")

    for name in ("read", "part", "names", "stat"):
        monkeypatch.setattr(ObjectStorage, name, away)
    answer = served.ask("viewer", "GET", f"/sweeps/{sweep}/logs")
    assert (answer.status_code, "storage of sweeps does not answer" in answer.text) == (503, True)
    assert served.ask("viewer", "GET", f"/sweeps/{sweep}").status_code == 200
    world.passes(2)
    assert world[sweep].state is State.RUNNING


def test_what_many_ask_is_read_every_few_seconds(world: Stored, s3: ObjectStore) -> None:
    sweep = world.submit()
    world.passes(2)
    world.cluster.says(sweep, "running")
    asked = len(s3.requests())
    for _ in range(50):
        newest_word(world.place(sweep))
    counts = Counter(line.split()[0] for line in s3.requests()[asked:])
    assert counts["GET"] <= 2
    asked = len(s3.requests())
    world.passes(20)
    assert len(s3.requests()) - asked <= 4
    world.cluster.says(sweep, "paused")
    word = newest_word(world.place(sweep), is_last=True)
    assert word is not None
    assert word["state"] == "paused"


def test_earlier_sweeps_are_found_and_learned_from(world: Stored, served: Served) -> None:
    first = served.submit()["id"]
    world.passes(2)
    record(world.place(first), [0.5, 0.2, 0.9])
    assert [sweep.id for sweep in every(world.root)] == [first]
    assert find(world.root, first[:9], "default").id == first
    wanted = {**spec(), "search": {**spec()["search"], "warm_start": ["auto"]}}
    job, past = with_past(world.home, Job("new-20261123-000001", wanted), "default", world.root)
    assert f"3 trials of {first}" in str(job.facts)
    second = served.submit(spec=wanted)["id"]
    world.passes(2)
    assert world.place(second).read("past.json") == past


def test_code_is_fetched_once_for_a_machine_and_trusted_by_its_digest(
    world: Stored, tmp_path: Path, s3: ObjectStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    digest, content = package()
    url = f"{world.root}/packages/{digest}.zip"
    monkeypatch.setattr(code_cache, "patiently", lambda action, _: action())
    with pytest.raises(StorageError, match="is gone; submit the sweep again"):
        local_code(url)
    world.root.replace(f"packages/{digest}.zip", content[:-1])
    with pytest.raises(StorageError, match="is damaged"):
        local_code(url)
    world.root.replace(f"packages/{digest}.zip", content)
    folder = Path(str(local_code(url)))
    asked = len(s3.requests())
    assert local_code(url) == str(folder)
    assert len(s3.requests()) == asked
    assert (folder / "net" / "model.py").read_text() == "x = 1\n"
    assert [(folder / name).stat().st_mode & 0o777 for name in ("run.sh", "net/model.py")] == [0o755, 0o644]
    assert [path.name for path in folder.parent.iterdir() if path.is_dir()] == [digest]
    os.utime(folder, (0, 0))
    _another_is_fetched(world.root)
    assert not folder.exists()
    folder = Path(str(local_code(url)))
    os.utime(folder, (0, 0))
    with (folder.parent / f".{digest}.lock").open("w") as stream:  # a worker that begins with it just now
        fcntl.flock(stream, fcntl.LOCK_EX)
        _another_is_fetched(world.root)
    assert (folder / "run.sh").is_file()
    assert local_code("/somewhere") == "/somewhere"
    assert local_code(None) is None


def _another_is_fetched(root: ObjectStorage) -> None:
    """The code of another sweep, for which what nobody uses makes room."""
    digest, content = package(f"y = {time.monotonic_ns()}\n")
    root.replace(f"packages/{digest}.zip", content)
    local_code(f"{root}/packages/{digest}.zip")


def test_the_setting_names_a_place_or_is_refused(home: Path) -> None:
    assert settings_of(home, {}, {"storage": "s3://bucket/team/"}).storage == "s3://bucket/team"
    assert settings_of(home, {}, {}).storage == ""
    with pytest.raises(SpecError, match=r"--storage: '/mnt' is no location of an object store"):
        settings_of(home, {"storage": "/mnt"}, {})
