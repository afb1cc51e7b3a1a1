"""A Ray of Tuneyard's own on this machine, for a service that was given no cluster: started, adopted, ended.

It outlives whoever started it, since the sweeps on it go on by themselves; the next one to ask for it adopts it. Only
what bears the mark of its folder is ever ended: `ray stop` would end every Ray of the user. The dashboard is on
loopback; other parts of Ray listen on every address and ask for the token there.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

import psutil

from cluster._supervisor import process_mark, write_record
from cluster.backend import JobError, PlaceLostError
from cluster.ray_jobs import Access, RayJobsBackend

# A shell's background jobs ignore SIGINT, and would hand that on to Ray and to all its jobs, which are ended with one.
_HEAR_INTERRUPTS: Final = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler)"
MARK_VARIABLE: Final = "TUNEYARD_RAY"  # in the environment of every process of such a Ray
LOOPBACK: Final = "127.0.0.2" if sys.platform == "linux" else "127.0.0.1"  # Ray takes .1 for the public address
START_S: Final = 90.0
ANSWER_S: Final = 180.0  # a Ray that is there but busy gets this long to answer, as all that runs on it ends with it
LEAVE_S: Final = 8.0
STARTS: Final = 3  # with other ports each time, since another process may take one that was just free
OBJECT_STORE_BYTES: Final = 256 * 2**20  # results and configurations only; data stays with the workers
# What runs on it is other people's code, which must not find the secrets of the service that started it.
_NOT_FOR_RAY: Final = ("TUNEYARD_", "PGPASSWORD", "RAY_ADDRESS", "RAY_AUTH_TOKEN")
_POLL_S: Final = 0.2
_PORTS: Final = (
    "port",
    "dashboard-port",
    "dashboard-agent-listen-port",
    "dashboard-agent-grpc-port",
    "metrics-export-port",
    "ray-client-server-port",
    "runtime-env-agent-port",
    "node-manager-port",
    "object-manager-port",
)  # Ray's defaults are fixed numbers for some of them, which another Ray of this machine may have


@dataclass(frozen=True, slots=True)
class RayHead:
    """A running Ray: `address` (HOST:PORT) for drivers, `url` for jobs, and the file with the token for both."""

    pid: int
    mark: str | None  # of the process, so that a later one with its number is not taken for it
    address: str
    url: str
    token_path: str

    def backend(self) -> RayJobsBackend:
        """The place where jobs run on it."""
        return RayJobsBackend(self.url, Access(token_path=self.token_path))

    def is_alive(self) -> bool:
        """Whether its process is there; it may still be too busy to answer."""
        return self.mark is not None and process_mark(self.pid) == self.mark and _is_running(self.pid)


def own(folder: Path, *, cpus: int | None = None, gpus: int | None = None) -> RayHead:
    """The Ray that belongs to `folder`: the one that runs, else a new one. JobError where it does not come up.

    What is left of one that broke is ended first. `cpus` and `gpus` count for a new one; None is all of the machine's.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with _lock(folder):
        found = read(folder)
        if found is not None and found.is_alive() and _answers(found, ANSWER_S):
            return found
        _end(folder, found)
        for left in reversed(range(STARTS)):
            head = _start(folder, {"num-cpus": cpus, "num-gpus": gpus})
            if _answers(head, START_S):
                write_record(folder / "head.json", asdict(head))
                return head
            _end(folder, head)
            if not left:
                break
        msg = f"Ray does not come up on this machine: {_tail(folder) or 'no answer'} (more in {folder / 'ray.log'})"
        raise JobError(msg)


def read(folder: Path) -> RayHead | None:
    """The Ray that was last started for `folder`, alive or not; None where there was none."""
    try:
        return RayHead(**json.loads((folder / "head.json").read_text()))
    except (FileNotFoundError, ValueError, TypeError):
        return None


def end(folder: Path) -> None:
    """End the Ray of `folder` with every job on it; nothing happens where none runs."""
    if folder.is_dir():
        with _lock(folder):
            _end(folder, read(folder))


