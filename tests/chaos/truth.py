"""The workers' own ledger of truth: what was trained and acknowledged, written by nobody but those who trained it.

One file, one JSON line per write, appended and synced, so that no fault of the system under test can change it.
"""

from __future__ import annotations

import json
import os
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final, Literal

VARIABLE: Final = "CHAOS_TRUTH"  # names the file in a worker's environment


@dataclass(frozen=True, slots=True)
class TruthLine:
    """`trained` is written before the report is made, `acknowledged` once it came back, whatever the verdict.

    `start` is the epoch of the checkpoint that the attempt began from (0: none); `at` is `time.monotonic()`, which all
    processes of a machine share and no clock jump touches.
    """

    kind: Literal["trained", "acknowledged"]
    trial: int
    attempt: int
    epoch: int
    value: float
    start: int
    pid: int
    at: float


@dataclass(frozen=True, slots=True)
class Truth:
    """The writer of one attempt; any number of processes may write to the same file."""

    path: Path
    trial: int
    attempt: int
    start: int = 0

    def trained(self, epoch: int, value: float) -> None:
        """The epoch is trained; nobody has heard of it yet."""
        self._write("trained", epoch, value)

    def acknowledged(self, epoch: int, value: float) -> None:
        """The report of the epoch came back: from now on it must not be lost."""
        self._write("acknowledged", epoch, value)

    def _write(self, kind: Literal["trained", "acknowledged"], epoch: int, value: float) -> None:
        line = TruthLine(kind, self.trial, self.attempt, epoch, value, self.start, os.getpid(), time.monotonic())
        descriptor = os.open(self.path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
        try:
            os.write(descriptor, json.dumps(asdict(line)).encode() + b"\n")
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def read_truth(path: Path) -> list[TruthLine]:
    """All whole lines in the order in which they were written; none where there is no file yet."""
    if not path.exists():
        return []
    whole = path.read_bytes().rpartition(b"\n")[0]
    return [TruthLine(**json.loads(line)) for line in whole.splitlines()]
