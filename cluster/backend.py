"""The one protocol between the rest of Tuneyard and any place where a job can run; a new place is one new file here.

A backend file `cluster/<name>.py` defines `build(location) -> Backend`. Names that start with `_` are no backends.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import NamedTuple, Protocol


class JobError(Exception):
    """A backend refused a job or cannot reach it; the text is meant for a person."""


class UnknownJobError(JobError):
    """No job of this id was ever submitted here, as far as the place remembers: a lost cluster forgets."""


class PlaceLostError(JobError):
    """The place does not answer. Nothing is known of its jobs; whoever asked may try again later."""


class JobState(StrEnum):
    """Where a job stands; the last three are its endings."""

    PENDING = "pending"
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    STOPPED = "stopped"

    @property
    def is_over(self) -> bool:
        """Whether the job's process is gone for good."""
        return self not in (JobState.PENDING, JobState.RUNNING)


@dataclass(frozen=True, slots=True)
class JobRequest:
    """What to run: an argument list, never a shell line.

    `attempt` counts from 1: the same attempt submitted again is the same job, a higher one starts an ended job anew.
    `folder` is the working directory; `env` is added to the environment that the job would have anyway (the submitter's
    where it runs as its process, the cluster's elsewhere), None removes a variable. It may be shown to whoever may look
    at the job, so no secret belongs in it. `cpu` and `gpu` are reserved for the command itself. `pip` are requirements
    that are installed beside what is there; a place that cannot do that refuses the job. `metadata` only describes.
    A command that a signal has killed, though nobody asked for the job's end, is started again, up to `restarts` times.
    """

    job_id: str
    argv: tuple[str, ...]
    folder: str
    attempt: int = 1
    env: Mapping[str, str | None] = field(default_factory=dict)
    cpu: float = 0.0
    gpu: float = 0.0
    restarts: int = 0
    pip: tuple[str, ...] = ()
    metadata: Mapping[str, str] = field(default_factory=dict)


class Node(NamedTuple):
    """What one machine of a place has for jobs."""

    cpus: float
    gpus: float
    memory_bytes: float = math.inf


@dataclass(frozen=True, slots=True)
class Capacity:
    """What a place has for all its jobs together, used or not; and each of its nodes, where they are known."""

    cpus: float
    gpus: float
    nodes: int
    of_nodes: tuple[Node, ...] = ()


@dataclass(frozen=True, slots=True)
class JobStatus:
    """What is known of a job. `exit_code` is None while it runs, and where it was killed before it could say."""

    job_id: str
    attempt: int
    state: JobState
    exit_code: int | None = None
    message: str = ""


@dataclass(frozen=True, slots=True)
class LogChunk:
    """Text that a job wrote, and the offset from which to ask on."""

    text: str
    next_offset: int


class Backend(Protocol):
    """A place where jobs run. Every method may be called from another process than the one that submitted."""

    def submit(self, request: JobRequest) -> JobStatus:
        """Start the job, or return the status of the one that this request started before.

        JobError where the command cannot be started, or where an earlier attempt of the job still runs.
        """

    def status(self, job_id: str) -> JobStatus:
        """Where the job stands; UnknownJobError for an id that was never submitted."""

    def statuses(self, job_ids: Iterable[str]) -> dict[str, JobStatus]:
        """Where several jobs stand, in one question; those that were never submitted are left out.

        May be behind on what somebody else has submitted or had forgotten, by half a minute at most; `status` is not.
        """

    def stop(self, job_id: str, *, wait_s: float = 30.0) -> JobStatus:
        """Interrupt the job, wait for a clean end, then kill what is left of it. A job that is over stays as it is.

        Blocks for `wait_s` and a few seconds at most; `wait_s=0` kills at once. UnknownJobError as in `status`.
        """

    def forget(self, job_id: str) -> None:
        """Have the place forget a job that is over: its id is as if never submitted. Nothing where it is unknown.

        JobError where the job still runs.
        """

    def logs(self, job_id: str, *, offset: int = 0) -> LogChunk:
        """What the job wrote from byte `offset` on, after its end too; UnknownJobError as in `status`."""

    def capacity(self) -> Capacity:
        """What the place has; PlaceLostError where it does not answer, or has no node for now."""
