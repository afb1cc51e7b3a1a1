"""A real S3 server on this machine, for tests of what lives on an object store: moto's, as a process of its own."""

from __future__ import annotations

import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final
from urllib.request import Request, urlopen

import pytest

from tests.ports import free_port

_SERVE: Final = "from moto.server import main; main()"
_STARTS_S: Final = 240.0
_COLOUR: Final = re.compile(r"\x1b\[[0-9;]*m")


@dataclass
class ObjectStore:
    """The server: where it is, what it was asked, and how to take it away for a while."""

    port: int
    log_path: Path
    _process: subprocess.Popen[bytes] | None = field(default=None, repr=False)

    @property
    def bucket(self) -> str:
        """One of its own for each server: clients are kept by their bucket's name."""
        return f"sweeps-{self.port}"

    @property
    def url(self) -> str:
        """The bucket as a location."""
        return f"s3://{self.bucket}"

    @property
    def variables(self) -> dict[str, str]:
        """What a process has to have in its environment to use it."""
        return {
            "AWS_ENDPOINT_URL": f"http://127.0.0.1:{self.port}",
            "AWS_ACCESS_KEY_ID": "test",
            "AWS_SECRET_ACCESS_KEY": "test",
            "AWS_REGION": "us-east-1",
        }

    def start(self) -> None:
        """Serve, empty but for the bucket."""
        command = [sys.executable, "-c", _SERVE, "-H", "127.0.0.1", "-p", str(self.port)]
        with self.log_path.open("ab") as log:
            self._process = subprocess.Popen(command, stdout=log, stderr=log)
        deadline = time.monotonic() + _STARTS_S
        while not self._answers():
            assert time.monotonic() < deadline, self.log_path.read_text()[-2000:]
            time.sleep(0.05)
        self.make_bucket(self.bucket)

    def make_bucket(self, name: str) -> None:
        with urlopen(Request(f"http://127.0.0.1:{self.port}/{name}", method="PUT"), timeout=_STARTS_S):  # our own
            pass

    def stop(self) -> None:
        """End it; what it holds is gone."""
        if self._process is not None:
            self._process.terminate()
            self._process.wait()
            self._process = None

    @contextmanager
    def away(self) -> Iterator[None]:
        """It takes connections and answers none, as behind a network that has failed."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)
        try:
            yield
        finally:
            self._process.send_signal(signal.SIGCONT)

    def requests(self) -> list[str]:
        """`METHOD /path` of everything it was asked, in order."""
        lines = _COLOUR.sub("", self.log_path.read_text(errors="replace")).splitlines()
        return [line.split('"')[1].rsplit(" ", 1)[0] for line in lines if '"' in line and "HTTP/1" in line]

    def _answers(self) -> bool:
        try:
            socket.create_connection(("127.0.0.1", self.port), timeout=1).close()
        except OSError:
            return False
        return True


@pytest.fixture(scope="session")
def s3_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ObjectStore]:
    """A server for all tests that want one; what they leave there stays until the end."""
    with object_store(tmp_path_factory.mktemp("s3")) as store:
        yield store


@pytest.fixture
def s3(s3_server: ObjectStore, monkeypatch: pytest.MonkeyPatch) -> ObjectStore:
    """That server, where this process and those that it starts find it."""
    for name, value in s3_server.variables.items():
        monkeypatch.setenv(name, value)
    return s3_server


@contextmanager
def object_store(folder: Path) -> Iterator[ObjectStore]:
    """A server whose log goes into `folder`, until the block ends."""
    store = free_store(folder)
    store.start()
    try:
        yield store
    finally:
        store.stop()


def free_store(folder: Path) -> ObjectStore:
    """A server on a free port that is yet to be started."""
    pytest.importorskip("moto", reason="moto is not installed: pip install -e '.[dev]'")
    return ObjectStore(free_port(), folder / "object-store.log")
