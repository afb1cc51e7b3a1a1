"""What a RayJob's command wrote: from Ray while its cluster is there, then from its submitter's pod or from memory."""

from __future__ import annotations

import re
import threading
import time
from collections import OrderedDict
from collections.abc import Mapping
from typing import Any, Final

from cluster._kube_api import POD, Api, NotThereError
from cluster.backend import JobError, UnknownJobError
from cluster.ray_jobs import Access, RayJobsBackend

TIMEOUT_S: Final = 5.0  # for Ray's dashboard: behind a network policy it does not refuse but keeps silent
_SILENT_S: Final = 30.0  # a dashboard that did not answer is left alone for so long
_MOST_KEPT, _MOST_BYTES = 64, 4 * 2**20
_BEGIN: Final = "Running entrypoint for job "
# What `ray job logs --follow` says once the job is over, after what the job wrote.
_END: Final = re.compile(r"\n-+\nJob '[^'\n]*' (succeeded|failed)\n-+\n.*|Job '[^'\n]*' was stopped\n.*", re.DOTALL)


class Dashboards:
    """Ray's own Jobs API on each RayJob's cluster, where it can be reached from here."""

    def __init__(self) -> None:
        self._known: OrderedDict[str, RayJobsBackend] = OrderedDict()
        self._silent: dict[str, float] = {}
        self._lock = threading.Lock()

    def of(self, job: Mapping[str, Any]) -> RayJobsBackend | None:
        """The Jobs API where the RayJob runs; None where there is none, or where it did not answer a moment ago."""
        url = _dashboard(job)
        if url is None:
            return None
        with self._lock:
            if time.monotonic() < self._silent.get(url, 0.0):
                return None
            found = self._known.pop(url, None) or RayJobsBackend(url, Access.from_environment(), timeout_s=TIMEOUT_S)
            self._known[url] = found
            while len(self._known) > _MOST_KEPT:
                self._known.popitem(last=False)
        return found

    def leave_alone(self, job: Mapping[str, Any]) -> None:
        """It did not answer: do not ask it again for a while."""
        url, now = _dashboard(job), time.monotonic()
        with self._lock:
            self._silent = {known: until for known, until in self._silent.items() if until > now}
            if url is not None:
                self._silent[url] = now + _SILENT_S


class Outputs:
    """The text of each job; of the newest attempt alone, since an earlier one's goes with its RayJob."""

    def __init__(self, api: Api, dashboards: Dashboards) -> None:
        self._api, self._dashboards = api, dashboards
        self._kept: OrderedDict[str, str] = OrderedDict()
        self._lock = threading.Lock()

    def read(self, job: Mapping[str, Any]) -> str:
        """All of it, as far as it can be had from anywhere."""
        text = self._of_ray(job)
        if text is None:
            text = self._of_submitter(job)
        return self._best(str(job["metadata"]["uid"]), text or "")

    def _of_ray(self, job: Mapping[str, Any]) -> str | None:
        ray = self._dashboards.of(job)
        if ray is None:
            return None
        try:
            return ray.logs(str(job["metadata"]["name"])).text or None
        except UnknownJobError:  # it was not submitted yet
            return None
        except JobError:  # its cluster is gone, or cannot be reached
            self._dashboards.leave_alone(job)
            return None

    def _of_submitter(self, job: Mapping[str, Any]) -> str | None:
        try:
            pods, _ = self._api.list(POD, f"job-name={job['metadata']['name']}")
            owned = [pod for pod in pods if pod["metadata"].get("name")]
            newest = max(owned, key=lambda pod: str(pod["metadata"].get("creationTimestamp")), default=None)
            return None if newest is None else _own_words(self._api.log(newest["metadata"]["name"]))
        except NotThereError:
            return None

    def _best(self, uid: str, text: str) -> str:
        """The text, or what was kept where that is longer: readers go on from an offset."""
        with self._lock:
            kept = self._kept.pop(uid, "")
            best = text if len(text) >= len(kept) else kept
            if best and len(best) <= _MOST_BYTES:
                self._kept[uid] = best
            while len(self._kept) > _MOST_KEPT:
                self._kept.popitem(last=False)
            return best


def _dashboard(job: Mapping[str, Any]) -> str | None:
    """The URL of the dashboard of a RayJob's cluster, as far as KubeRay says it."""
    url = str((job.get("status") or {}).get("dashboardURL") or "")
    if not url:
        return None
    return url if "://" in url else f"http://{url}"


def _own_words(text: str) -> str:
    """What the job wrote, of what its submitter did: nothing while it has not begun."""
    _, mark, rest = text.partition(_BEGIN)
    return _END.sub("", rest.partition("\n")[2]) if mark else ""
