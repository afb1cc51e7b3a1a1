"""A sweep whose storage is an object store: nothing but that is shared, and a machine that dies takes nothing along."""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import os
import re
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
import zipfile
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from cluster import ray_head
from service.client import Client
from service.records import State
from service.spec.sweep_spec import parse_sweep
from service.tuning.events import AttemptStarted, DriverStarted, Reported, SweepEnded, TrialEnded
from service.tuning.ledger import read_ledger
from service.tuning.storage_objects import ObjectStorage, object_storage
from service.tuning.sweep_folder import Job, write_job
from tests.integration.mlflow_peer import check_exactly_once
from tests.object_store import ObjectStore
from tests.served import Served
from tests.waiting import until

ROOT = Path(__file__).parents[2]
PATIENCE_S = 600.0  # for a whole sweep on a machine that has more to do
SWEEP = """
name: elsewhere
fit:
  model: {class_path: their_models.Slow, init_args: {say: "hello from a trial"}}
  data: {class_path: their_models.Rows}
  optimizer: {class_path: torch.optim.SGD, init_args: {lr: 0.01}}
  trainer: {max_epochs: 9, accelerator: cpu}
metric: {name: val_loss, goal: minimize}
parameters:
  model.init_args.width: {values: [2, 4, 8]}
  optimizer.init_args.lr: {min: 0.001, max: 0.1, distribution: log_uniform}
search: {name: random}
scheduler: {name: asha, max_epochs: 9, grace_epochs: 1, reduction_factor: 3}
budget: {max_trials: 5, max_concurrent_trials: 2}
"""
SLOW = '''

import os, time


class Slow(Toy):
    """Slow enough to be killed in the middle; waits in its third epoch for the file MAY_GO_ON."""

    def on_validation_epoch_end(self) -> None:
        time.sleep(0.25)
        while self.current_epoch >= 2 and not os.path.exists(MAY_GO_ON):
            time.sleep(0.05)
        super().on_validation_epoch_end()
'''


def their_models(may_go_on: Path) -> str:
    """The source of a module that is installed nowhere."""
    toy = (Path(__file__).parent / "toy_models.py").read_text()
    return f"{toy}{SLOW}\n\nMAY_GO_ON = {str(may_go_on)!r}\n"


def put_code(root: ObjectStorage, may_go_on: Path) -> str:
    """A package with a module that this machine has nowhere else; its digest."""
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        archive.writestr("their_models.py", their_models(may_go_on))
    digest = hashlib.sha256(packed.getvalue()).hexdigest()
    root.replace(f"packages/{digest}.zip", packed.getvalue())
    return digest


def short_folder() -> Path:
    """A temporary folder whose path leaves room for those of Ray's sockets."""
    folder = Path(tempfile.gettempdir()) / f"t{secrets.token_hex(2)}"
    folder.mkdir()
    return folder


class Machine:
    """A machine that runs drivers: it has a temporary folder of its own, and loses it with all processes."""

    def __init__(self, home: Path, address: str) -> None:
        self.temporary = short_folder()
        command = [sys.executable, "-P", "-m", "service.tuning.driver", address, "--home", str(home)]
        environment = {**os.environ, "PYTHONPATH": str(ROOT), "TMPDIR": str(self.temporary)}
        self.process = subprocess.Popen(command, env=environment, cwd=self.temporary, start_new_session=True)

    def lose(self) -> None:
        """Kill everything at once, and forget what was on its disk."""
        if self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()
        shutil.rmtree(self.temporary, ignore_errors=True)


@pytest.fixture
def machine() -> Iterator[Callable[[Path, str], Machine]]:
    started: list[Machine] = []

    def begin(home: Path, address: str) -> Machine:
        started.append(Machine(home, address))
        return started[-1]

    yield begin
    for each in started:
        each.lose()


def events(place: ObjectStorage, *kinds: type) -> list[Any]:
    return [record.event for record in read_ledger(place) if isinstance(record.event, kinds)]


def said(place: ObjectStorage) -> str:
    """What the drivers have left, for a test that fails."""
    found = []
    for name in (*(f"logs/{log}" for log in place.names("logs")), "progress.json"):
        with contextlib.suppress(FileNotFoundError):
            found.append(f"{name}:\n{place.read(name).decode()[-3000:]}")
    return "\n".join(found)


def checkpoints(place: ObjectStorage) -> int:
    return sum(event.checkpoint is not None for event in events(place, Reported))


