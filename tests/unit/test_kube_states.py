"""What KubeRay's words mean for a job."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from cluster._kube_states import STOP, ended_at, is_overdue, status_of
from cluster.backend import JobState

BEGAN = "2026-11-23T10:00:00Z"


def job(stop: str | None = None, *, suspend: bool = False, **status: object) -> dict[str, Any]:
    labels = {"tuneyard.dev/job": "a-job", "tuneyard.dev/attempt": "2"}
    annotations = {} if stop is None else {STOP: stop}
    metadata = {"name": "a-job", "labels": labels, "annotations": annotations, "creationTimestamp": BEGAN}
    return {"metadata": metadata, "spec": {"suspend": suspend}, "status": status}


@pytest.mark.parametrize(
    ("placed", "of_ray", "state"),
    [
        ("", "", JobState.PENDING),
        ("Initializing", "", JobState.PENDING),
        ("Waiting", "", JobState.PENDING),
        ("Suspending", "RUNNING", JobState.PENDING),
        ("Suspended", "", JobState.PENDING),
        ("Retrying", "FAILED", JobState.PENDING),
        ("Running", "", JobState.PENDING),  # its submitter may never get anywhere
        ("Running", "PENDING", JobState.PENDING),
        ("Running", "RUNNING", JobState.RUNNING),
        ("Running", "SUCCEEDED", JobState.SUCCEEDED),
        ("Complete", "SUCCEEDED", JobState.SUCCEEDED),
        ("Complete", "STOPPED", JobState.STOPPED),
        ("Complete", "", JobState.FAILED),
        ("Failed", "FAILED", JobState.FAILED),
        ("Failed", "RUNNING", JobState.FAILED),
        ("ValidationFailed", "", JobState.FAILED),
        ("SomethingNew", "", JobState.PENDING),
    ],
)
def test_states(placed: str, of_ray: str, state: JobState) -> None:
    found = status_of(job(jobDeploymentStatus=placed, jobStatus=of_ray))
    assert (found.job_id, found.attempt, found.state) == ("a-job", 2, state)


@pytest.mark.parametrize(
    ("reason", "said"),
    [
        ("SubmissionFailed", "could not be submitted"),
        ("DeadlineExceeded", "activeDeadlineSeconds"),
        ("PreRunningDeadlineExceeded", "preRunningDeadlineSeconds"),
        ("JobStatusCheckTimeoutExceeded", "the head of its Ray cluster was lost"),
        ("ValidationFailed", "KubeRay refuses its manifest"),
        ("SomethingNew", "KubeRay gave it up (SomethingNew)"),
    ],
)
def test_a_job_that_kuberay_gives_up_has_failed_and_says_why(reason: str, said: str) -> None:
    found = status_of(job(jobDeploymentStatus="Failed", jobStatus="RUNNING", reason=reason, message="more"))
    assert (found.state, found.exit_code) == (JobState.FAILED, None)
    assert said in found.message
    assert found.message.endswith("more")


@pytest.mark.parametrize(
    ("code", "exit_code", "message"),
    [("7", 7, "exit code 7"), ("137", -9, "killed by SIGKILL"), ("-9", -9, "killed by SIGKILL")],
)
def test_the_jobs_own_end_is_read_from_rays_message(code: str, exit_code: int, message: str) -> None:
    text = f"Job entrypoint command failed with exit code {code}, last available logs (truncated):\nx"
    found = status_of(job(jobDeploymentStatus="Failed", jobStatus="FAILED", reason="AppFailed", message=text))
    assert (found.exit_code, found.message) == (exit_code, message)


def test_what_was_asked_to_end_has_been_stopped_of_this_attempt_alone() -> None:
    for stop, state in (("2", JobState.STOPPED), ("1", JobState.FAILED), (None, JobState.FAILED)):
        given_up = job(stop, jobDeploymentStatus="Failed", reason="DeadlineExceeded")
        assert status_of(given_up).state is state
    assert status_of(job("2", jobDeploymentStatus="Running", jobStatus="RUNNING")).state is JobState.RUNNING


def test_a_job_that_waits_says_for_what() -> None:
    assert "Kueue" in status_of(job(suspend=True)).message
    assert "operator" in status_of(job()).message
    assert "has not started" in status_of(job(jobDeploymentStatus="Running")).message


def test_a_job_that_is_said_to_run_but_never_begins_is_overdue() -> None:
    now = datetime(2026, 11, 23, 10, 10, tzinfo=UTC)
    stuck = job(jobDeploymentStatus="Running", startTime=BEGAN)
    assert (is_overdue(stuck, now, 599), is_overdue(stuck, now, 601)) == (True, False)
    assert not is_overdue(job(jobDeploymentStatus="Running", jobStatus="RUNNING", startTime=BEGAN), now, 1)
    assert not is_overdue(job(jobDeploymentStatus="Suspended"), now, 1)


def test_the_time_of_an_end() -> None:
    assert ended_at(job(jobDeploymentStatus="Running")) is None
    assert ended_at(job(jobDeploymentStatus="Running", jobStatus="SUCCEEDED", startTime=BEGAN)) is None
    over = job(jobDeploymentStatus="Complete", jobStatus="SUCCEEDED", endTime=BEGAN)
    assert ended_at(over) == datetime(2026, 11, 23, 10, tzinfo=UTC)
