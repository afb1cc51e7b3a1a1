"""What KubeRay says of a RayJob, as the state of a job: which of its words mean that nothing runs any more."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Final

from cluster._kube_manifest import ATTEMPT_LABEL, JOB_LABEL
from cluster._ray_attempt import exit_code, message
from cluster.backend import JobState, JobStatus

STOP: Final = "tuneyard.dev/stop"  # an annotation: which attempt somebody has asked to end
_ENDED: Final = {"SUCCEEDED": JobState.SUCCEEDED, "FAILED": JobState.FAILED, "STOPPED": JobState.STOPPED}
_UNPLACED: Final = ("", "Suspended")  # no pod of it is there
_CODE: Final = re.compile(r"failed with exit code (-?\d+)")
_WAITING: Final = {
    "": "KubeRay's operator has not taken it up yet",
    "Initializing": "its Ray cluster is coming up",
    "Waiting": "it waits for somebody to submit it, which nobody does here",
    "Suspending": "its Ray cluster is being taken away",
    "Suspended": "it waits for Kueue to admit it",
    "Retrying": "KubeRay makes its Ray cluster anew",
    "Running": "its Ray cluster is there, and the job has not started",
}
# Why KubeRay gave a job up without a word of the job itself, as a person would say it.
_REASONS: Final = {
    "SubmissionFailed": "it could not be submitted to its Ray cluster",
    "DeadlineExceeded": "it ran beyond its deadline (activeDeadlineSeconds)",
    "PreRunningDeadlineExceeded": "its Ray cluster did not come up in time (preRunningDeadlineSeconds)",
    "JobStatusCheckTimeoutExceeded": "the head of its Ray cluster was lost",
    "AppFailed": "the head of its Ray cluster was lost",
    "ValidationFailed": "KubeRay refuses its manifest",
    "JobDeploymentStatusTransitionGracePeriodExceeded": "KubeRay lost sight of it",
}


def is_ours(job: Mapping[str, Any]) -> bool:
    """Whether a RayJob is the job of an attempt of ours."""
    labels = job["metadata"].get("labels") or {}
    return JOB_LABEL in labels and str(labels.get(ATTEMPT_LABEL, "")).isdecimal()


def attempt_of(job: Mapping[str, Any]) -> int:
    """Which attempt a RayJob of ours is."""
    return int(job["metadata"]["labels"][ATTEMPT_LABEL])


def status_of(job: Mapping[str, Any]) -> JobStatus:
    """Where a RayJob of ours stands."""
    attempt, about = attempt_of(job), job.get("status") or {}
    name, said = str(job["metadata"]["name"]), str(about.get("message") or "")
    state = _state(about)
    if not state.is_over:
        return JobStatus(name, attempt, state, message=_waiting(job, about) if state is JobState.PENDING else "")
    is_told = (job["metadata"].get("annotations") or {}).get(STOP) == str(attempt)
    found = _CODE.search(said)
    code = 0 if state is JobState.SUCCEEDED else None if found is None else exit_code(int(found[1]))
    if state is JobState.STOPPED or (is_told and state is JobState.FAILED):
        return JobStatus(name, attempt, JobState.STOPPED, None, "stopped on request")
    if code is None and state is JobState.FAILED:
        reason = str(about.get("reason") or about.get("jobDeploymentStatus") or "")
        why = _REASONS.get(reason, "KubeRay gave it up")
        return JobStatus(name, attempt, state, None, f"{why} ({reason}){f': {said}' if said else ''}")
    return JobStatus(name, attempt, state, code, message(state, code, said))


def is_unplaced(job: Mapping[str, Any]) -> bool:
    """Whether nothing of the job is on any node."""
    return str((job.get("status") or {}).get("jobDeploymentStatus") or "") in _UNPLACED


def is_overdue(job: Mapping[str, Any], now: datetime, limit_s: float) -> bool:
    """Whether KubeRay holds a job to be running that has not begun for so long: its submitter is stuck, for ever."""
    about = job.get("status") or {}
    if about.get("jobDeploymentStatus") != "Running" or about.get("jobStatus"):
        return False
    began = time_of(about.get("startTime") or job["metadata"].get("creationTimestamp"))
    return began is not None and (now - began).total_seconds() > limit_s


def ended_at(job: Mapping[str, Any]) -> datetime | None:
    """When a job that is over ended, as far as KubeRay says; None while it is not over, or KubeRay is not done with it.

    A cluster that is deleted too early is made anew, and then the job is not found on it.
    """
    about = job.get("status") or {}
    if not status_of(job).state.is_over or about.get("jobDeploymentStatus") == "Running":
        return None
    return time_of(about.get("endTime") or about.get("startTime") or job["metadata"].get("creationTimestamp"))


def time_of(text: object) -> datetime | None:
    """A time as Kubernetes writes it."""
    try:
        return datetime.fromisoformat(str(text)).astimezone(UTC)
    except ValueError:
        return None


def _state(about: Mapping[str, Any]) -> JobState:
    placed, job = str(about.get("jobDeploymentStatus") or ""), str(about.get("jobStatus") or "")
    match placed:
        case "Complete":
            return _ENDED.get(job, JobState.FAILED)  # its submitter is done, and the job said nothing: lost
        case "Failed" | "ValidationFailed":
            return JobState.STOPPED if job == "STOPPED" else JobState.FAILED
        case "Running" if job in _ENDED:  # KubeRay waits for its submitter to end
            return _ENDED[job]
        case "Running" if job == "RUNNING":
            return JobState.RUNNING
        case _:  # "Running" without a word of the job means only that its submitter was made
            return JobState.PENDING


def _waiting(job: Mapping[str, Any], about: Mapping[str, Any]) -> str:
    placed = str(about.get("jobDeploymentStatus") or "")
    if placed == "" and (job.get("spec") or {}).get("suspend"):
        placed = "Suspended"
    said = about.get("message")
    return f"{_WAITING.get(placed, placed)}{f': {said}' if said else ''}"
