"""How far tracking has come, on disk: the cursor that a restart begins at, and the lock that keeps trackers apart."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

from service.tuning.confined import read_object_in
from service.tuning.storage_place import Place, storage_at, work_folder

NAME: Final = "tracking.json"
_LOCK: Final = "tracking.lock"


@dataclass(frozen=True, slots=True)
class Cursor:
    """The content of `tracking.json`; the command line and the driver read it too.

    `sequence`: ledger records that are in MLflow for good. `seen`: records read. `is_delivered`: nothing is owed.
    `error`: why the last call failed, None while all is well. `calls`: requests made by this process.
    """

    sequence: int = 0
    seen: int = 0
    is_delivered: bool = False
    uri: str = ""
    experiment_id: str = ""
    run_id: str = ""
    error: str | None = None
    calls: int = 0
    refused: int = 0


def scratch_of(place: Place) -> Path:
    """Where the tracker of the sweep in `place` has its temporary files."""
    return work_folder(place) / ".tracking"


def read_cursor(place: Place) -> Cursor:
    """The cursor of the sweep stored in `place`; the start where there is none, or none that can be read.

    Starting over is always safe, since every delivery is idempotent: it only costs time.
    """
    try:
        data = read_object_in(place, NAME)
        known = {name: data[name] for name in Cursor.__dataclass_fields__ if name in data}
        return Cursor(**{**known, "sequence": max(0, int(known["sequence"]))})
    except (OSError, ValueError, TypeError, KeyError, OverflowError):
        return Cursor()


def write_cursor(place: Place, cursor: Cursor) -> None:
    """Replace the cursor, whole or not at all."""
    storage_at(place).replace(NAME, json.dumps(asdict(cursor)).encode())


@contextlib.contextmanager
def only_tracker(place: Place, keep_waiting: Callable[[], bool]) -> Iterator[bool]:
    """Hold the sweep's tracking lock; yields False if it stayed taken until `keep_waiting` said no.

    With an object store it is a lock of this machine: of another one's tracker only the lease of its driver tells.

    The operating system frees the lock when its holder dies, however it dies.
    """
    descriptor = os.open(work_folder(place) / _LOCK, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o644)
    try:
        while not (is_held := _try_lock(descriptor)) and keep_waiting():
            time.sleep(0.2)
        yield is_held
    finally:
        os.close(descriptor)


def _try_lock(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
