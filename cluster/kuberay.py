"""Runs a job on Kubernetes as a RayJob of KubeRay's: each on a Ray cluster of its own, or all on one that is shared.

A RayJob has its job's id as its name, so that the API server itself sees to it that there is one of each; which attempt
it is stands in its labels. What is beside the few fields of a job comes from the operator's template. Everything is
known from a watch; see the modules whose names begin with `_kube`.
"""

from __future__ import annotations

import logging
import time
import weakref
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

from cluster._kube_api import RAY_CLUSTER, RAY_JOB, Api, ConflictError, NotThereError
from cluster._kube_leaks import Leaks
from cluster._kube_manifest import Group, Template, capacity_of, groups_of
from cluster._kube_output import Dashboards, Outputs
from cluster._kube_rules import is_name
from cluster._kube_states import STOP, attempt_of, is_ours, is_unplaced, status_of
from cluster._kube_watch import Watched
from cluster.backend import (
    Backend,
    Capacity,
    JobError,
    JobRequest,
    JobState,
    JobStatus,
    LogChunk,
    PlaceLostError,
    UnknownJobError,
)

__all__ = ["Group", "KubeRayBackend", "Location", "build", "groups"]
log: Final = logging.getLogger(__name__)
GONE_S: Final = 60.0  # for an ended RayJob with its cluster to be gone, before its next attempt is made
KILL_S: Final = 15.0  # for KubeRay to act on what it was told
_ASK_S: Final = 0.5
_TRIES: Final = 5
_SHARED_FOR_S: Final = 10.0  # what a shared cluster was seen to have counts for so long


@dataclass(frozen=True, slots=True)
class Location:
    """Where jobs go: the operator's template, the namespace (None: our own), and a shared RayCluster's name or None."""

    template: Path
    namespace: str | None = None
    shared: str | None = None


def build(location: str) -> Backend:
    """The backend whose RayJobs are made from the template in the file `location`, in the configured namespace."""
    return KubeRayBackend(Location(Path(location)))


def groups(template: Path) -> list[Group]:
    """The groups of pods that an operator's template has for trials. JobError where it cannot be used."""
    return Template.read(template).groups()


