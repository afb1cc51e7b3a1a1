"""The tracker beside the driver: a process of its own, so that a slow or hanging MLflow never touches scheduling."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final, Self

from service.tuning.storage_place import Place, storage_at, work_folder
from service.tuning.tracking_cursor import only_tracker, read_cursor, scratch_of

POLL_S: Final = 0.1
REVIVE_S: Final = 5.0
FINISH_TIMEOUT_S: Final = 90.0  # the tracker gives up by itself after its grace; this is for one that hangs


class TrackerProcess:
    """Starts the tracker on entering; on leaving it is gone, whatever happened."""

    def __init__(self, place: Place, home: Path) -> None:
        self._place, self._home = place, home
        self._poll_s = max(POLL_S, storage_at(place).pace_s / 5)
        self._process: subprocess.Popen[bytes] | None = None
        self._started_at = 0.0

    def __enter__(self) -> Self:
        """Start it."""
        self._start()
        return self

    def revive(self) -> None:
        """Start it again if it has died; at most once in some seconds, since what killed it may last."""
        is_dead = self._process is not None and self._process.poll() not in (None, 0)
        if is_dead and time.monotonic() - self._started_at > REVIVE_S:
            self._start()

    def _start(self) -> None:
        self._started_at = time.monotonic()
        log_path = work_folder(self._place) / "logs" / "tracker.out"
        with log_path.open("ab") as log:
            command = [sys.executable, "-P", "-m", "service.tuning.tracking", str(self._place)]
            command += ["--home", str(self._home), "--parent-pid", str(os.getpid())]
            self._process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)

    def __exit__(self, *_: object) -> None:
        """End it if it is still there."""
        if self._process is not None and self._process.poll() is None:
            self._process.kill()
            self._process.wait()
        with contextlib.suppress(OSError), only_tracker(self._place, lambda: False) as is_free:
            if is_free:
                shutil.rmtree(scratch_of(self._place), ignore_errors=True)  # of one that was killed

    def lag(self, sequence: int) -> int:
        """How many records of the first `sequence` have not reached MLflow yet."""
        return max(0, sequence - read_cursor(self._place).sequence)

    def finish(self, sequence: int, note: Callable[[bool], None]) -> None:
        """Wait until the tracker has delivered the first `sequence` records, or has given up; `note` hears which."""
        if self._process is None:
            return
        deadline = time.monotonic() + FINISH_TIMEOUT_S
        while self._process.poll() is None and not self._has_all(sequence) and time.monotonic() < deadline:
            time.sleep(self._poll_s)
        note(self._has_all(sequence))

    def _has_all(self, sequence: int) -> bool:
        cursor = read_cursor(self._place)
        return cursor.is_delivered and cursor.sequence >= sequence
