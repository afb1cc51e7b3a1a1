"""Runs a job on a Ray cluster through the Jobs API of its head, over HTTP alone: this process needs no Ray.

A job's first attempt has the job's id as its submission id, a later one `<id>.<attempt>`. Ray forgets all its jobs when
its head is lost, and their output with them; else it keeps each until it is told to forget it. It has one list of all
of them, everybody's, which is long to read: so it is asked for now and then, and for the jobs that run in between.
"""

from __future__ import annotations

import contextlib
import math
import os
import re
import shlex
import ssl
import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote, urlsplit

import httpx2

from cluster._ray_attempt import ATTEMPT, JOB, NO_COMMAND, NO_FOLDER, OF_SIGNAL, Attempt, last_line
from cluster.backend import (
    Backend,
    Capacity,
    JobError,
    JobRequest,
    JobStatus,
    LogChunk,
    Node,
    PlaceLostError,
    UnknownJobError,
)

STOP_WAIT_S: Final = 60  # a driver that is told to end waits for its trials' next reports
TIMEOUT_S: Final = 20.0
_POLL_S: Final = 0.3
_TAKEN: Final = "already exists"
LIST_EVERY_S: Final = 30.0  # and with each submission of ours: how old what is known of the rest may get
MOST_SINGLE: Final = 50  # jobs that are asked for one by one; to list all takes less for more of them
_KILL_S: Final = 4.0  # beyond the wait: until Ray has killed what would not end, and says so
_ID: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,100}")
_UNAUTHORIZED: Final = (401, 403)
_GATEWAY_ERRORS: Final = (502, 503, 504)
_OWN_TROUBLE: Final = 500
_REFUSED_WITHIN: Final = "status code 4"  # what its head says, as a trouble of its own, of a job that its agent refuses


def build(location: str) -> Backend:
    """The backend on the Ray whose dashboard is at `location` (`http://head:8265`), with a token as Ray finds it."""
    return RayJobsBackend(location, Access.from_environment())


@dataclass(frozen=True, slots=True)
class Access:
    """What it takes to be let in: Ray's token, or the file with it, which is read for each request; whom TLS trusts."""

    token_path: str | None = None
    ca_file: str | None = None
    token: str | None = field(default=None, repr=False)

    @classmethod
    def from_environment(cls, ca_file: str | None = None) -> Access:
        """As Ray's own clients find it: RAY_AUTH_TOKEN, else RAY_AUTH_TOKEN_PATH, else the user's own file."""
        if os.environ.get("RAY_AUTH_MODE", "token") != "token":
            return cls(ca_file=ca_file)
        default = Path("~/.ray/auth_token").expanduser()
        path = os.environ.get("RAY_AUTH_TOKEN_PATH") or (str(default) if default.is_file() else None)
        return cls(path, ca_file, os.environ.get("RAY_AUTH_TOKEN") or None)

    def headers(self) -> dict[str, str]:
        """What to send along. PlaceLostError where the token's file cannot be read."""
        token = self.token or (None if self.token_path is None else _read_token(self.token_path))
        return {"Authorization": f"Bearer {token}"} if token else {}


def _read_token(path: str) -> str:
    try:
        return Path(path).read_text().strip()
    except OSError as error:
        msg = f"the file with Ray's token, {path}, cannot be read: {error.strerror}"
        raise PlaceLostError(msg) from error


