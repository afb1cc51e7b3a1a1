"""What Ray tells of one submission, as the attempt at a job that it is, and how its endings read."""

from __future__ import annotations

import contextlib
import json
import signal
from dataclasses import dataclass
from typing import Any, Final

from cluster.backend import JobState, JobStatus

JOB, ATTEMPT = "tuneyard_job", "tuneyard_attempt"  # metadata by which submissions are found again
NO_FOLDER, NO_COMMAND, OF_SIGNAL = 126, 127, 128  # a shell's exit codes; a signal's number is added to the last
_ATTEMPTS: Final = 2**31  # more than there can be of one job
_STATES: Final = {
    "PENDING": JobState.PENDING,
    "RUNNING": JobState.RUNNING,
    "SUCCEEDED": JobState.SUCCEEDED,
    "FAILED": JobState.FAILED,
    "STOPPED": JobState.STOPPED,
}


@dataclass(frozen=True, slots=True)
class Attempt:
    """One submission to Ray."""

    submission_id: str
    attempt: int
    entrypoint: str
    status: JobStatus

    @classmethod
    def of(cls, job_id: str, about: dict[str, Any]) -> Attempt:
        """The attempt that Ray tells of. KeyError, TypeError, ValueError where it is none of Tuneyard's."""
        attempt = int(about["metadata"][ATTEMPT])
        if not 0 < attempt < _ATTEMPTS:
            msg = f"{attempt} is no number of an attempt"
            raise ValueError(msg)
        state, code = _STATES.get(about["status"], JobState.FAILED), exit_code(about.get("driver_exit_code"))
        status = JobStatus(job_id, attempt, state, code, message(state, code, about.get("message") or ""))
        return cls(about["submission_id"], attempt, about["entrypoint"], status)


def exit_code(code: int | None) -> int | None:
    """As a process has it: a shell adds 128 to the number of the signal that killed its command."""
    return code if code is None or code <= OF_SIGNAL else OF_SIGNAL - code


def message(state: JobState, code: int | None, said: str) -> str:
    """How a job ended, for a person, from what Ray says of it."""
    if state is JobState.STOPPED:
        return "stopped on request"
    if state is not JobState.FAILED or code is None:
        return "" if state is JobState.SUCCEEDED else said
    if code in (NO_FOLDER, NO_COMMAND):
        return last_line(said)
    with contextlib.suppress(ValueError):
        return f"killed by {signal.Signals(-code).name}"
    return f"exit code {code}"


def last_line(text: str) -> str:
    """The last line of what Ray says that says anything."""
    with contextlib.suppress(ValueError, AttributeError):
        text = json.loads(text).get("msg", text)
    lines = [line for line in text.splitlines() if line.strip(" .")]
    return lines[-1].strip() if lines else "it does not say why"
