"""Runs a job on a Ray cluster through the Jobs API of its head, over HTTP alone: this process needs no Ray.

A job's first attempt has the job's id as its submission id, a later one `<id>.<attempt>`. Ray forgets all its jobs when
its head is lost, and their output with them.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import shlex
import signal
import ssl
import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote, urlsplit

import httpx2

from cluster.backend import (
    Backend,
    Capacity,
    JobError,
    JobRequest,
    JobState,
    JobStatus,
    LogChunk,
    Node,
    PlaceLostError,
    UnknownJobError,
)

STOP_WAIT_S: Final = 60  # a driver that is told to end waits for its trials' next reports
TIMEOUT_S: Final = 20.0
_POLL_S: Final = 0.3
_KILL_S: Final = 4.0  # beyond the wait: until Ray has killed what would not end, and says so
_ID: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,100}")
_JOB, _ATTEMPT = "tuneyard_job", "tuneyard_attempt"  # metadata by which submissions are found again
_ATTEMPTS: Final = 2**31  # more than there can be of one job
_STATES: Final = {
    "PENDING": JobState.PENDING,
    "RUNNING": JobState.RUNNING,
    "SUCCEEDED": JobState.SUCCEEDED,
    "FAILED": JobState.FAILED,
    "STOPPED": JobState.STOPPED,
}
_NO_FOLDER, _NO_COMMAND, _OF_SIGNAL = 126, 127, 128  # a shell's exit codes; a signal's number is added to the last
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

    def __init__(self, url: str, access: Access = Access(), *, stop_wait_s: int = STOP_WAIT_S) -> None:  # frozen
        self._url, self._access, self._stop_wait_s = _plain_url(url), access, stop_wait_s
        self._http = httpx2.Client(base_url=self._url, timeout=TIMEOUT_S, verify=_tls(access.ca_file))

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
        answer = self._ask("POST", "/api/jobs/", json=self._submission(request))
        if answer.status_code != httpx2.codes.OK and "already exists" not in answer.text:
            is_its_own = answer.status_code >= _OWN_TROUBLE and _REFUSED_WITHIN not in answer.text
            msg = f"the Ray at {self._url} refuses job {request.job_id}: {_last_line(answer.text)}"
            raise PlaceLostError(msg) if is_its_own else JobError(msg)
        return self.status(request.job_id)

    def status(self, job_id: str) -> JobStatus:
        """Where the job's newest attempt stands."""
        return self._known(job_id)[-1].status

    def statuses(self, job_ids: Iterable[str]) -> dict[str, JobStatus]:
        """Where the newest attempts of several jobs stand, in one request."""
        return {job_id: found[-1].status for job_id, found in self._attempts(job_ids).items()}

    def stop(self, job_id: str, *, wait_s: float = 30.0) -> JobStatus:
        """SIGINT for the job and all its descendants, and SIGKILL from Ray after `stop_wait_s`; see the class.

        Asks again until it has an effect, since Ray forgets what it is asked of a job that has not started.
        """
        meant = self._known(job_id)[-1]  # and no attempt that may follow it
        deadline = time.monotonic() + wait_s + _KILL_S
        while not meant.status.state.is_over and time.monotonic() < deadline:
            self._ask("POST", f"/api/jobs/{quote(meant.submission_id)}/stop")
            time.sleep(_POLL_S)
            meant = self._again(meant)
        return meant.status

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
            "metadata": {**request.metadata, _JOB: request.job_id, _ATTEMPT: str(request.attempt)},
            **{name: amount for name, amount in reserved.items() if amount},
        }

    def _known(self, job_id: str) -> list[_Attempt]:
        found = self._attempts([job_id]).get(job_id)
        if not found:
            msg = f"the Ray at {self._url} knows of no job {job_id!r}"
            raise UnknownJobError(msg)
        return found

    def _attempts(self, job_ids: Iterable[str]) -> dict[str, list[_Attempt]]:
        """The attempts of each job that there are, in their order."""
        wanted = frozenset(job_ids)
        found: dict[str, list[_Attempt]] = {}
        for about in self._json("/api/jobs/"):
            job_id = (about.get("metadata") or {}).get(_JOB)
            if job_id in wanted and about.get("submission_id"):
                with contextlib.suppress(KeyError, TypeError, ValueError):  # whoever may submit writes what they like
                    found.setdefault(job_id, []).append(_Attempt.of(job_id, about))
        return {job_id: sorted(attempts, key=lambda a: a.attempt) for job_id, attempts in found.items()}

    def _again(self, attempt: _Attempt) -> _Attempt:
        """How one attempt stands by now, without asking for all the others; as before where Ray does not know."""
        answer = self._ask("GET", f"/api/jobs/{quote(attempt.submission_id)}")
        try:
            return _Attempt.of(attempt.status.job_id, answer.json()) if answer.is_success else attempt
        except (KeyError, TypeError, ValueError):
            return attempt

    def _output(self, attempt: _Attempt) -> str:
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
            msg = f"the Ray at {self._url} answers {path} with {answer.status_code}: {_last_line(answer.text)}"
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
            msg = (
                f"the Ray at {self._url} wants another token (HTTP {answer.status_code}); RAY_AUTH_TOKEN_PATH names it"
            )
            raise PlaceLostError(msg)
        if answer.status_code in _GATEWAY_ERRORS:
            msg = f"the Ray at {self._url} cannot be reached through its proxy (HTTP {answer.status_code})"
            raise PlaceLostError(msg)
        return answer


