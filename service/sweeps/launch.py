"""Starts, resumes, watches and stops a sweep's driver on this machine: where sweep folders meet the local backend."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Final

from cluster.backend import Backend, JobError, JobStatus, UnknownJobError
from cluster.local import build
from service.errors import BackendError, Fault, SpecError, SweepRunningError
from service.spec.budget import max_trials_of
from service.sweeps.dispatch import job_request
from service.sweeps.folders import Sweep, create, every, one_at_a_time, sweeps_folder
from service.tuning.control import Control, read_control, write_control
from service.tuning.sweep_folder import Job

FINAL_STATES: Final = ("completed", "failed")
ENDED_STATES: Final = (*FINAL_STATES, "paused", "refused")
_LOG_TAIL = 15


def backend(home: Path) -> Backend:
    """The local backend, whose job folders are the sweeps' own."""
    return build(str(sweeps_folder(home)))


def start(home: Path, job: Job, past: bytes | None = None) -> Sweep:
    """Make a sweep and start its driver; `past` as `sweeps.create` takes it.

    SpecError where a sweep of the same name is running.
    """
    name = job.spec["name"]
    with one_at_a_time(home):
        for other in every(home):
            if other.name == name and is_running(home, other):
                message = (
                    f"a sweep of this name is running: {other.id}. Watch it with `tuneyard watch {other.id}`, "
                    f"stop it with `tuneyard stop {other.id}`, or give this one another name with `--name`"
                )
                raise SpecError([Fault(message, path="name", given=name)])
        sweep = create(home, job, {"folder": str(Path.cwd())}, past)
        _submit(home, sweep, attempt=1)
    return sweep


def resume(home: Path, sweep: Sweep) -> None:
    """Start a driver again on a sweep that has none. SweepRunningError where it has one, or is over for good."""
    with one_at_a_time(home):
        if is_running(home, sweep):
            msg = f"{sweep.id} is running; watch it with `tuneyard watch {sweep.id}`"
            raise SweepRunningError(msg)
        progress = sweep.progress() or {}
        if progress.get("state") in FINAL_STATES and not _is_to_be_extended(sweep):
            msg = (
                f"{sweep.id} has {progress['state']}: {progress.get('reason', '')}; there is nothing left to resume. "
                f"`tuneyard extend {sweep.id} --max-trials N` goes on with more trials"
            )
            raise SweepRunningError(msg)
        _start_again(home, sweep, "resuming")


def extend(home: Path, sweep: Sweep, max_trials: int) -> bool:
    """Let a sweep try up to `max_trials` configurations, also one that is over; whether a driver was started for it.

    A driver that is at work takes it up by itself. SpecError where that is not more than before.
    """
    before = max_trials_of(sweep.spec())
    if before is None or max_trials <= before:
        limit = "the sweep has no limit of trials" if before is None else f"it may try {before} already; give more"
        raise SpecError([Fault(f"{limit}: {sweep.id}", path="budget.max_trials", given=str(max_trials))])
    with one_at_a_time(home):
        control = read_control(sweep.folder) or Control()
        write_control(sweep.folder, replace(control, max_trials=max_trials))
        if is_running(home, sweep):
            return False
        _start_again(home, sweep, "extending")
    return True


def _is_to_be_extended(sweep: Sweep) -> bool:
    """Whether more trials were asked for when its driver had no ear for it any more."""
    asked, before = (read_control(sweep.folder) or Control()).max_trials, max_trials_of(sweep.spec())
    return asked is not None and before is not None and asked > before


def _start_again(home: Path, sweep: Sweep, reason: str) -> None:
    progress = sweep.progress()
    if progress:
        sweep.write_progress({**progress, "state": "starting", "reason": reason, "is_final": False})
    status = job_status(home, sweep)
    _submit(home, sweep, attempt=status.attempt + 1 if status else 1)


def is_running(home: Path, sweep: Sweep) -> bool:
    """Whether a driver is at work on the sweep; not any more once it has only to end its own processes."""
    if (sweep.progress() or {}).get("is_final"):
        return False
    status = job_status(home, sweep)
    return status is not None and not status.state.is_over


def job_status(home: Path, sweep: Sweep) -> JobStatus | None:
    """The status of the sweep's newest driver; None where none was ever started here."""
    with _plain_errors():
        try:
            return backend(home).status(sweep.id)
        except UnknownJobError:
            return None


def state(home: Path, sweep: Sweep) -> str:
    """One word: starting, running, paused, completed, failed, interrupted, or unreadable.

    A driver that died without a word leaves an interrupted sweep, a damaged record of its job an unreadable one.
    """
    said = str((sweep.progress() or {}).get("state", "starting"))
    try:
        if said in FINAL_STATES or is_running(home, sweep):
            return said
    except BackendError:
        return "unreadable"
    return said if said in ENDED_STATES else "interrupted"


def stop(home: Path, sweep: Sweep, *, wait_s: float) -> JobStatus:
    """Stop the sweep's driver and wait for it; `wait_s=0` kills it."""
    with _plain_errors():
        return backend(home).stop(sweep.id, wait_s=wait_s)


def log_tail(home: Path, sweep: Sweep) -> str:
    """The last lines the driver wrote."""
    with _plain_errors():
        return "\n".join(backend(home).logs(sweep.id).text.splitlines()[-_LOG_TAIL:])


def _submit(home: Path, sweep: Sweep, attempt: int) -> None:
    with _plain_errors():
        backend(home).submit(job_request(home, sweep, attempt))


@contextmanager
def _plain_errors() -> Iterator[None]:
    try:
        yield
    except JobError as error:
        raise BackendError(str(error)) from error
