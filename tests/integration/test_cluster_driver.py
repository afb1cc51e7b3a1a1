"""A sweep as a job of a Ray cluster: its driver joins, obeys while it runs, is stopped, goes on, and is extended."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx2

from cluster import ray_head
from cluster.backend import JobState, JobStatus
from service.sweeps.dispatch import JOINED, job_request
from service.sweeps.folders import Sweep
from service.tuning.control import Control, write_control
from service.tuning.events import AttemptEnded, DriverStarted, SweepEnded, SweepExtended, TrialEnded
from service.tuning.ledger import read_ledger
from service.tuning.replay import replay_folder
from tests.integration.mlflow_peer import check_exactly_once
from tests.integration.runners import GATE
from tests.integration.test_driver import PATIENCE_S, ROOT, RUNNERS, SWEEP, of, prepare, wait_for

BUDGET = "max_trials: 6, max_concurrent_trials: 2", "max_trials: 4, max_concurrent_trials: 8"
EPOCHS = "max_epochs: 4", "max_epochs: 10000"  # more than there is time for: no trial ends before it is told to


class Submitted:
    """A sweep on that cluster, as the service has it."""

    def __init__(self, home: Path, head: ray_head.RayHead) -> None:
        self.home, self.head, self.backend = home, head, head.backend()
        self.gate = home / "gate"
        self.folder = prepare(home, runner="runners:endless", text=SWEEP.replace(*BUDGET).replace(*EPOCHS))

    def submit(self, attempt: int) -> None:
        request = job_request(self.home, Sweep(self.folder), attempt, ray_address=JOINED)
        more = {"PYTHONPATH": f"{ROOT}:{RUNNERS}", GATE: str(self.gate)}
        self.backend.submit(replace(request, env={**request.env, **more}))

    def status(self) -> JobStatus:
        return self.backend.status(self.folder.name)

    def ended(self) -> JobStatus:
        wait_for(lambda: self.status().state.is_over)
        return self.status()

    def ask(self, **asked: int) -> None:
        write_control(self.folder, Control(asked.get("max_concurrent_trials"), asked.get("max_trials")))

    def progress(self) -> dict[str, Any]:
        path = self.folder / "progress.json"
        found: dict[str, Any] = json.loads(path.read_bytes()) if path.exists() else {}
        return found

    def workers(self) -> int:
        """How many workers hold a place on the cluster."""
        token = Path(self.head.token_path).read_text()
        url = f"{self.head.url}/api/v0/actors?detail=1&limit=1000"
        answer = httpx2.get(url, headers={"Authorization": f"Bearer {token}"}, timeout=PATIENCE_S).json()
        actors = answer["data"]["result"]["result"]
        return sum(a["class_name"] == "Attempt" and a["state"] == "ALIVE" for a in actors)


def test_a_sweep_on_a_cluster(tmp_path: Path, ray: ray_head.RayHead) -> None:
    sweep = Submitted(tmp_path / "home", ray)
    sweep.ask(max_concurrent_trials=2)
    sweep.submit(1)
    wait_for(lambda: sweep.workers() == 2)
    sweep.ask(max_concurrent_trials=1)
    wait_for(lambda: sweep.workers() == 1)
    sweep.ask(max_concurrent_trials=2)
    wait_for(lambda: sweep.workers() == 2)

    assert sweep.backend.stop(sweep.folder.name).state is JobState.STOPPED
    assert sweep.progress()["state"] == "paused"
    sweep.ask(max_trials=5)
    sweep.gate.touch()
    sweep.submit(2)
    ended = JobStatus(sweep.folder.name, 2, JobState.SUCCEEDED, 0)
    assert sweep.ended() == ended, sweep.backend.logs(sweep.folder.name).text
    assert sweep.progress()["state"] == "completed"
    assert [type(e) for e in of(sweep.folder, SweepEnded, SweepExtended)] == [SweepExtended, SweepEnded]
    assert len(of(sweep.folder, DriverStarted)) == 2
    assert [e.ending for e in of(sweep.folder, TrialEnded)] == ["completed"] * 5
    assert "fewer trials run at once from here on" in {e.cause for e in of(sweep.folder, AttemptEnded)}
    assert replay_folder(sweep.folder).difference is None
    check_exactly_once(sweep.home, read_ledger(sweep.folder), sweep.folder.name)