def _start(folder: Path, resources: dict[str, int | None]) -> RayHead:
    token_path = _token(folder)
    ports = dict(zip(_PORTS, _free_ports(len(_PORTS)), strict=True))
    shutil.rmtree(_scratch(folder), ignore_errors=True)
    given = {name: amount for name, amount in resources.items() if amount is not None}
    options = {
        **ports,
        **given,
        "node-ip-address": LOOPBACK,
        "dashboard-host": LOOPBACK,
        "object-store-memory": OBJECT_STORE_BYTES,
        "min-worker-port": 0,  # any free one
        "max-worker-port": 0,
        "temp-dir": _scratch(folder),
    }
    code = f"{_HEAR_INTERRUPTS}; from ray.scripts.scripts import main; main()"
    command = [sys.executable, "-P", "-c", code, "start", "--head", "--block", "--disable-usage-stats"]
    with (folder / "ray.log").open("wb") as log:
        process = subprocess.Popen(
            [*command, *(f"--{name}={value}" for name, value in options.items())],
            cwd=folder,
            env=_environment(folder, token_path),
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    address, url = f"{LOOPBACK}:{ports['port']}", f"http://{LOOPBACK}:{ports['dashboard-port']}"
    return RayHead(process.pid, process_mark(process.pid), address, url, str(token_path))


def _environment(folder: Path, token_path: Path) -> dict[str, str]:
    """The environment of Ray and of all that runs on it: this Python first, and the token by its file only."""
    mine = {name: value for name, value in os.environ.items() if not name.startswith(_NOT_FOR_RAY)}
    return {
        **mine,
        "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)]),
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN_PATH": str(token_path),
        "RAY_USAGE_STATS_ENABLED": "0",
        MARK_VARIABLE: _mark(folder),
    }


def _answers(head: RayHead, wait_s: float) -> bool:
    """Whether it answers, with nodes to run on, before `wait_s` are over or its process is gone."""
    deadline = time.monotonic() + wait_s
    backend = head.backend()
    while head.is_alive() and time.monotonic() < deadline:
        with contextlib.suppress(PlaceLostError):
            if backend.capacity().nodes:
                return True
        time.sleep(_POLL_S)
    return False


def _end(folder: Path, head: RayHead | None) -> None:
    """Ask its first process to end all the others; then end whatever bears the folder's mark."""
    if head is not None and head.is_alive():
        with contextlib.suppress(ProcessLookupError):
            os.kill(head.pid, signal.SIGTERM)
        _wait_for([head.pid])
    for number in (signal.SIGTERM, signal.SIGKILL):
        marked = _marked(_mark(folder))
        for pid in marked:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, number)
        _wait_for(marked)
    (folder / "head.json").unlink(missing_ok=True)
    shutil.rmtree(_scratch(folder), ignore_errors=True)


def _wait_for(pids: list[int]) -> None:
    deadline = time.monotonic() + LEAVE_S
    while any(map(_is_running, pids)) and time.monotonic() < deadline:
        time.sleep(_POLL_S)


def _marked(mark: str) -> list[int]:
    """Every other process of this user whose environment bears `mark`."""
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error, OSError):
            if process.pid != os.getpid() and process.environ().get(MARK_VARIABLE) == mark and _is_running(process.pid):
                found.append(process.pid)
    return found


def _is_running(pid: int) -> bool:
    with contextlib.suppress(ChildProcessError):  # it may be our own child, which nobody else buries
        os.waitpid(pid, os.WNOHANG)
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def _token(folder: Path) -> Path:
    """The file with the token of this folder's Ray, which only its user can read."""
    path = folder / "token"
    with contextlib.suppress(FileExistsError):
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(handle, "w") as stream:
            stream.write(secrets.token_hex(32))
    return path


def _free_ports(count: int) -> list[int]:
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for each in sockets:
            each.bind((LOOPBACK, 0))
        return [each.getsockname()[1] for each in sockets]


def _mark(folder: Path) -> str:
    return hashlib.blake2b(str(folder.resolve()).encode(), digest_size=6).hexdigest()


def _scratch(folder: Path) -> Path:
    """A folder with a short path, since sockets live in it."""
    return Path(tempfile.gettempdir()) / f"tyr-{_mark(folder)}"


def _tail(folder: Path) -> str:
    """The last line of its log, which says what went wrong where it ended with an exception."""
    with contextlib.suppress(OSError):
        lines = (folder / "ray.log").read_text(errors="replace").split("\n")
        return next((line.strip() for line in reversed(lines) if line.strip()), "")
    return ""


@contextlib.contextmanager
def _lock(folder: Path) -> Iterator[None]:
    with (folder / ".lock").open("w") as stream:
        fcntl.flock(stream, fcntl.LOCK_EX)
        yield
