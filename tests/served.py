"""`tuneyard serve` as a process for tests and benchmarks: started, asked, killed, started again, ended."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Self
from urllib.request import urlopen

from service.client import Client
from service.server.first_token import first_token

ROOT = Path(__file__).resolve().parent.parent
START_S = 120.0


class Served:
    """One service on the data folder `home`; entering starts it, leaving ends it."""

    def __init__(self, home: Path, *options: str, environment: dict[str, str] | None = None) -> None:
        self.home, self._options = home, options
        self._environment = {**os.environ, "PYTHONPATH": str(ROOT), **(environment or {})}
        self.url, self.start_s = "", 0.0
        self.process: subprocess.Popen[str] | None = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self.process is not None and self.process.poll() is None:
            self.stop()

    @property
    def log(self) -> str:
        """Everything it has logged, over all starts."""
        return (self.home / "serve.log").read_text()

    def start(self) -> None:
        """Start it and wait until it takes requests; `start_s` is how long that took."""
        self.home.mkdir(parents=True, exist_ok=True)
        began = time.monotonic()
        command = [sys.executable, "-m", "service.cli", "--data-dir", str(self.home), "serve", "--port", "0"]
        with (self.home / "serve.log").open("a") as log:
            self.process = subprocess.Popen(
                [*command, *self._options], env=self._environment, stdout=subprocess.PIPE, stderr=log, text=True
            )
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        assert line.startswith("Tuneyard is at "), self.log[-3000:]
        self.url = line.split()[-1]
        urlopen(f"{self.url}/healthz", timeout=START_S).close()  # noqa: S310  # our own address
        self.start_s = time.monotonic() - began

    def stop(self, number: signal.Signals = signal.SIGTERM, timeout_s: float = 240.0) -> int:
        """End it; its exit code."""
        assert self.process is not None
        self.process.send_signal(number)
        code = self.process.wait(timeout_s)
        if self.process.stdout is not None:
            self.process.stdout.close()
        return code

    def token(self, user: str = "ada") -> str:
        """A first token, for an admin of every project."""
        return first_token(self.home, "first", user, database=self._environment.get("TUNEYARD_DATABASE"))

    def client(self, token: str | None = None) -> Client:
        """A client of it."""
        return Client(self.url, token)
