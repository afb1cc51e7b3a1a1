"""`tuneyard serve` as a process: what it refuses, how light it is, how it ends, and what it never writes down."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path
from urllib.error import HTTPError
from urllib.request import Request, urlopen

import psutil
import pytest

from service.client import Client
from service.errors import TuneyardError
from service.records import Role, State
from tests.served import ROOT, Served

NOWHERE = ("--cluster", "http://127.0.0.1:9")
RECIPE = "trainables/recipes/digits.yaml"
CANARY = "c4n4ry0c4n4ry0c4n4ry"
STREAM = {"Accept": "text/event-stream"}
HEAVY = ("torch", "ray", "mlflow", "numpy", "scipy", "pytorch_lightning", "sklearn")


def tuneyard(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "service.cli", *arguments]
    return subprocess.run(
        command, capture_output=True, text=True, check=False, timeout=300, env={**os.environ, **environment}
    )


def test_others_than_this_machine_are_refused_without_auth(tmp_path: Path) -> None:
    refused = tuneyard("--data-dir", str(tmp_path), "serve", "--host", "0.0.0.0", "--port", "0")  # noqa: S104  # what is refused
    assert refused.returncode == 2
    assert "--auth token" in refused.stderr
    assert list(tmp_path.iterdir()) == []


def test_an_operator_is_told_what_sweeps_code_can_reach(tmp_path: Path) -> None:
    """Commands with a first token, on a service that listens to people who log in."""
    with Served(tmp_path / "home", *NOWHERE, "--auth", "token") as served:
        first = json.loads(served.log.splitlines()[0])
        assert (first["level"], "put it elsewhere with --database" in first["message"]) == ("warning", True)
        assert {path.stat().st_mode & 0o777 for path in served.home.glob("service.db*")} == {0o600}
        person = {"XDG_CONFIG_HOME": str(tmp_path), "TUNEYARD_SERVER": served.url, "TUNEYARD_TOKEN": served.token()}
        set_to = tuneyard("quota", "set", "project", "default", "--cpus", "2", **person)
        assert set_to.stdout == "project default: 2 CPUs\n"
        done = json.loads(tuneyard("audit", "--json", **person).stdout)[0]
        assert (done["user"], done["subject"], done["outcome"]) == ("ada", "project/default", "200")


def test_a_port_that_is_taken_is_told_at_once(tmp_path: Path) -> None:
    with Served(tmp_path / "one", *NOWHERE) as served:
        port = served.url.rsplit(":", 1)[1]
        second = tuneyard("--data-dir", str(tmp_path / "two"), "serve", "--port", port)
        assert second.returncode == 1
        assert "--port" in second.stderr


def test_the_process_imports_nothing_heavy_and_stays_small(tmp_path: Path) -> None:
    code = (
        "import sys, service.server.serve, service.api.app, service.cli.serve, service.sweeps.past_sweeps\n"
        f"print(*[name for name in {HEAVY!r} if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""
    with Served(tmp_path, *NOWHERE) as served, served.client() as client:
        client.submit(RECIPE)
        assert served.process is not None
        maps = Path(f"/proc/{served.process.pid}/maps").read_text()
        assert [name for name in HEAVY if f"/{name}/" in maps] == []
        assert psutil.Process(served.process.pid).memory_info().rss < 250 * 2**20


def test_what_was_acknowledged_is_there_after_a_kill(tmp_path: Path) -> None:
    served = Served(tmp_path, *NOWHERE)
    with served:
        with served.client() as client:
            sweeps = [client.submit(RECIPE, overrides=[f"name=s{number}"]).id for number in range(3)]
        served.stop(signal.SIGKILL)
        served.start()
        with served.client() as client:
            assert sorted(sweep.id for sweep in client.sweeps()) == sorted(sweeps)
            assert {client.sweep(sweep).state for sweep in sweeps} == {State.QUEUED}


def test_told_to_stop_it_lets_open_streams_end_and_takes_nothing_new(tmp_path: Path) -> None:
    with Served(tmp_path, *NOWHERE) as served:
        with served.client() as client:
            sweep = client.submit(RECIPE).id
        begun, ended = threading.Event(), threading.Event()
        events = Request(f"{served.url}/api/v1/sweeps/{sweep}/events", headers=STREAM)  # noqa: S310  # our own

        def follow() -> None:
            with urlopen(events) as stream:  # noqa: S310  # our own
                begun.set()
                while stream.readline():
                    pass
            ended.set()

        thread = threading.Thread(target=follow, daemon=True)
        thread.start()
        assert begun.wait(120)
        assert served.stop() == 0
        assert ended.wait(120)
        assert "told to stop by SIGTERM" in served.log
        with pytest.raises(TuneyardError), Client(served.url, patience_s=0.1) as client:
            list(client.sweeps())


def test_no_secret_is_ever_logged(tmp_path: Path) -> None:
    environment = {"TUNEYARD_LOG_LEVEL": "debug", "AWS_SECRET_ACCESS_KEY": CANARY}
    with Served(tmp_path, *NOWHERE, "--auth", "token", environment=environment) as served:
        token = served.token()
        secret = token.rsplit("_", 1)[1]
        with served.client(token) as admin:
            admin.access.create_token("bob", user="bob", roles={"default": Role.VIEWER})
            assert list(admin.sweeps()) == []
        odd = {"Authorization": f"Basic {CANARY}", "Cookie": CANARY}
        for query, headers in (
            (f"?token={CANARY}", {"Authorization": f"Bearer ty_x_{CANARY}"}),
            ("", odd),
        ):
            with pytest.raises(HTTPError, match="401"):
                urlopen(Request(f"{served.url}/api/v1/sweeps{query}", headers=headers))  # noqa: S310  # our own
        assert served.stop() == 0
        lines = [json.loads(line) for line in served.log.splitlines()]
        assert len(lines) > 3
        assert CANARY not in served.log
        assert secret not in served.log
        everything = b"".join(path.read_bytes() for path in tmp_path.rglob("*") if path.is_file())
        assert secret.encode() not in everything
        assert CANARY.encode() not in everything
