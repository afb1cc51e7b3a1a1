"""A place for jobs that several tests share, as each of them sees it: with job ids of its own."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from cluster.backend import Backend, Capacity, JobRequest, JobStatus, LogChunk


class Apart:
    """A place that other tests use, too: every job gets another id there."""

    def __init__(self, place: Backend, prefix: str) -> None:
        self._place, self._prefix = place, prefix

    def _there(self, job_id: str) -> str:
        return f"{self._prefix}-{job_id}" if job_id in ("job", "other") else job_id

    def _here(self, status: JobStatus) -> JobStatus:
        return replace(status, job_id=status.job_id.removeprefix(f"{self._prefix}-"))

    def submit(self, request: JobRequest) -> JobStatus:
        return self._here(self._place.submit(replace(request, job_id=self._there(request.job_id))))

    def status(self, job_id: str) -> JobStatus:
        return self._here(self._place.status(self._there(job_id)))

    def statuses(self, job_ids: Iterable[str]) -> dict[str, JobStatus]:
        found = [self._here(status) for status in self._place.statuses(map(self._there, job_ids)).values()]
        return {status.job_id: status for status in found}

    def stop(self, job_id: str, *, wait_s: float = 30.0) -> JobStatus:
        return self._here(self._place.stop(self._there(job_id), wait_s=wait_s))

    def forget(self, job_id: str) -> None:
        self._place.forget(self._there(job_id))

    def logs(self, job_id: str, *, offset: int = 0) -> LogChunk:
        return self._place.logs(self._there(job_id), offset=offset)

    def capacity(self) -> Capacity:
        return self._place.capacity()
