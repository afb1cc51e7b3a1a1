"""A cluster for fast tests of the controller: jobs without processes, whose drivers do what a test says."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cluster.backend import (
    Capacity,
    JobError,
    JobRequest,
    JobState,
    JobStatus,
    LogChunk,
    PlaceLostError,
    UnknownJobError,
)


@dataclass
class PretendCluster:
    """Obeys the Backend protocol; `submitted` and `stopped` remember what was asked for."""

    home: Path
    cpus: float = 4.0
    is_away: bool = False
    jobs: dict[str, JobStatus] = field(default_factory=dict)
    printed: dict[str, str] = field(default_factory=dict)
    submitted: list[tuple[str, int]] = field(default_factory=list)
    stopped: list[tuple[str, float]] = field(default_factory=list)

    def submit(self, request: JobRequest) -> JobStatus:
        self._check()
        found = self.jobs.get(request.job_id)
        if found is None or request.attempt > found.attempt:
            self.submitted.append((request.job_id, request.attempt))
            self.jobs[request.job_id] = JobStatus(request.job_id, request.attempt, JobState.RUNNING)
        return self.jobs[request.job_id]

    def status(self, job_id: str) -> JobStatus:
        self._check()
        if job_id not in self.jobs:
            raise UnknownJobError(job_id)
        return self.jobs[job_id]

    def statuses(self, job_ids: Iterable[str]) -> dict[str, JobStatus]:
        self._check()
        return {job_id: self.jobs[job_id] for job_id in job_ids if job_id in self.jobs}

    def stop(self, job_id: str, *, wait_s: float = 30.0) -> JobStatus:
        found = self.status(job_id)
        if not found.state.is_over:
            self.stopped.append((job_id, wait_s))
            self.says(job_id, "paused", running=[])
            self.ends(job_id, JobState.STOPPED)
        return self.jobs[job_id]

    def forget(self, job_id: str) -> None:
        self._check()
        found = self.jobs.get(job_id)
        if found is not None and not found.state.is_over:
            msg = f"job {job_id} still runs"
            raise JobError(msg)
        self.jobs.pop(job_id, None)

    def logs(self, job_id: str, *, offset: int = 0) -> LogChunk:
        self.status(job_id)
        text = self.printed.get(job_id, "")[offset:]
        return LogChunk(text, offset + len(text))

    def capacity(self) -> Capacity:
        self._check()
        return Capacity(self.cpus, 0.0, 1)

    def ends(self, job_id: str, state: JobState, message: str = "") -> None:
        """The job is over."""
        found = self.jobs[job_id]
        self.jobs[job_id] = JobStatus(job_id, found.attempt, state, message=message)

    def says(self, sweep_id: str, state: str, **more: Any) -> None:  # noqa: ANN401  # what a progress holds
        """The driver's newest word."""
        path = self.home / "sweeps" / sweep_id / "progress.json"
        known = json.loads(path.read_text()) if path.exists() else {"epochs": 0, "trials": {"total": 4}}
        path.write_text(json.dumps({**known, "state": state, **more}))

    def finishes(self, sweep_id: str, state: str = "completed") -> None:
        """The driver brings the sweep to its end."""
        self.says(sweep_id, state, is_final=True, reason="all trials are over", running=[])
        self.ends(sweep_id, JobState.SUCCEEDED if state == "completed" else JobState.FAILED)

    def allowed(self, sweep_id: str) -> int:
        """How many trials at once the driver was last told."""
        path = self.home / "sweeps" / sweep_id / "control.json"
        return int(json.loads(path.read_text())["max_concurrent_trials"])

    def forgets(self) -> None:
        """The cluster is lost, and comes back without its jobs."""
        self.jobs.clear()

    def is_asked_to_pause(self, sweep_id: str) -> bool:
        """Whether the driver was last told to pause."""
        path = self.home / "sweeps" / sweep_id / "control.json"
        return bool(json.loads(path.read_text()).get("pause"))

    def pauses(self, sweep_id: str) -> None:
        """The driver's trials have saved, and it ends."""
        self.says(sweep_id, "paused", running=[])
        self.ends(sweep_id, JobState.FAILED, "exit code 3")

    def _check(self) -> None:
        if self.is_away:
            msg = "the cluster does not answer"
            raise PlaceLostError(msg)
