"""The cluster of a service, as a backend that is there from the start: while the cluster is not, it says so."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Final

from cluster import kuberay, ray_head, ray_jobs
from cluster.backend import Backend, Capacity, JobError, JobRequest, JobStatus, LogChunk, PlaceLostError

log: Final = logging.getLogger(__name__)
CHECK_S: Final = 5.0
WAIT_S: Final = 10.0  # before Ray is tried again where it did not come up
_STARTING: Final = "Ray is starting on this machine"
SILENT_S: Final = 600.0  # a Ray that has not answered for so long is held to be broken, though its process is there


class ClusterPlace:
    """A backend whose cluster comes up beside it, and may be exchanged. Every method as `Backend` has it.

    PlaceLostError while there is none.
    """

    def __init__(self) -> None:
        self._backend: Backend | None = None
        self._trouble = "the cluster is starting"

    def submit(self, request: JobRequest) -> JobStatus:
        """Start the job."""
        return self._there().submit(request)

    def status(self, job_id: str) -> JobStatus:
        """Where the job stands."""
        return self._there().status(job_id)

    def statuses(self, job_ids: Iterable[str]) -> dict[str, JobStatus]:
        """Where several jobs stand."""
        return self._there().statuses(job_ids)

    def stop(self, job_id: str, *, wait_s: float = 30.0) -> JobStatus:
        """End the job."""
        return self._there().stop(job_id, wait_s=wait_s)

    def forget(self, job_id: str) -> None:
        """Forget a job that is over."""
        self._there().forget(job_id)

    def logs(self, job_id: str, *, offset: int = 0) -> LogChunk:
        """What the job wrote."""
        return self._there().logs(job_id, offset=offset)

    def capacity(self) -> Capacity:
        """What the cluster has."""
        return self._there().capacity()

    def start(self) -> None:
        """Begin to reach for the cluster."""

    def leave(self, *, is_idle: bool) -> None:
        """The service goes; with `is_idle` nothing runs on the cluster."""

    def _there(self) -> Backend:
        if self._backend is None:
            raise PlaceLostError(self._trouble)
        return self._backend


class RemotePlace(ClusterPlace):
    """A Ray cluster of somebody else's, by the URL of its dashboard; TLS trusts `ca_file`, else the system's."""

    def __init__(self, url: str, ca_file: str | None = None) -> None:
        super().__init__()
        self._backend = ray_jobs.RayJobsBackend(url, ray_jobs.Access.from_environment(ca_file))


class KubePlace(ClusterPlace):
    """Kubernetes, with KubeRay's operator on it. JobError where the template or the configuration cannot be used."""

    def __init__(self, location: kuberay.Location) -> None:
        super().__init__()
        self._kubernetes = kuberay.KubeRayBackend(location)
        self._backend = self._kubernetes

    def leave(self, *, is_idle: bool) -> None:  # noqa: ARG002  # jobs there go on by themselves in any case
        """End the watch."""
        self._kubernetes.close()


class OwnPlace(ClusterPlace):
    """A Ray on this machine that belongs to the data folder: started, adopted, and started again where it breaks.

    It outlives the service while sweeps run on it.
    """

    def __init__(self, home: Path, own: Callable[[Path], ray_head.RayHead] = ray_head.own) -> None:
        super().__init__()
        self._folder, self._own, self._trouble = home / "ray", own, _STARTING
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._keep, name="ray", daemon=True)

    def start(self) -> None:
        """Have Ray come up in the background."""
        self._thread.start()

    def leave(self, *, is_idle: bool) -> None:
        """Let Ray be while sweeps run on it, else end it."""
        self._stop.set()
        if is_idle:
            self._thread.join()  # it may be starting just now
            ray_head.end(self._folder)

    def _keep(self) -> None:
        head: ray_head.RayHead | None = None
        heard_at = time.monotonic()
        while not self._stop.is_set():
            if head is None or not head.is_alive() or time.monotonic() - heard_at > SILENT_S:
                head = self._begin()
                heard_at = time.monotonic()
            elif self._is_heard():
                heard_at = time.monotonic()
            self._stop.wait(WAIT_S if head is None else CHECK_S)

    def _is_heard(self) -> bool:
        try:
            return bool(self._there().capacity().nodes)
        except Exception:  # noqa: BLE001  # whatever it answers: that is no answer
            return False

    def _begin(self) -> ray_head.RayHead | None:
        if self._backend is not None:  # else what kept it from coming up is still the best answer
            self._backend, self._trouble = None, _STARTING
        try:
            head = self._own(self._folder)
            self._backend = head.backend()
        except Exception as error:  # a try must not be the last one, whatever this machine's processes do
            is_known = isinstance(error, JobError)
            self._trouble = str(error) if is_known else f"Ray does not start on this machine: {error!r}"
            if not is_known:  # the controller tells of every trouble, but not where it came from
                log.warning("%s", self._trouble, exc_info=True)
            return None
        log.info("Ray is up on this machine at %s", head.url)
        return head
