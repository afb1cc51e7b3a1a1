"""Finds what nobody wants any more, by label, and has it deleted: clusters cost money as long as they are there."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from cluster._kube_api import RAY_CLUSTER, RAY_JOB, Api, ConflictError, NotThereError
from cluster._kube_manifest import PRE_RUNNING_S, SELECTOR
from cluster._kube_states import STOP, attempt_of, ended_at, is_overdue, status_of, time_of
from cluster.backend import JobError

log: Final = logging.getLogger(__name__)
KEEP: Final = timedelta(days=1)  # an ended RayJob, for whoever wants to look at it, and its submitter's log
GRACE: Final = timedelta(minutes=5)  # beyond the time after which KubeRay should have ended a cluster itself
CLUSTERS_EVERY_S: Final = 600.0


class Leaks:
    """What is left over in one namespace. Each is deleted by its uid: a later one of its name is never meant."""

    def __init__(self, api: Api, clock: Callable[[], datetime] = lambda: datetime.now(UTC)) -> None:
        self._api, self._clock = api, clock
        self._looked_at: float | None = None

    def end(self, jobs: list[dict[str, Any]]) -> None:
        """End what is left over beside these RayJobs, which are all of ours. Trouble is noted, and tried again."""
        try:
            for job in jobs:
                self._end_job(job)
            if self._looked_at is None or time.monotonic() - self._looked_at > CLUSTERS_EVERY_S:
                self._end_clusters({job["metadata"]["uid"]: job for job in jobs})
                self._looked_at = time.monotonic()
        except JobError as error:
            log.warning("what is left over on Kubernetes could not be ended: %s", error)

    def end_cluster(self, job: Mapping[str, Any]) -> dict[str, Any] | None:
        """Have the RayCluster of a RayJob deleted, after its pods; None where it has none of its own."""
        name = (job.get("status") or {}).get("rayClusterName")
        if not name or job["spec"].get("clusterSelector"):
            return None
        with suppress(NotThereError):
            cluster = self._api.get(RAY_CLUSTER, name)
            if _owner(cluster) == job["metadata"]["uid"]:
                self._api.delete(RAY_CLUSTER, cluster)
                return cluster
        return None

    def is_there(self, cluster: Mapping[str, Any]) -> bool:
        """Whether this RayCluster has not gone yet."""
        try:
            now = self._api.get(RAY_CLUSTER, cluster["metadata"]["name"])
        except NotThereError:
            return False
        return bool(now["metadata"]["uid"] == cluster["metadata"]["uid"])

    def _end_job(self, job: Mapping[str, Any]) -> None:
        now, name = self._clock(), job["metadata"]["name"]
        if "deletionTimestamp" in job["metadata"]:
            return
        limit_s = float(job["spec"].get("preRunningDeadlineSeconds") or PRE_RUNNING_S)
        with suppress(NotThereError, ConflictError):
            if is_overdue(job, now, limit_s) and job["spec"].get("activeDeadlineSeconds") != 1:
                log.warning("%s is said to run, but has not begun for %g s: it is ended", name, limit_s)
                self._api.patch(RAY_JOB, job, {"spec": {"activeDeadlineSeconds": 1}})
            ended = ended_at(job)
            if ended is not None and now - ended > KEEP:
                self._api.delete(RAY_JOB, job)

    def _end_clusters(self, jobs: Mapping[str, Mapping[str, Any]]) -> None:
        """Those whose RayJob is gone, or over for longer than it said that they should stay."""
        clusters, _ = self._api.list(RAY_CLUSTER, SELECTOR)
        for cluster in clusters:
            owner = _owner(cluster)
            if owner is None or "deletionTimestamp" in cluster["metadata"]:
                continue
            made = time_of(cluster["metadata"].get("creationTimestamp"))
            if made is not None and self._clock() - made < GRACE:
                continue  # its RayJob may be newer than what we know
            job = jobs.get(owner)
            if job is None or self._is_past(job):
                log.warning("the RayCluster %s is left over: it is deleted", cluster["metadata"]["name"])
                self._api.delete(RAY_CLUSTER, cluster)

    def _is_past(self, job: Mapping[str, Any]) -> bool:
        ended = ended_at(job)
        stays = timedelta(seconds=float(job["spec"].get("ttlSecondsAfterFinished") or 0))
        is_told = (job["metadata"].get("annotations") or {}).get(STOP) == str(attempt_of(job))
        is_kept = not job["spec"].get("shutdownAfterJobFinishes") and status_of(job).state.is_over and not is_told
        return ended is not None and not is_kept and self._clock() - ended > stays + GRACE


def _owner(thing: Mapping[str, Any]) -> str | None:
    """The uid of the RayJob that a thing belongs to."""
    owners = thing["metadata"].get("ownerReferences") or []
    return next((str(owner["uid"]) for owner in owners if owner.get("kind") == RAY_JOB), None)
