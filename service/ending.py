"""How a sweep gives its place back: its trials save at their next checkpoint first, then its driver is ended."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from typing import Final

from service.placement import Placement
from service.records import SweepRecord

CLEAN_END_S: Final = 30.0  # for a driver whose trials have saved, or whose sweep is given up


class Endings:
    """Ends drivers. How long each has been asked to pause is known to this process only: the next one asks anew."""

    def __init__(self, placement: Placement, clock: Callable[[], float] = time.monotonic) -> None:
        self._placement, self._clock = placement, clock
        self._asked: dict[tuple[str, int], float] = {}

    def is_saving(self, record: SweepRecord, wait_s: float) -> bool:
        """Ask the driver to run no trial any more; whether some still do and `wait_s` are not over."""
        if wait_s <= CLEAN_END_S:
            return False
        began = self._asked.setdefault((record.id, record.attempt), self._clock())
        self._placement.tell(replace(record, concurrency=0))
        is_running = bool((self._placement.progress(record.id) or {}).get("running"))
        return is_running and self._clock() - began < wait_s

    def end(self, record: SweepRecord, wait_s: float) -> None:
        """End the driver; blocks for half a minute at most."""
        self._placement.stop(record.id, min(wait_s, CLEAN_END_S))

    def forget(self, records: dict[str, SweepRecord]) -> None:
        """Forget the drivers that none of `records` has any more."""
        self._asked = {
            key: at for key, at in self._asked.items() if key[0] in records and records[key[0]].attempt == key[1]
        }
