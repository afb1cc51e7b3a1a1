"""The tracker beside the driver: a process of its own, so that a slow or hanging MLflow never touches scheduling."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final, Self

from service.tuning.tracking_cursor import read_cursor

POLL_S: Final = 0.1
FINISH_TIMEOUT_S: Final = 90.0  # the tracker gives up by itself after its grace; this is for one that hangs


class TrackerProcess:
    """Starts the tracker on entering; on leaving it is gone, whatever happened."""

    def __init__(self, folder: Path, home: Path) -> None:
        self._folder, self._home = folder, home
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        """Start it."""
        log_path = self._folder / "logs" / "tracker.out"
        with log_path.open("ab") as log:
            command = [sys.executable, "-P", "-m", "service.tuning.tracking", str(self._folder)]
            command += ["--home", str(self._home), "--parent-pid", str(os.getpid())]
            self._process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        return self

    def __exit__(self, *_: object) -> None:
        """End it if it is still there."""
        if self._process is not None and self._process.poll() is None:
            self._process.kill()
            self._process.wait()

    def lag(self, sequence: int) -> int:
        """How many records of the first `sequence` have not reached MLflow yet."""
        return max(0, sequence - read_cursor(self._folder).sequence)

    def finish(self, note: Callable[[bool], None]) -> None:
        """Wait until the tracker has delivered all, or has given up; `note` hears which."""
        if self._process is None:
            return
        deadline = time.monotonic() + FINISH_TIMEOUT_S
        while self._process.poll() is None and time.monotonic() < deadline:
            time.sleep(POLL_S)
        note(read_cursor(self._folder).is_delivered)
