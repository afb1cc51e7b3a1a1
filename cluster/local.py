"""Runs a job as a process of this machine, in a session of its own, with its record in a folder others can read."""

from __future__ import annotations

import fcntl
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import psutil

from cluster._supervisor import process_mark
from cluster.backend import Backend, Capacity, JobError, JobRequest, JobState, JobStatus, LogChunk, UnknownJobError

_SUPERVISOR = Path(__file__).with_name("_supervisor.py")
_GPUS = Path("/proc/driver/nvidia/gpus")
_TERMINATE_WAIT_S = 5.0
_SUPERVISOR_WAIT_S = 8.0  # longer than it waits for what the job has left behind
_POLL_S = 0.05


def build(location: str) -> Backend:
    """The backend whose jobs each have a folder `<location>/<job_id>` with `job.json` and `logs/driver.log`."""
    return LocalBackend(Path(location))


class LocalBackend:
    """Jobs of this machine under one folder; any process that may read the folder can ask and stop."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._supervisors: list[subprocess.Popen[str]] = []

    def submit(self, request: JobRequest) -> JobStatus:
        """Start the job in a session of its own; see `Backend.submit`."""
        if not request.argv:
            msg = f"job {request.job_id} has no command to run"
            raise JobError(msg)
        if request.pip:
            msg = f"job {request.job_id} asks for pip packages, which are not installed for jobs of this machine"
            raise JobError(msg)
        self._job_folder(request.job_id).mkdir(parents=True, exist_ok=True)
        with self._lock(request.job_id):
            record = self._record(request.job_id)
            if record is None:
                self._start(request)
            elif request.attempt > record["attempt"]:
                if not self._status_of(request.job_id, record).state.is_over:
                    msg = f"attempt {record['attempt']} of job {request.job_id} still runs; stop it first"
                    raise JobError(msg)
                self._start(request)
        return self.status(request.job_id)

    def status(self, job_id: str) -> JobStatus:
        """Where the job stands, from its record and from the process table."""
        self._reap()
        return self._status_of(job_id, self._known(job_id))

    def statuses(self, job_ids: Iterable[str]) -> dict[str, JobStatus]:
        """Those of `job_ids` that were submitted, each with where it stands."""
        self._reap()
        records = {job_id: self._record(job_id) for job_id in job_ids}
        return {job_id: self._status_of(job_id, record) for job_id, record in records.items() if record is not None}

    def stop(self, job_id: str, *, wait_s: float = 30.0) -> JobStatus:
        """SIGINT, then SIGTERM, then SIGKILL for the job and all its descendants; see `Backend.stop`."""
        record = self._known(job_id)
        status = self._status_of(job_id, record)
        if status.state.is_over:
            return status
        with suppress(OSError):  # it has to end, even where that cannot be noted
            (self._job_folder(job_id) / f"stop-{record['attempt']}").touch()
        attempt, record = record["attempt"], self._known(job_id)  # it may have been started again a moment ago
        if record["attempt"] != attempt:
            return self._status_of(job_id, record)  # by somebody who wants it to run
        process = _process(record["pid"], record["mark"])
        if process is not None and not (wait_s > 0 and _end(process, signal.SIGINT, wait_s)):
            tree = _descendants(process)
            if wait_s > 0:
                _end(process, signal.SIGTERM, _TERMINATE_WAIT_S)
            _kill({process, *tree, *_descendants(process)})
        self._await_supervisor(record)
        return self.status(job_id)

    def forget(self, job_id: str) -> None:
        """Remove the record of a job that is over; what it wrote stays in its folder."""
        if self._record(job_id) is None:
            return
        with self._lock(job_id):
            record = self._record(job_id)
            if record is not None and not self._status_of(job_id, record).state.is_over:
                msg = f"job {job_id} still runs; stop it first"
                raise JobError(msg)
            folder = self._job_folder(job_id)
            for left in (folder / "job.json", *folder.glob("stop-*")):
                left.unlink(missing_ok=True)

    def logs(self, job_id: str, *, offset: int = 0) -> LogChunk:
        """What the job wrote to stdout and stderr, all attempts one after the other."""
        self._known(job_id)
        with _log_path(self._job_folder(job_id)).open("rb") as stream:
            stream.seek(offset)
            data = stream.read()
        return LogChunk(data.decode(errors="replace"), offset + len(data))

    def capacity(self) -> Capacity:
        """The processors that this process may use, and the machine's NVIDIA GPUs."""
        cpus = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
        return Capacity(float(cpus), float(len(list(_GPUS.glob("*")))), nodes=1)

    def _start(self, request: JobRequest) -> None:
        folder = self._job_folder(request.job_id)
        log = _log_path(folder)
        log.parent.mkdir(exist_ok=True)
        numbers = (str(request.attempt), str(request.restarts))
        command = [sys.executable, "-P", str(_SUPERVISOR), str(folder / "job.json"), str(log), *numbers]
        supervisor = subprocess.Popen(
            [*command, *request.argv],
            cwd=_working_directory(request),
            env=_environment(request),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
            text=True,
        )
        self._supervisors.append(supervisor)
        if supervisor.stdout is None:
            return
        with supervisor.stdout as pipe:
            answer = pipe.read()
        if answer != "started":
            msg = f"job {request.job_id} was not started: {answer.strip() or 'its supervisor died'}"
            raise JobError(msg)

    def _status_of(self, job_id: str, record: dict[str, Any]) -> JobStatus:
        attempt = record["attempt"]
        if not _is_running(record):
            record = self._settled(job_id, record)
        if _is_running(record):
            return JobStatus(job_id, attempt, JobState.RUNNING, message=f"process {record['pid']}")
        code: int | None = record.get("exit_code")
        if (self._job_folder(job_id) / f"stop-{attempt}").exists():
            return JobStatus(job_id, attempt, JobState.STOPPED, code, "stopped on request")
        if code == 0:
            return JobStatus(job_id, attempt, JobState.SUCCEEDED, code)
        return JobStatus(job_id, attempt, JobState.FAILED, code, _ending(code))

    def _settled(self, job_id: str, record: dict[str, Any]) -> dict[str, Any]:
        """The record once the supervisor has had its say: the exit code of a dead job, or that it was started again."""
        supervisor = _process(record["supervisor"], record["supervisor_mark"])
        deadline = time.monotonic() + _SUPERVISOR_WAIT_S
        found = record
        while "exit_code" not in found and not _is_running(found) and time.monotonic() < deadline:
            if supervisor is None or not _is_alive(supervisor):
                break
            time.sleep(_POLL_S)
            found = self._record(job_id) or found
        self._reap()
        return self._record(job_id) or found

    def _await_supervisor(self, record: dict[str, Any]) -> None:
        supervisor = _process(record["supervisor"], record["supervisor_mark"])
        deadline = time.monotonic() + _SUPERVISOR_WAIT_S
        while supervisor is not None and _is_alive(supervisor) and time.monotonic() < deadline:
            time.sleep(_POLL_S)
        self._reap()

    def _reap(self) -> None:
        self._supervisors = [supervisor for supervisor in self._supervisors if supervisor.poll() is None]

    def _job_folder(self, job_id: str) -> Path:
        if not job_id or job_id.startswith(".") or "/" in job_id:
            msg = f"{job_id!r} is no job id: it may not be empty, hold a slash or start with a dot"
            raise JobError(msg)
        return self._folder / job_id

    def _record(self, job_id: str) -> dict[str, Any] | None:
        path = self._job_folder(job_id) / "job.json"
        try:
            record = json.loads(path.read_bytes())
        except FileNotFoundError:
            return None
        except ValueError:
            record = None
        if not (isinstance(record, dict) and {"attempt", "pid", "mark"} <= record.keys()):
            msg = f"{path} is damaged, so nobody knows whether the job runs: delete it once no process of {job_id} does"
            raise JobError(msg)
        return record

    def _known(self, job_id: str) -> dict[str, Any]:
        record = self._record(job_id)
        if record is None:
            msg = f"no job {job_id!r} was ever submitted under {self._folder}"
            raise UnknownJobError(msg)
        return record

    @contextmanager
    def _lock(self, job_id: str) -> Iterator[None]:
        with (self._job_folder(job_id) / ".submit").open("w") as stream:
            fcntl.flock(stream, fcntl.LOCK_EX)
            yield


