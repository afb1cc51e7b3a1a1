"""Plays KubeRay's operator on any API server that has its CRDs: makes RayClusters, runs jobs, writes statuses.

It also does what Kubernetes' own controllers would: on an API server alone nobody deletes what belongs to what is gone.
"""

from __future__ import annotations

import secrets
import threading
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from lightkube import Client
from lightkube.core.exceptions import ApiError
from lightkube.generic_resource import create_namespaced_resource
from lightkube.types import PatchType

from tests.kube.head import Dashboards, Head

RAY_JOB = create_namespaced_resource("ray.io", "v1", "RayJob", "rayjobs")
RAY_CLUSTER = create_namespaced_resource("ray.io", "v1", "RayCluster", "rayclusters")
FINALIZER = "ray.io/rayjob-finalizer"
MODES = ("K8sJobMode", "HTTPMode", "SidecarMode")
OVER = ("Complete", "Failed", "ValidationFailed")
Thing = Any  # an object as lightkube has it, which is a dictionary


class Operator:
    """The operator of one namespace, in a thread of its own."""

    def __init__(self, namespace: str, folder: Path, environment: Mapping[str, str] | None = None) -> None:
        self._environment = environment or {}  # of every pod, beside what a job brings
        self._client, self.namespace, self._folder = Client(namespace=namespace), namespace, folder
        self.dashboards = Dashboards()
        self.keeps_submitting = False  # its submitter never gets anywhere
        self.admits = True  # plays Kueue: un-suspends what is suspended
        self._stop, self._is_away = threading.Event(), False
        self._turn = threading.Lock()  # held while it looks at everything once
        self._thread = threading.Thread(target=self._run, name="operator", daemon=True)

    @property
    def is_away(self) -> bool:
        """Whether it does nothing. Once that is said it asks for nothing any more: its last turn is over."""
        return self._is_away

    @is_away.setter
    def is_away(self, is_away: bool) -> None:
        with self._turn:
            self._is_away = is_away

    def start(self) -> Operator:
        self._thread.start()
        return self

    def close(self) -> None:
        self._stop.set()
        self._thread.join()
        for head in list(self.dashboards.heads.values()):
            head.kill()
        self.dashboards.shutdown()
        self.dashboards.server_close()
        self._client.close()

    def lose_head(self, job: str) -> None:
        """The head's node dies: nothing of it answers any more, and KubeRay gives the RayJob up after a while."""
        with self._turn:  # else it could take the killed job for one that failed by itself
            about = self._client.get(RAY_JOB, job)["status"]
            self.dashboards.heads.pop(about["rayClusterName"]).kill()
            self._say(job, jobDeploymentStatus="Failed", reason="JobStatusCheckTimeoutExceeded", endTime=now())

    def _run(self) -> None:
        while not self._stop.is_set():
            with self._turn:
                if not self._is_away:
                    self._look_around()
            self._stop.wait(0.03)

    def _look_around(self) -> None:
        for job in self._client.list(RAY_JOB):
            self._try(job)
        for cluster in self._client.list(RAY_CLUSTER):
            if "deletionTimestamp" in cluster["metadata"]:
                self._end_cluster(cluster)

    def _try(self, job: Thing) -> None:
        try:
            self._look_at(job)
        except ApiError as error:  # it was changed, or is gone: there is another turn
            if error.status.code not in (404, 409):
                raise

    def _look_at(self, job: Thing) -> None:
        about, name = job.get("status") or {}, job["metadata"]["name"]
        placed = about.get("jobDeploymentStatus", "")
        if "deletionTimestamp" in job["metadata"]:
            self._bury(job, about)
        elif job["spec"].get("suspend"):
            if placed != "Suspended":
                self._drop(about)
                self._say(name, jobDeploymentStatus="Suspended", jobStatus="")
            elif self.admits:
                self._patch(name, {"spec": {"suspend": False}})
        elif placed in OVER:
            self._shut_down(job, about)
        elif placed in ("", "Suspended") and job["spec"].get("submissionMode", MODES[0]) in MODES:
            self._patch(name, {"metadata": {"finalizers": [FINALIZER]}})
            cluster = f"{name}-{secrets.token_hex(3)}"
            self._say(
                name, jobDeploymentStatus="Initializing", jobId=cluster, rayClusterName=cluster, startTime=now(),
                dashboardURL="", jobStatus="", reason="", message="",
            )  # fmt: skip
        elif placed in ("Initializing", "Running"):
            self._bring_on(job, about, placed)

    def _bring_on(self, job: Thing, about: dict[str, Any], placed: str) -> None:
        name, limit = job["metadata"]["name"], job["spec"].get("activeDeadlineSeconds")
        began = datetime.fromisoformat(about["startTime"])
        if limit is not None and (datetime.now(UTC) - began).total_seconds() > limit:
            self._say(name, jobDeploymentStatus="Failed", reason="DeadlineExceeded", endTime=now())
        elif placed == "Initializing":
            self._make_cluster(job, about["rayClusterName"])
            url = self.dashboards.url(about["rayClusterName"])
            self._say(name, jobDeploymentStatus="Running", dashboardURL=url)
        elif not self.keeps_submitting:
            self._follow(job, about)

    def _follow(self, job: Thing, about: dict[str, Any]) -> None:
        name, head = job["metadata"]["name"], self.dashboards.heads.get(about["rayClusterName"])
        if head is None:
            self._say(name, jobDeploymentStatus="Failed", reason="JobStatusCheckTimeoutExceeded", endTime=now())
            return
        if not head.status:
            head.start()
        status = head.status
        if status == "RUNNING":
            if about.get("jobStatus") != status:
                self._say(name, jobStatus=status)
            return
        is_failed = status == "FAILED"
        self._say(
            name, jobStatus=status, message=head.message, endTime=now(), reason="AppFailed" if is_failed else "",
            jobDeploymentStatus="Failed" if is_failed else "Complete",
        )  # fmt: skip

    def _make_cluster(self, job: Thing, name: str) -> None:
        owner = {"apiVersion": "ray.io/v1", "kind": "RayJob", "name": job["metadata"]["name"],
                 "uid": job["metadata"]["uid"], "controller": True, "blockOwnerDeletion": True}  # fmt: skip
        if not job["spec"].get("clusterSelector"):
            labels = {**job["metadata"].get("labels", {}), "ray.io/originated-from-cr-name": job["metadata"]["name"]}
            made: Thing = {"metadata": {"name": name, "labels": labels, "ownerReferences": [owner]}}
            self._client.create(RAY_CLUSTER(**made, spec=job["spec"]["rayClusterSpec"]))
        self.dashboards.heads[name] = Head(name, self._folder, dict(job["spec"]), self._environment)

    def _shut_down(self, job: Thing, about: dict[str, Any]) -> None:
        ended = datetime.fromisoformat(about.get("endTime") or now())
        stays = float(job["spec"].get("ttlSecondsAfterFinished") or 0)
        if job["spec"].get("shutdownAfterJobFinishes") and (datetime.now(UTC) - ended).total_seconds() > stays:
            self._drop(about)

    def _bury(self, job: Thing, about: dict[str, Any]) -> None:
        self._drop(about)
        owned = [
            cluster
            for cluster in self._client.list(RAY_CLUSTER)
            if job["metadata"]["uid"] in [o["uid"] for o in cluster["metadata"].get("ownerReferences", [])]
        ]
        if not owned:
            self._patch(job["metadata"]["name"], {"metadata": {"finalizers": None}})

    def _drop(self, about: dict[str, Any]) -> None:
        name = str(about.get("rayClusterName") or "")
        head = self.dashboards.heads.pop(name, None)
        if head is not None:
            head.kill()
        if name:
            try:
                self._client.delete(RAY_CLUSTER, name)
            except ApiError as error:
                if error.status.code != 404:
                    raise

    def _end_cluster(self, cluster: Thing) -> None:
        head = self.dashboards.heads.pop(cluster["metadata"]["name"], None)
        if head is not None:
            head.kill()
        try:
            name, gone = cluster["metadata"]["name"], {"metadata": {"finalizers": None}}
            self._client.patch(RAY_CLUSTER, name, gone, patch_type=PatchType.MERGE)
        except ApiError as error:
            if error.status.code != 404:
                raise

    def _say(self, name: str, **status: str) -> None:
        self._client.patch(RAY_JOB.Status, name, {"status": status}, patch_type=PatchType.MERGE)

    def _patch(self, name: str, change: dict[str, Any]) -> None:
        self._client.patch(RAY_JOB, name, change, patch_type=PatchType.MERGE)


def now() -> str:
    """The time as Kubernetes writes it, which knows no parts of a second."""
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
