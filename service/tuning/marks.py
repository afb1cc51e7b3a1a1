"""Whether a running attempt is asked to save with its next report: marks of its driver in the sweep's storage."""

from __future__ import annotations

import contextlib
import time
from typing import Final

from service.tuning.assignment import Assignment
from service.tuning.storage import Storage
from service.tuning.storage_place import open_storage
from service.tuning.sweep_folder import DRAIN_FILE, YIELD_FILE

_looked: Final[dict[tuple[str, int, int], tuple[float, bool]]] = {}  # of the attempt that this process is at


def is_asked_to_save(assignment: Assignment) -> bool:
    """Whether the sweep, or this trial, is being paused. What storage that is away cannot tell is no."""
    storage = open_storage(assignment.storage)
    key, now = (assignment.storage, assignment.trial, assignment.attempt), time.monotonic()
    seen_at, answer = _looked.get(key, (now - storage.pace_s, False))
    if now - seen_at < storage.pace_s:
        return answer
    answer = any(_is_there(storage, name) for name in (DRAIN_FILE, YIELD_FILE.format(trial=assignment.trial)))
    _looked.clear()
    _looked[key] = now, answer
    return answer


def _is_there(storage: Storage, name: str) -> bool:
    with contextlib.suppress(OSError):
        storage.stat(name)
        return True
    return False
