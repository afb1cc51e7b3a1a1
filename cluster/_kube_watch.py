"""The RayJobs of ours, known from one list and a watch that goes on from it, so that nobody has to ask for each."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Mapping
from typing import Any, Final

from cluster._kube_api import RAY_JOB, Api, ExpiredError
from cluster._kube_manifest import SELECTOR
from cluster._kube_states import is_ours
from cluster.backend import JobError, PlaceLostError

log: Final = logging.getLogger(__name__)
WATCH_S: Final = 60  # after which a watch ends by itself: a connection that died unseen is noticed then
RESYNC_S: Final = 600.0  # between two lists of everything, whatever a watch may have missed
LOST_S: Final = 15.0  # for so long a watch may be down before nothing is held to be known any more
_AGAIN_S: Final = 5.0  # before the first list is tried again
_PAUSE_S, _MOST_PAUSE_S = 0.5, 10.0


class Watched:
    """RayJobs by name. `care` is called with all of them every WATCH_S or sooner, in the thread of the watch."""

    def __init__(self, api: Api, care: Callable[[list[dict[str, Any]]], None]) -> None:
        self._api, self._care = api, care
        self._jobs: dict[str, dict[str, Any]] = {}
        self._gone: dict[str, int] = {}  # versions in which names went, since the last list
        self._changed = threading.Condition()
        self._starting, self._stop = threading.Lock(), threading.Event()
        self._thread: threading.Thread | None = None
        self._version, self._listed_at = "", 0.0
        self._lost_at: float | None = None  # since when there is no watch
        self._trouble, self._again_at = "", 0.0

    def jobs(self) -> dict[str, dict[str, Any]]:
        """All that are there, as far as is known. PlaceLostError where the watch has been down for too long."""
        self._begin()
        lost_at = self._lost_at
        if lost_at is not None and time.monotonic() - lost_at > LOST_S:
            raise PlaceLostError(self._trouble)
        with self._changed:
            return dict(self._jobs)

    def take(self, job: dict[str, Any]) -> None:
        """A RayJob as an answer of the API has it: what is older is passed over."""
        with self._changed:
            name = job["metadata"]["name"]
            have = self._jobs.get(name)
            newest = self._gone.get(name, 0) if have is None else _version(have)
            if is_ours(job) and _version(job) >= newest:
                self._jobs[name] = job
                self._changed.notify_all()

    def drop(self, job: Mapping[str, Any]) -> None:
        """This RayJob is gone."""
        with self._changed:
            have = self._jobs.get(job["metadata"]["name"])
            if have is not None and have["metadata"]["uid"] == job["metadata"]["uid"]:
                del self._jobs[job["metadata"]["name"]]
                self._gone[job["metadata"]["name"]] = _version(job)  # an answer from before may still be on its way
                self._changed.notify_all()

    def await_change(self, timeout_s: float) -> None:
        """Wait until something changes, but no longer than that."""
        with self._changed:
            self._changed.wait(timeout_s)

    def stop(self) -> None:
        """End the watch, at its next word or at the latest when its connection ends."""
        self._stop.set()

    def _begin(self) -> None:
        with self._starting:
            if self._thread is None:
                if time.monotonic() < self._again_at:  # whoever else asks does not wait for the same answer
                    raise PlaceLostError(self._trouble)
                try:
                    self._list()
                except JobError as error:
                    self._trouble, self._again_at = str(error), time.monotonic() + _AGAIN_S
                    raise PlaceLostError(self._trouble) from error
                self._thread = threading.Thread(target=self._run, name="kube-watch", daemon=True)
                self._thread.start()

    def _list(self) -> None:
        jobs, self._version = self._api.list(RAY_JOB, SELECTOR)
        with self._changed:
            self._jobs, self._gone = {job["metadata"]["name"]: job for job in jobs if is_ours(job)}, {}
            self._changed.notify_all()
        self._listed_at, self._lost_at = time.monotonic(), None

    def _run(self) -> None:
        pause = _PAUSE_S
        while not self._stop.is_set():
            try:
                if not self._version or time.monotonic() - self._listed_at > RESYNC_S:
                    self._list()
                began = time.monotonic()
                self._watch()
                pause = _PAUSE_S
                if time.monotonic() - began < _PAUSE_S:  # a server that ends each watch at once
                    self._stop.wait(_PAUSE_S)
            except ExpiredError as error:  # once is nothing; one after another, it is trouble as any other
                self._version = ""
                self._lose(str(error))
                self._stop.wait(pause)
                pause = min(2 * pause, _MOST_PAUSE_S)
            except JobError as error:
                self._lose(str(error))
                self._stop.wait(pause)
                pause = min(2 * pause, _MOST_PAUSE_S)
            except Exception as error:  # the thread is the only one that looks
                self._lose(repr(error))
                log.exception("the watch of RayJobs broke off")
                self._stop.wait(_MOST_PAUSE_S)

    def _watch(self) -> None:
        for kind, job in self._api.watch(RAY_JOB, SELECTOR, self._version, WATCH_S):
            self._lost_at = None
            self._version = str(job["metadata"]["resourceVersion"])
            if kind == "DELETED":
                self.drop(job)
            elif kind != "BOOKMARK":
                self.take(job)
            if self._stop.is_set():
                return
        self._lost_at = None
        with self._changed:
            jobs = list(self._jobs.values())
        self._care(jobs)

    def _lose(self, why: str) -> None:
        if self._lost_at is None and not self._stop.is_set():
            log.warning("the watch of RayJobs is down: %s", why)
        self._lost_at, self._trouble = self._lost_at or time.monotonic(), why


def _version(job: Mapping[str, Any]) -> int:
    """Versions grow: Kubernetes 1.35 has made that a promise, and etcd has always kept it."""
    text = str(job["metadata"].get("resourceVersion") or "")
    return int(text) if text.isdecimal() else 0
