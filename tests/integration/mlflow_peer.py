"""Real MLflow servers on loopback for tests, a proxy before them that misbehaves, and a look into their database."""

from __future__ import annotations

import contextlib
import http.client
import math
import sqlite3
import subprocess
import threading
import time
import urllib.request
from collections import Counter
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from service.tuning.events import Record, Reported, TrialEnded, TrialProposed
from service.tuning.tracking_server import mlflow_environment, mlflow_ui_command
from tests.ports import free_port

Plan = Callable[[int, str], str]  # (number of the request, its path) -> pass, lose, refuse or 503


@contextlib.contextmanager
def mlflow_server(home: Path, port: int | None = None) -> Iterator[str]:
    """An MLflow server on the store under `home`, job execution off; yields its address."""
    home.mkdir(parents=True, exist_ok=True)
    port = port or free_port()
    address = f"http://127.0.0.1:{port}"
    with (home / "server.log").open("ab") as log:
        process = subprocess.Popen(
            mlflow_ui_command(home, "127.0.0.1", port), env=mlflow_environment(), stdout=log, stderr=log, cwd=home
        )
    try:
        _wait_until_healthy(address, process)
        yield address
    finally:
        process.terminate()
        try:
            process.wait(15)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _wait_until_healthy(address: str, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + 240
    while time.monotonic() < deadline:
        if process.poll() is not None:
            msg = f"the MLflow server ended with {process.returncode}"
            raise RuntimeError(msg)
        with contextlib.suppress(OSError), _ask(address) as reply:
            if reply.status == http.client.OK:
                return
        time.sleep(0.2)
    msg = "the MLflow server does not answer"
    raise TimeoutError(msg)


def _ask(address: str) -> http.client.HTTPResponse:
    reply: http.client.HTTPResponse = urllib.request.urlopen(f"{address}/health", timeout=2)  # noqa: S310  # loopback
    return reply


class Proxy:
    """A real proxy before an MLflow server; `plan` says what becomes of each request, `paths` keeps what came."""

    def __init__(self, target: str) -> None:
        self.target = target.removeprefix("http://")
        self.plan: Plan = lambda _number, _path: "pass"
        self.paths: list[str] = []
        self.lost: list[str] = []

    @contextlib.contextmanager
    def serve(self) -> Iterator[str]:
        """Listen on loopback; yields the address."""
        proxy = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def handle_any(self) -> None:
                proxy.handle(self)

            do_GET = do_POST = do_PATCH = do_PUT = do_DELETE = handle_any  # noqa: N815  # the names http.server calls

            def log_message(self, *_: object) -> None:
                """Keep quiet."""

        server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        server.daemon_threads = True
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}"
        finally:
            server.shutdown()
            server.server_close()
            thread.join()

    def handle(self, request: BaseHTTPRequestHandler) -> None:
        """Forward one request, or do what the plan says instead."""
        body = request.rfile.read(int(request.headers.get("Content-Length") or 0))
        number = len(self.paths)
        self.paths.append(request.path)
        action = self.plan(number, request.path)
        if action == "refuse":
            request.close_connection = True
            return
        if action == "503":
            self._answer(request, 503, b"Service Unavailable", "text/plain")
            return
        status, content, kind = self._forward(request, body)
        if action == "lose":
            self.lost.append(request.path)
            request.close_connection = True
            return
        self._answer(request, status, content, kind)

    def _forward(self, request: BaseHTTPRequestHandler, body: bytes) -> tuple[int, bytes, str]:
        connection = http.client.HTTPConnection(self.target, timeout=60)
        try:
            headers = {k: v for k, v in request.headers.items() if k.lower() not in ("host", "connection")}
            connection.request(request.command, request.path, body, headers)
            reply = connection.getresponse()
            return reply.status, reply.read(), reply.getheader("Content-Type", "application/json")
        finally:
            connection.close()

    @staticmethod
    def _answer(request: BaseHTTPRequestHandler, status: int, content: bytes, kind: str) -> None:
        request.send_response(status)
        request.send_header("Content-Type", kind)
        request.send_header("Content-Length", str(len(content)))
        request.end_headers()
        request.wfile.write(content)


def rows(home: Path, query: str, *values: str) -> list[tuple[object, ...]]:
    """What the store under `home` holds."""
    with contextlib.closing(sqlite3.connect(home / "mlflow.db", timeout=30)) as connection:
        return connection.execute(query, values).fetchall()


def active_runs(home: Path, sweep_id: str) -> dict[str, dict[str, str]]:
    """Tags, with `status`, by run id of all runs of the sweep that are not deleted."""
    found: dict[str, dict[str, str]] = {}
    query = "SELECT r.run_uuid, r.status, t.key, t.value FROM runs r JOIN tags t USING (run_uuid)"
    for run, status, key, value in rows(home, f"{query} WHERE r.lifecycle_stage = 'active'"):
        found.setdefault(str(run), {"status": str(status)})[str(key)] = str(value)
    return {run: tags for run, tags in found.items() if tags.get("tuneyard.sweep_id") == sweep_id}


def check_exactly_once(home: Path, ledger: list[Record], sweep_id: str) -> None:
    """As many child runs as trials, none left RUNNING, and each (trial, metric, epoch) exactly once with its value."""
    runs = active_runs(home, sweep_id)
    parents = [run for run, tags in runs.items() if tags["tuneyard.kind"] == "sweep"]
    children = {run: int(tags["tuneyard.trial"]) for run, tags in runs.items() if "tuneyard.trial" in tags}
    proposed = [r.event.trial for r in ledger if isinstance(r.event, TrialProposed)]
    assert len(parents) == 1
    assert sorted(children.values()) == sorted(proposed)
    assert all(tags["mlflow.parentRunId"] == parents[0] for run, tags in runs.items() if run in children)
    assert [tags for tags in runs.values() if tags["status"] not in ("FINISHED", "FAILED")] == []
    endings = {r.event.trial: r.event.ending for r in ledger if isinstance(r.event, TrialEnded)}
    assert {children[run]: tags["tuneyard.ending"] for run, tags in runs.items() if run in children} == endings
    expected = expected_points(ledger)
    stored = stored_points(home, children)
    assert Counter(stored) == Counter(expected)


def expected_points(ledger: list[Record]) -> list[tuple[int, str, int, int, float | None]]:
    """(trial, metric, epoch, time in ms, value) of every report; None for what is no finite number."""
    points = []
    for record in ledger:
        if isinstance(record.event, Reported):
            for name, value in record.event.metrics.items():
                is_number = math.isfinite(value) and abs(value) < 1e30
                at = round(record.at * 1000)
                points.append((record.event.trial, name, record.event.epoch, at, value if is_number else None))
    return points


def stored_points(home: Path, children: dict[str, int]) -> list[tuple[int, str, int, int, float | None]]:
    """The same, as the store has it."""
    found = []
    for run, key, step, at, value, is_nan in rows(
        home, "SELECT run_uuid, key, step, timestamp, value, is_nan FROM metrics"
    ):
        if str(run) in children and not str(key).startswith(("best_", "held_out_")):
            number = None if is_nan else float(str(value))
            found.append((children[str(run)], str(key), int(str(step)), int(str(at)), number))
    return found
