"""MLflow's pages beside the service: a process of its own on the data folder, kept alive, and gone with the service."""

from __future__ import annotations

import json
import logging
import signal
import subprocess
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

import psutil

from service.settings import child_environment

log: Final = logging.getLogger(__name__)
SHORTEST_WAIT_S: Final = 1.0
LONGEST_WAIT_S: Final = 60.0
SETTLED_S: Final = 60.0  # it ran for so long: the next failure is a new one
STOP_WAIT_S: Final = 5.0
_ROOT: Final = Path(__file__).parents[2]


class MlflowBeside:
    """`tuneyard ui` as a child process; sweeps do without it: their trackers write to the store itself."""

    def __init__(self, home: Path, port: int, public_url: str = "") -> None:
        self._home, self._port, self._public_url = home, port, public_url
        self._record = home / "mlflow-server.json"
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._keep, name="mlflow", daemon=True)

    @property
    def url(self) -> str:
        """Where its pages are, for people on this machine or behind a proxy."""
        return f"http://127.0.0.1:{self._port}"

    def start(self) -> None:
        """Start it in the background: it takes seconds to come up, and nobody waits for it."""
        self._thread.start()

    def stop(self) -> None:
        """End it and wait for that."""
        self._stop.set()
        self._thread.join()

    def _keep(self) -> None:
        self._end_leftover()
        wait_s = SHORTEST_WAIT_S
        while not self._stop.is_set():
            began = time.monotonic()
            process = self._begin()
            while process.poll() is None and not self._stop.wait(0.5):
                pass
            if self._stop.is_set():
                _end(process.pid)
                process.wait()
                self._record.unlink(missing_ok=True)
                return
            wait_s = SHORTEST_WAIT_S if time.monotonic() - began > SETTLED_S else min(2 * wait_s, LONGEST_WAIT_S)
            log.warning("MLflow's server ended with %s; it is started again in %g s", process.returncode, wait_s)
            self._stop.wait(wait_s)

    def _begin(self) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-P", "-m", "service.cli", "--data-dir", str(self._home)]
        command += ["ui", "--host", "127.0.0.1", "--port", str(self._port)]
        with (self._home / "mlflow-server.log").open("ab") as output:
            process = subprocess.Popen(
                command,
                cwd=self._home,
                env={**answers_to(self._public_url), **child_environment(_ROOT)},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,  # Ctrl-C is for the service, which then ends it
            )
        with suppress(psutil.NoSuchProcess):
            mark = {"pid": process.pid, "created": psutil.Process(process.pid).create_time()}
            self._record.write_text(json.dumps(mark))
        return process

    def _end_leftover(self) -> None:
        """End the server of a service that was killed: it holds the port."""
        with suppress(OSError, ValueError, KeyError, psutil.NoSuchProcess):
            mark = json.loads(self._record.read_text())
            if psutil.Process(mark["pid"]).create_time() == mark["created"]:
                _end(mark["pid"])


def answers_to(public_url: str) -> dict[str, str]:
    """The variables that have MLflow's server answer pages under `public_url`, behind a proxy; it refuses other names.

    Its list of names stands for the one that it has by itself, so this machine's are in it.
    """
    if not public_url:
        return {}
    parts = urlsplit(public_url)
    here = (name for host in ("localhost", "127.0.0.1") for name in (host, f"{host}:*"))
    return {
        "MLFLOW_SERVER_ALLOWED_HOSTS": ",".join((parts.netloc.lower(), *here)),
        "MLFLOW_SERVER_CORS_ALLOWED_ORIGINS": f"{parts.scheme}://{parts.netloc.lower()}",
    }


def _end(pid: int) -> None:
    """End a process and its children, by force where they do not go."""
    with suppress(psutil.NoSuchProcess):
        top = psutil.Process(pid)
        family = [top, *top.children(recursive=True)]
        for process in family:
            with suppress(psutil.NoSuchProcess):
                process.send_signal(signal.SIGTERM)
        _gone, left = psutil.wait_procs(family, timeout=STOP_WAIT_S)
        for process in left:
            with suppress(psutil.NoSuchProcess):
                process.kill()