class RayJobsBackend:
    """Jobs on one Ray cluster. Safe to use from several threads.

    A cluster gives every job the same time to end by itself, `stop_wait_s`, and kills it then; `stop` can wait for less
    but cannot make it shorter.
    """

    def __init__(
        self,
        url: str,
        access: Access = Access(),  # frozen
        *,
        stop_wait_s: int = STOP_WAIT_S,
        timeout_s: float = TIMEOUT_S,
    ) -> None:
        self._url, self._access, self._stop_wait_s = _plain_url(url), access, stop_wait_s
        self._newest: tuple[float, dict[str, Attempt]] = -math.inf, {}  # when it was asked for; by job
        self._changed_at = -math.inf  # by us, what Ray knows; on the same clock
        self._http = httpx2.Client(base_url=self._url, timeout=timeout_s, verify=_tls(access.ca_file))

    def submit(self, request: JobRequest) -> JobStatus:
        """Start the job as an entrypoint on the cluster; see `Backend.submit`.

        A command or a folder that the cluster does not have makes a job that fails, with a message that says so.
        """
        self._check(request)
        attempts = self._attempts([request.job_id]).get(request.job_id, [])
        if attempts and request.attempt <= attempts[-1].attempt:
            return attempts[-1].status
        if attempts and not attempts[-1].status.state.is_over:
            msg = f"attempt {attempts[-1].attempt} of job {request.job_id} still runs; stop it first"
            raise JobError(msg)
        answer = self._post(request)
        if answer.status_code != httpx2.codes.OK and _TAKEN not in answer.text:
            is_its_own = answer.status_code >= _OWN_TROUBLE and _REFUSED_WITHIN not in answer.text
            msg = f"the Ray at {self._url} refuses job {request.job_id}: {last_line(answer.text)}"
            raise PlaceLostError(msg) if is_its_own else JobError(msg)
        with contextlib.suppress(JobError):  # else with the next attempt
            for superseded in attempts[:-1]:  # the last one shows why there had to be another
                self._delete(superseded.submission_id)
        return self.status(request.job_id)

    def _post(self, request: JobRequest) -> httpx2.Response:
        """The answer to the submission; how a job ended, Ray may write after it was deleted, and take its id so."""
        sent = self._submission(request)
        try:
            answer = self._ask("POST", "/api/jobs/", json=sent)
            if _TAKEN in answer.text and request.job_id not in self._attempts([request.job_id]):
                self._delete(sent["submission_id"])
                answer = self._ask("POST", "/api/jobs/", json=sent)
        finally:
            self._changed_at = time.monotonic()
        return answer

    def status(self, job_id: str) -> JobStatus:
        """Where the job's newest attempt stands."""
        return self._known(job_id)[-1].status

    def statuses(self, job_ids: Iterable[str]) -> dict[str, JobStatus]:
        """Where the newest attempts of several jobs stand.

        What somebody else submits, or has forgotten, may stay unseen for `LIST_EVERY_S`; `status` sees it.
        """
        wanted = list(job_ids)
        found = self._those_known(wanted)
        if found is None:
            listed = self._attempts(wanted)
            found = {job_id: attempts[-1] for job_id, attempts in listed.items()}
        return {job_id: attempt.status for job_id, attempt in found.items()}

    def stop(self, job_id: str, *, wait_s: float = 30.0) -> JobStatus:
        """SIGINT for the job and all its descendants, and SIGKILL from Ray after `stop_wait_s`; see the class.

        Asks again until it has an effect, since Ray forgets what it is asked of a job that has not started.
        """
        meant = self._known(job_id)[-1]  # and no attempt that may follow it
        deadline = time.monotonic() + wait_s + _KILL_S
        while not meant.status.state.is_over and time.monotonic() < deadline:
            self._ask("POST", f"/api/jobs/{quote(meant.submission_id)}/stop")
            time.sleep(_POLL_S)
            meant = self._look(meant) or meant
        return meant.status

    def forget(self, job_id: str) -> None:
        """Have Ray delete all ended attempts of a job; the files of their output stay with its nodes' own logs."""
        attempts = self._attempts([job_id]).get(job_id, [])
        if not all(attempt.status.state.is_over for attempt in attempts):
            msg = f"job {job_id} still runs; stop it first"
            raise JobError(msg)
        for attempt in attempts:
            self._delete(attempt.submission_id)

    def logs(self, job_id: str, *, offset: int = 0) -> LogChunk:
        """What the job wrote to stdout and stderr, all attempts that Ray remembers one after the other."""
        text = "".join(self._output(attempt) for attempt in self._known(job_id)).encode()
        return LogChunk(text[offset:].decode(errors="replace"), max(offset, len(text)))

    def capacity(self) -> Capacity:
        """What the nodes that are alive have, in sum and each."""
        answer = self._json("/api/v0/nodes?detail=1&limit=10000")
        try:
            nodes = answer["data"]["result"]["result"]
        except (KeyError, TypeError) as error:  # its own database does not answer
            msg = f"the Ray at {self._url} does not know its nodes"
            raise PlaceLostError(msg) from error
        totals = [node["resources_total"] for node in nodes if node["state"] == "ALIVE"]
        if not totals:  # its head is there before its nodes are: to share out nothing would take everybody's place
            msg = f"the Ray at {self._url} has no node that is alive"
            raise PlaceLostError(msg)
        each = tuple(Node(*(float(total.get(name, 0.0)) for name in ("CPU", "GPU", "memory"))) for total in totals)
        return Capacity(sum(node.cpus for node in each), sum(node.gpus for node in each), len(each), each)

    def _check(self, request: JobRequest) -> None:
        if not _ID.fullmatch(request.job_id):
            msg = f"{request.job_id!r} is no job id: up to 100 letters, digits, dots, dashes; the first no dot or dash"
            raise JobError(msg)
        if not request.argv:
            msg = f"job {request.job_id} has no command to run"
            raise JobError(msg)

    def _submission(self, request: JobRequest) -> dict[str, Any]:
        added = {name: value for name, value in request.env.items() if value is not None}
        environment = {"RAY_JOB_STOP_SIGNAL": "SIGINT", "RAY_JOB_STOP_WAIT_TIME_S": str(self._stop_wait_s), **added}
        reserved = {"entrypoint_num_cpus": request.cpu, "entrypoint_num_gpus": request.gpu}
        return {
            "entrypoint": entrypoint(request),
            "submission_id": request.job_id if request.attempt == 1 else f"{request.job_id}.{request.attempt}",
            "runtime_env": {"env_vars": environment, **({"pip": list(request.pip)} if request.pip else {})},
            "metadata": {**request.metadata, JOB: request.job_id, ATTEMPT: str(request.attempt)},
            **{name: amount for name, amount in reserved.items() if amount},
        }

    def _known(self, job_id: str) -> list[Attempt]:
        found = self._attempts([job_id]).get(job_id)
        if not found:
            msg = f"the Ray at {self._url} knows of no job {job_id!r}"
            raise UnknownJobError(msg)
        return found

    def _attempts(self, job_ids: Iterable[str]) -> dict[str, list[Attempt]]:
        """The attempts of each job that there are, in their order, as Ray has them now."""
        asked_at, wanted = time.monotonic(), frozenset(job_ids)
        found: dict[str, list[Attempt]] = {}
        for about in self._json("/api/jobs/"):
            job_id = (about.get("metadata") or {}).get(JOB)
            if isinstance(job_id, str) and about.get("submission_id"):
                with contextlib.suppress(KeyError, TypeError, ValueError):  # whoever may submit writes what they like
                    found.setdefault(job_id, []).append(Attempt.of(job_id, about))
        ordered = {job_id: sorted(attempts, key=lambda a: a.attempt) for job_id, attempts in found.items()}
        self._newest = asked_at, {job_id: attempts[-1] for job_id, attempts in ordered.items()}
        return {job_id: attempts for job_id, attempts in ordered.items() if job_id in wanted}

    def _those_known(self, job_ids: list[str]) -> dict[str, Attempt] | None:
        """The newest attempts of jobs, without asking for all that Ray has; None where it has to be asked for them."""
        asked_at, newest = self._newest
        if asked_at <= self._changed_at or time.monotonic() - asked_at > LIST_EVERY_S:
            return None
        found = {job_id: newest[job_id] for job_id in job_ids if job_id in newest}
        alive = [attempt for attempt in found.values() if not attempt.status.state.is_over]
        if len(alive) > MOST_SINGLE:
            return None
        for attempt in alive:
            seen = self._look(attempt)
            if seen is None:
                return None
            found[seen.status.job_id] = newest[seen.status.job_id] = seen
        return found

    def _look(self, attempt: Attempt) -> Attempt | None:
        """How one attempt stands by now, without asking for all the others; None where Ray does not say."""
        answer = self._ask("GET", f"/api/jobs/{quote(attempt.submission_id)}")
        try:
            return Attempt.of(attempt.status.job_id, answer.json()) if answer.is_success else None
        except (KeyError, TypeError, ValueError):
            return None

    def _delete(self, submission_id: str) -> None:
        try:
            answer = self._ask("DELETE", f"/api/jobs/{quote(submission_id)}")
        finally:
            self._changed_at = time.monotonic()
        if not (answer.is_success or answer.status_code == httpx2.codes.NOT_FOUND):
            msg = f"the Ray at {self._url} does not forget job {submission_id}: {last_line(answer.text)}"
            raise JobError(msg)

    def _output(self, attempt: Attempt) -> str:
        """The output without what Ray itself puts before it."""
        answer = self._ask("GET", f"/api/jobs/{quote(attempt.submission_id)}/logs")
        if answer.status_code != httpx2.codes.OK:  # its node is gone, and the file with it
            return ""
        text = str(answer.json().get("logs") or "")
        own, mark, rest = text.partition(f"Running entrypoint for job {attempt.submission_id}: {attempt.entrypoint}\n")
        return rest if mark else own if attempt.status.state.is_over else ""  # it failed before it had begun

    def _json(self, path: str) -> Any:  # noqa: ANN401  # any JSON value
        answer = self._ask("GET", path)
        if answer.status_code != httpx2.codes.OK:
            msg = f"the Ray at {self._url} answers {path} with {answer.status_code}: {last_line(answer.text)}"
            raise PlaceLostError(msg)
        try:
            return answer.json()
        except ValueError as error:
            msg = f"what answers at {self._url} is no Ray dashboard"
            raise PlaceLostError(msg) from error

    def _ask(self, method: str, path: str, **given: Any) -> httpx2.Response:  # noqa: ANN401  # handed on
        try:
            answer = self._http.request(method, path, headers=self._access.headers(), **given)
        except httpx2.HTTPError as error:
            msg = f"the Ray at {self._url} does not answer: {type(error).__name__}: {error}"
            raise PlaceLostError(msg) from error
        if answer.status_code in _UNAUTHORIZED:
            msg = f"the Ray at {self._url} wants another token (HTTP {answer.status_code}): see RAY_AUTH_TOKEN_PATH"
            raise PlaceLostError(msg)
        if answer.status_code in _GATEWAY_ERRORS:
            msg = f"the Ray at {self._url} cannot be reached through its proxy (HTTP {answer.status_code})"
            raise PlaceLostError(msg)
        return answer