@pytest.mark.slow
def test_a_sweep_goes_on_on_another_machine(
    tmp_path: Path, s3: ObjectStore, machine: Callable[[Path, str], Machine]
) -> None:
    may_go_on = tmp_path / "may-go-on"
    home = tmp_path / "home"  # MLflow's, which a tracking server would be; of the sweep nothing is in there
    root = object_storage(f"{s3.url}/team")
    sweep = root / "sweeps" / "elsewhere-20261122-abcdef"
    spec = parse_sweep(SWEEP, file="sweep.yaml", root=tmp_path)
    write_job(sweep, Job(sweep.name, spec.to_dict(), f"{root}/packages/{put_code(root, may_go_on)}.zip"))
    first = machine(home, str(sweep))

    def is_of_use() -> bool:
        assert first.process.poll() is None, said(sweep)
        return checkpoints(sweep) >= 2  # so that one of them is

    until(is_of_use, PATIENCE_S, every_s=0.3, told=lambda: said(sweep))
    first.lose()
    may_go_on.touch()
    before = events(sweep, Reported)

    asked = len(s3.requests())
    second = machine(home, str(sweep))
    assert second.process.wait(PATIENCE_S) == 0, said(sweep)
    assert [left for own in second.temporary.glob("tuneyard-*") for left in (own / "work").glob("*")] == []
    assert not list((home).glob("sweeps/*"))

    reports = events(sweep, Reported)
    assert reports[: len(before)] == before
    assert max(Counter((e.trial, e.epoch) for e in reports).values()) == 1
    assert sorted(e.trial for e in events(sweep, TrialEnded)) == list(range(5))
    assert [type(e) for e in events(sweep, SweepEnded)] == [SweepEnded]
    assert len({e.lease_epoch for e in events(sweep, DriverStarted)}) == 2
    assert any(e.checkpoint is not None for e in events(sweep, AttemptStarted)), "no checkpoint was of use"
    check_exactly_once(home, read_ledger(sweep), sweep.name)
    progress = json.loads(sweep.read("progress.json"))
    assert (progress["state"], progress["tracking"]["delivered"]) == ("completed", True)
    assert {"report.html", "report.json", "best.yaml"} <= set(sweep.names("report"))
    assert "hello from a trial" in sweep.read("logs/trial-0.log").decode()
    assert b"taking over" in sweep.read("logs/driver.log") or b"Ray is up" in sweep.read("logs/driver.log")
    counts = Counter(line.split()[0] for line in s3.requests()[asked:])
    assert sum(counts.values()) < 3000, counts


def drivers_of(place: ObjectStorage) -> list[int]:
    """Processes that drive the sweep."""
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            line = process.cmdline()
            if "service.tuning.driver" in line and str(place) in line and not line[0].endswith("sh"):
                found.append(process.pid)
    return found


@pytest.mark.slow
def test_the_service_runs_shows_and_deletes_a_sweep_that_only_the_store_has(tmp_path: Path, s3: ObjectStore) -> None:
    home, code, temporary = tmp_path / "home", tmp_path / "code", short_folder()
    code.mkdir()
    may_go_on = tmp_path / "may-go-on"
    (code / "their_models.py").write_text(their_models(may_go_on))
    (code / "sweep.yaml").write_text(SWEEP)
    root = object_storage(f"{s3.url}/{tmp_path.name}")
    environment = {**s3.variables, "TMPDIR": str(temporary), "TUNEYARD_STORAGE": str(root)}
    try:
        with Served(home, "--cluster", "local", environment=environment) as served, served.client() as client:
            sweep = client.submit(code / "sweep.yaml").id
            place = root / "sweeps" / sweep
            until(lambda: has_begun(client, place), PATIENCE_S, every_s=0.3, told=lambda: said(place))
            (driver,) = drivers_of(place)
            os.kill(driver, signal.SIGKILL)
            may_go_on.touch()
            log = "".join(client.follow_logs(sweep))
            assert log.count("Ray is up") == 2, log
            found = client.wait(sweep)
            assert (found.state, found.progress["trials"]["total"]) == (State.COMPLETED, 5), found.reason
            assert len(client.trials(sweep).trials) == 5
            assert "hello from a trial" in client.logs(sweep, trial=0).text
            assert client.report(sweep)["sweep"]["state"] == "completed"
            assert b"<html" in client.report_page(sweep)
            assert "their_models.Slow" in str(client.best(sweep).config)
            check_exactly_once(home, read_ledger(place), sweep)
            assert not (home / "sweeps").exists()
            client.delete(sweep)
            until(lambda: place.names("") == [], every_s=0.3, told=lambda: str(place.names("")))
            assert len(root.names("packages")) == 1
    finally:
        ray_head.end(home / "ray")
        shutil.rmtree(temporary, ignore_errors=True)


def has_begun(client: Client, place: ObjectStorage) -> bool:
    """Whether the sweep has saved what another driver can go on from, and its log is where others see it."""
    assert not client.sweep(place.name).state.is_over, said(place)
    has_log = "driver.log" in place.names("logs") and b"Ray is up" in place.read("logs/driver.log")
    return has_log and checkpoints(place) >= 2


@pytest.mark.parametrize(
    ("url", "says"),
    [("s3://nobody/x", "NoSuchBucket.*Make the bucket"), ("/mnt/shared", "no location of an object store")],
)
def test_a_store_that_cannot_be_used_is_refused_at_the_start(
    tmp_path: Path, s3: ObjectStore, url: str, says: str
) -> None:
    command = [sys.executable, "-m", "service.cli", "--data-dir", str(tmp_path), "serve", "--port", "0"]
    environment = {**os.environ, **s3.variables, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [*command, "--storage", url], env=environment, capture_output=True, text=True, timeout=PATIENCE_S, check=False
    )
    assert done.returncode != 0
    assert re.search(says, " ".join(done.stderr.split())), done.stderr
    assert "Traceback" not in done.stderr