class KubeRayBackend:
    """Jobs as RayJobs of one namespace. Safe to use from several threads; JobError for a template with faults."""

    def __init__(self, location: Location) -> None:
        self._template = Template.read(location.template, location.shared)
        self._api = Api(location.namespace)
        self._leaks = Leaks(self._api)
        self._watched = Watched(self._api, self._leaks.end)
        self._dashboards = Dashboards()
        self._outputs = Outputs(self._api, self._dashboards)
        self._shared: tuple[float, Capacity] | None = None
        weakref.finalize(self, self._watched.stop)

    def submit(self, request: JobRequest) -> JobStatus:
        """Have the RayJob made, or find it there; see `Backend.submit`.

        A higher attempt of a job that is over takes the place of its RayJob, once that is gone with all its pods.
        """
        if not is_name(request.job_id):
            msg = (
                f"{request.job_id!r} is no job id for Kubernetes: at most 47 lower case letters, digits and dashes, "
                "the first a letter, the last no dash"
            )
            raise JobError(msg)
        if not request.argv:
            msg = f"job {request.job_id} has no command to run"
            raise JobError(msg)
        made = self._template.fill(request)
        for _ in range(_TRIES):
            found = self._find(request.job_id)
            if found is None:
                with suppress(ConflictError):  # somebody was faster, or our own first try had reached it
                    created = self._api.create(RAY_JOB, made)
                    self._watched.take(created)
                    return status_of(created)
            elif "deletionTimestamp" in found["metadata"]:
                self._await_gone(found)
            elif request.attempt <= attempt_of(found):
                return status_of(found)
            else:
                self._replace(found)
        msg = f"the RayJob {request.job_id} is made and deleted by somebody else all the time"
        raise PlaceLostError(msg)

    def status(self, job_id: str) -> JobStatus:
        """Where the job stands, by the API server's own word."""
        return status_of(self._known(job_id))

    def statuses(self, job_ids: Iterable[str]) -> dict[str, JobStatus]:
        """Where several jobs stand, from what the watch has told: nobody is asked."""
        jobs = self._watched.jobs()
        return {job_id: status_of(jobs[job_id]) for job_id in job_ids if job_id in jobs}

    def stop(self, job_id: str, *, wait_s: float = 30.0) -> JobStatus:
        """SIGINT through Ray's Jobs API, and then the end of its pods, with their cluster; see `Backend.stop`.

        Where Ray cannot be reached from here its pods are ended at once, with all the time that the template gives them
        for it: their hooks are run, and they are sent SIGTERM.
        """
        job = self._known(job_id)
        if status_of(job).state.is_over:
            return status_of(job)
        try:
            job = self._change(job, {"metadata": {"annotations": {STOP: str(attempt_of(job))}}})
            if wait_s > 0:
                job = self._end_politely(job, wait_s)
            if not status_of(job).state.is_over:
                job = self._kill(job, wait_s)
        except (NotThereError, ConflictError):  # it is gone, or it was made anew by somebody who wants it to run
            found = self._find(job_id)
            return _stopped(job) if found is None else status_of(found)
        return status_of(job)

    def forget(self, job_id: str) -> None:
        """Have the RayJob of a job that is over deleted, with all that it owns, and wait for that."""
        found = self._find(job_id)
        if found is not None:
            self._replace(found)

    def logs(self, job_id: str, *, offset: int = 0) -> LogChunk:
        """What the newest attempt wrote, as long as its Ray cluster or its submitter is there, or we remember it."""
        text = self._outputs.read(self._known(job_id)).encode()
        return LogChunk(text[offset:].decode(errors="replace"), max(offset, len(text)))

    def capacity(self) -> Capacity:
        """What the clusters of all sweeps have once they have grown as far as the template lets them.

        For a shared cluster that is what its own groups may grow to. With Kueue, which has the quotas, it is so much
        that every sweep is handed over at once, in the controller's order.
        """
        self._watched.jobs()
        found = self._template.capacity() if self._template.shared is None else self._shared_capacity()
        if not found.nodes:
            msg = "no group of workers may have a single pod: see maxReplicas in the template"
            raise PlaceLostError(msg)
        return found

    def close(self) -> None:
        """End the watch; jobs go on."""
        self._watched.stop()

    def _shared_capacity(self) -> Capacity:
        if self._shared is not None and time.monotonic() - self._shared[0] < _SHARED_FOR_S:
            return self._shared[1]
        try:
            cluster = self._api.get(RAY_CLUSTER, str(self._template.shared))
        except NotThereError as error:
            msg = f"there is no RayCluster {self._template.shared!r} in the namespace {self._api.namespace}"
            raise PlaceLostError(msg) from error
        found = capacity_of(groups_of(cluster.get("spec") or {}))
        self._shared = time.monotonic(), found
        return found

    def _find(self, job_id: str) -> dict[str, Any] | None:
        """The RayJob of this name; None where there is none. JobError where it is none of ours."""
        if not is_name(job_id):
            return None
        try:
            found = self._api.get(RAY_JOB, job_id)
        except NotThereError:
            return None
        if not is_ours(found):
            msg = f"there is a RayJob {job_id} that is none of Tuneyard's: rename or delete it"
            raise JobError(msg)
        return self._take(found)

    def _known(self, job_id: str) -> dict[str, Any]:
        found = self._find(job_id)
        if found is None:
            msg = f"there is no RayJob {job_id!r} in the namespace {self._api.namespace}"
            raise UnknownJobError(msg)
        return found

    def _take(self, job: dict[str, Any]) -> dict[str, Any]:
        self._watched.take(job)
        return job

    def _change(self, job: dict[str, Any], change: Mapping[str, Any]) -> dict[str, Any]:
        """Change this RayJob, although others change it meanwhile. ConflictError where another one has its name."""
        for _ in range(_TRIES):
            with suppress(ConflictError):
                return self._take(self._api.patch(RAY_JOB, job, change))
            now = self._api.get(RAY_JOB, job["metadata"]["name"])
            if now["metadata"]["uid"] != job["metadata"]["uid"]:
                msg = "it was made anew"
                raise ConflictError(msg)
        msg = f"the RayJob {job['metadata']['name']} is changed by others all the time"
        raise PlaceLostError(msg)

    def _replace(self, found: Mapping[str, Any]) -> None:
        """Have an ended RayJob deleted with all that it owns, and wait for that."""
        status = status_of(found)
        if not status.state.is_over:
            msg = f"attempt {status.attempt} of job {status.job_id} still runs; stop it first"
            raise JobError(msg)
        self._api.delete(RAY_JOB, found)
        self._await_gone(found)

    def _await_gone(self, meant: Mapping[str, Any]) -> None:
        deadline = time.monotonic() + GONE_S
        while time.monotonic() < deadline:
            now = self._find(meant["metadata"]["name"])
            if now is None or now["metadata"]["uid"] != meant["metadata"]["uid"]:
                self._watched.drop(meant)
                return
            self._watched.await_change(_ASK_S)
        msg = f"the RayJob {meant['metadata']['name']} of an earlier attempt is still being deleted, with its pods"
        raise PlaceLostError(msg)

    def _end_politely(self, job: dict[str, Any], wait_s: float) -> dict[str, Any]:
        """Ask Ray to interrupt the job, and wait until that is done; what it wrote is kept."""
        deadline, ray = time.monotonic() + wait_s, self._dashboards.of(job)
        if ray is None:
            return job
        try:
            is_over = ray.stop(job["metadata"]["name"], wait_s=wait_s).state.is_over
        except UnknownJobError:  # it was not submitted yet
            is_over = False
        except JobError as error:
            log.info("the job %s cannot be reached to end it by itself: %s", job["metadata"]["name"], error)
            self._dashboards.leave_alone(job)
            is_over = False
        with suppress(JobError):  # it ends all the same
            self._outputs.read(job)
        if not is_over:
            return job
        return self._await_over(job, max(deadline, time.monotonic() + KILL_S))

    def _await_over(self, job: dict[str, Any], deadline: float) -> dict[str, Any]:
        """The RayJob once it is over, else as it stands then. NotThereError where it is gone."""
        while True:
            now = self._api.get(RAY_JOB, job["metadata"]["name"])
            if now["metadata"]["uid"] != job["metadata"]["uid"]:
                msg = "it was made anew"
                raise ConflictError(msg)
            self._take(now)
            if status_of(now).state.is_over or time.monotonic() > deadline:
                return now
            self._watched.await_change(_ASK_S)

    def _kill(self, job: dict[str, Any], wait_s: float) -> dict[str, Any]:
        """End the job's pods, and wait for that: what they do about SIGTERM, and before it, is the template's.

        One that waits for Kueue is deleted, and so is one on a shared cluster, which KubeRay stops first. Another one
        is given a deadline that has passed: so KubeRay ends it and does not make its cluster anew once that is deleted,
        while the RayJob stays, to say how it ended. Suspending it would not do: Kueue would start it again.
        """
        is_queued = self._template.is_queued and is_unplaced(job)
        if is_queued or job["spec"].get("clusterSelector"):
            self._api.delete(RAY_JOB, job)
            self._await_gone(job)
            msg = "it is gone"
            raise NotThereError(msg)
        job = self._change(job, {"spec": {"activeDeadlineSeconds": 1}})
        deadline = time.monotonic() + wait_s + KILL_S
        cluster = self._leaks.end_cluster(job)
        while cluster is not None and self._leaks.is_there(cluster) and time.monotonic() < deadline:
            time.sleep(_ASK_S)
        return self._await_over(job, deadline)


def _stopped(job: Mapping[str, Any]) -> JobStatus:
    """What is to be said of a job whose RayJob went with its end."""
    return replace(status_of(job), state=JobState.STOPPED, exit_code=None, message="stopped on request")