def _log_path(folder: Path) -> Path:
    return folder / "logs" / "driver.log"


def _working_directory(request: JobRequest) -> Path:
    folder = Path(request.folder)
    if not folder.is_dir():
        msg = f"job {request.job_id} cannot start: its working directory {folder} does not exist"
        raise JobError(msg)
    return folder


def _environment(request: JobRequest) -> dict[str, str]:
    merged: dict[str, str | None] = {**os.environ, **request.env}
    return {name: value for name, value in merged.items() if value is not None}


def _ending(code: int | None) -> str:
    if code is None:
        return "killed before it could say why"
    return f"killed by {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"


def _is_running(record: dict[str, Any]) -> bool:
    return "exit_code" not in record and _process(record["pid"], record["mark"]) is not None


def _process(pid: int, mark: str | None) -> psutil.Process | None:
    """The living process that was recorded; None where it is gone, or where its pid went to another one."""
    try:
        process = psutil.Process(pid)
    except psutil.NoSuchProcess:
        return None
    return process if mark == process_mark(pid) and _is_alive(process) else None


def _is_alive(process: psutil.Process) -> bool:
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def _descendants(process: psutil.Process) -> list[psutil.Process]:
    try:
        return process.children(recursive=True)
    except psutil.NoSuchProcess:
        return []


def _end(process: psutil.Process, number: signal.Signals, wait_s: float) -> bool:
    """Send a signal and wait; True once the process is gone."""
    deadline = time.monotonic() + wait_s
    with suppress(psutil.NoSuchProcess):
        process.send_signal(number)
    while _is_alive(process) and time.monotonic() < deadline:
        time.sleep(_POLL_S)
    return not _is_alive(process)


def _kill(tree: set[psutil.Process]) -> None:
    for member in tree:
        with suppress(psutil.NoSuchProcess):
            member.kill()