@dataclass(frozen=True, slots=True)
class _Attempt:
    submission_id: str
    attempt: int
    entrypoint: str
    status: JobStatus

    @classmethod
    def of(cls, job_id: str, about: dict[str, Any]) -> _Attempt:
        """The attempt that Ray tells of. KeyError, TypeError, ValueError where it is none of Tuneyard's."""
        attempt = int(about["metadata"][_ATTEMPT])
        if not 0 < attempt < _ATTEMPTS:
            msg = f"{attempt} is no number of an attempt"
            raise ValueError(msg)
        state, code = _STATES.get(about["status"], JobState.FAILED), _exit_code(about.get("driver_exit_code"))
        status = JobStatus(job_id, attempt, state, code, _message(state, code, about.get("message") or ""))
        return cls(about["submission_id"], attempt, about["entrypoint"], status)


def entrypoint(request: JobRequest) -> str:
    """The shell line for the job: its folder, its environment, and what happens when a signal kills it."""
    folder, program, command = shlex.quote(request.folder), shlex.quote(request.argv[0]), shlex.join(request.argv)
    absent = _give_up(f"the working directory {request.folder} does not exist", _NO_FOLDER)
    missing = _give_up(f"{request.argv[0]} cannot be started: there is no such command", _NO_COMMAND)
    unset = "".join(f"unset {shlex.quote(name)}; " for name, value in request.env.items() if value is None)
    start = f"cd {folder} || {absent}; {unset}command -v {program} >/dev/null || {missing}; "
    if not request.restarts:
        return f"{start}exec {command}"
    again = 'echo "the job was killed by signal $((code - 128)); it is started again"'
    over = f'[ "$code" -le {_OF_SIGNAL} ] || [ -n "$told" ] || [ "$left" -le 0 ]'
    return (
        f"{start}told=; left={request.restarts}; trap 'told=1' INT TERM; "
        f'while :; do {command}; code=$?; if {over}; then exit "$code"; fi; left=$((left - 1)); {again}; done'
    )


def _give_up(text: str, code: int) -> str:
    return f"{{ echo {shlex.quote(text)}; exit {code}; }}"


def _exit_code(code: int | None) -> int | None:
    """As a process has it: a shell adds 128 to the number of the signal that killed its command."""
    return code if code is None or code <= _OF_SIGNAL else _OF_SIGNAL - code


def _message(state: JobState, code: int | None, said: str) -> str:
    if state is JobState.STOPPED:
        return "stopped on request"
    if state is not JobState.FAILED or code is None:
        return "" if state is JobState.SUCCEEDED else said
    if code in (_NO_FOLDER, _NO_COMMAND):
        return _last_line(said)
    with contextlib.suppress(ValueError):
        return f"killed by {signal.Signals(-code).name}"
    return f"exit code {code}"


def _last_line(text: str) -> str:
    with contextlib.suppress(ValueError, AttributeError):
        text = json.loads(text).get("msg", text)
    lines = [line for line in text.splitlines() if line.strip(" .")]
    return lines[-1].strip() if lines else "it does not say why"


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