def entrypoint(request: JobRequest) -> str:
    """The shell line for the job: its folder, its environment, and what happens when a signal kills it."""
    folder, program, command = shlex.quote(request.folder), shlex.quote(request.argv[0]), shlex.join(request.argv)
    absent = _give_up(f"the working directory {request.folder} does not exist", NO_FOLDER)
    missing = _give_up(f"{request.argv[0]} cannot be started: there is no such command", NO_COMMAND)
    unset = "".join(f"unset {shlex.quote(name)}; " for name, value in request.env.items() if value is None)
    start = f"cd {folder} || {absent}; {unset}command -v {program} >/dev/null || {missing}; "
    if not request.restarts:
        return f"{start}exec {command}"
    again = 'echo "the job was killed by signal $((code - 128)); it is started again"'
    over = f'[ "$code" -le {OF_SIGNAL} ] || [ -n "$told" ] || [ "$left" -le 0 ]'
    return (
        f"{start}told=; left={request.restarts}; trap 'told=1' INT TERM; "
        f'while :; do {command}; code=$?; if {over}; then exit "$code"; fi; left=$((left - 1)); {again}; done'
    )


def _give_up(text: str, code: int) -> str:
    return f"{{ echo {shlex.quote(text)}; exit {code}; }}"


def _plain_url(url: str) -> str:
    """The URL without a slash at its end. JobError where it is none, or holds a password, which a log would show."""
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        msg = f"{url!r} is no address of a Ray dashboard; write http://HEAD:8265"
        raise JobError(msg)
    if parts.username or parts.password:
        msg = f"the address of the Ray dashboard at {parts.hostname} holds a user or password; use a token file"
        raise JobError(msg)
    return url.rstrip("/")


def _tls(ca_file: str | None) -> ssl.SSLContext | bool:
    if ca_file is None:
        return True
    try:
        return ssl.create_default_context(cafile=ca_file)
    except OSError as error:
        msg = f"the CA file {ca_file} cannot be used: {error}"
        raise JobError(msg) from error
