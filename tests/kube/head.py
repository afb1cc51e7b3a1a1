"""The heads of Ray clusters that are none: each runs one job as a process of this machine, and has Ray's Jobs API."""

from __future__ import annotations

import json
import os
import shlex
import signal
import subprocess
import sys
import threading
from collections.abc import Mapping
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import psutil
import yaml

ROOT = Path(__file__).resolve().parents[2]


class Head:
    """A Ray cluster's head with one job: the entrypoint as KubeRay and Ray hand it on, from shell to shell."""

    def __init__(self, name: str, folder: Path, spec: dict[str, Any], environment: Mapping[str, str]) -> None:
        self._has = environment
        self.name, self._log = name, folder / f"{name}.log"
        self._spec, self._was_stopped = spec, False
        self._environment = json.loads(_through_bash(json.dumps(yaml.safe_load(spec["runtimeEnvYAML"]))))
        self.metadata: dict[str, str] = json.loads(_through_bash(json.dumps(spec.get("metadata") or {})))
        self.entrypoint = ""
        self._process_lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Have the submitter's shell take the entrypoint apart, and Ray's shell run what comes out of that."""
        words = subprocess.run(
            ["/bin/bash", "-c", f"printf '%s\\0' {self._spec['entrypoint']}"],
            capture_output=True, check=True,
        ).stdout.decode().split("\0")[:-1]  # fmt: skip
        self.entrypoint = shlex.join(words)
        path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
        image = {**os.environ, "PATH": path, "PYTHONPATH": str(ROOT), **self._has}
        with self._process_lock:
            self._process = subprocess.Popen(
                ["/bin/bash", "-c", self.entrypoint],
                env={**image, **self._environment.get("env_vars", {})},
                stdin=subprocess.DEVNULL, stdout=self._log.open("ab"), stderr=subprocess.STDOUT,
                start_new_session=True, cwd="/",
            )  # fmt: skip

    @property
    def status(self) -> str:
        """As Ray has it; empty before the job was submitted."""
        code = self._code()
        if self._process is None:
            return ""
        if code is None:
            return "RUNNING"
        return "STOPPED" if self._was_stopped else "SUCCEEDED" if code == 0 else "FAILED"

    @property
    def message(self) -> str:
        if self.status != "FAILED":
            return ""
        told = "last available logs (truncated to 20,000 chars):\n" + self.output()[-20_000:]
        return f"Job entrypoint command failed with exit code {self._code()}, {told}"

    def output(self) -> str:
        return self._log.read_text() if self._log.is_file() else ""

    def about(self) -> dict[str, Any]:
        return {"submission_id": self.name, "status": self.status or "PENDING", "message": self.message,
                "entrypoint": self.entrypoint, "metadata": self.metadata, "driver_exit_code": self._code()}  # fmt: skip

    def interrupt(self) -> None:
        """What Ray does when a job is to end."""
        if self.status == "RUNNING":
            self._was_stopped = True
            for member in self._tree():
                with suppress(psutil.NoSuchProcess):
                    member.send_signal(signal.SIGINT)

    def kill(self) -> None:
        """Its pod goes, with all that runs in it, at once: nobody is left who could start anything again."""
        held: set[psutil.Process] = set()
        while new := set(self._tree()) - held:
            for member in new:
                with suppress(psutil.NoSuchProcess):
                    member.suspend()
            held |= new
        for member in held:
            with suppress(psutil.NoSuchProcess):
                member.kill()
        if self._process is not None:
            self._process.wait()

    def _code(self) -> int | None:
        with self._process_lock:
            return None if self._process is None else self._process.poll()

    def _tree(self) -> list[psutil.Process]:
        if self._process is None:
            return []
        with suppress(psutil.NoSuchProcess):
            mine = psutil.Process(self._process.pid)
            return [*mine.children(recursive=True), mine]
        return []


def _through_bash(text: str) -> str:
    """What is left of a JSON text that KubeRay has put between double quotes into its submitter's script."""
    quoted = json.dumps(text, ensure_ascii=False)
    return subprocess.run(["/bin/bash", "-c", f"printf %s {quoted}"], capture_output=True, check=True).stdout.decode()


class Dashboards(ThreadingHTTPServer):
    """The Jobs API of every head, each under its name: `http://HOST:PORT/NAME/api/jobs/`."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _JobsApi)
        self.heads: dict[str, Head] = {}
        self.is_closed = False  # as behind a network policy
        threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()

    def url(self, name: str) -> str:
        return f"127.0.0.1:{self.server_port}/{name}"

    def handle_error(self, request: object, client_address: object) -> None:
        """A client that goes away is no error."""


class _JobsApi(BaseHTTPRequestHandler):
    server: Dashboards

    def log_message(self, *_: object) -> None:
        """Nothing."""

    def do_GET(self) -> None:
        self._serve()

    def do_POST(self) -> None:
        self._serve()

    def _serve(self) -> None:
        name, *words = self.path.strip("/").split("/")
        head = self.server.heads.get(name)
        if head is None or self.server.is_closed:
            self.close_connection = True
            return
        match words:
            case ["api", "jobs"]:
                found: Any = [head.about()] if head.status else []
            case ["api", "jobs", _, "logs"]:
                found = {"logs": f"Running entrypoint for job {head.name}: {head.entrypoint}\n{head.output()}"}
            case ["api", "jobs", _, "stop"]:
                head.interrupt()
                found = {"stopped": True}
            case _:
                found = head.about()
        data = json.dumps(found).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)
