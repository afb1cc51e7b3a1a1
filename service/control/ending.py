"""How a sweep gives its place back: its driver is asked to pause by itself, and is ended where that takes too long."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import suppress
from typing import Final

from service.control.placement import Placement
from service.records import SweepRecord

CLEAN_END_S: Final = 30.0  # for a driver whose trials have saved, or whose sweep is given up


class Endings:
    """Ends drivers. How long each has been asked to pause is known to this process only: the next one asks anew."""

    def __init__(self, placement: Placement, clock: Callable[[], float] = time.monotonic) -> None:
        self._placement, self._clock = placement, clock
        self._asked: dict[tuple[str, int], float] = {}

    def is_pausing(self, record: SweepRecord, wait_s: float) -> bool:
        """Ask the driver to have its trials save with their next reports, and to end; whether it still has time to.

        A signal would do that, too, but a cluster kills seconds after one, however long an epoch takes.
        """
        if wait_s <= CLEAN_END_S:
            return False
        began = self._asked.setdefault((record.id, record.attempt), self._clock())
        with suppress(OSError):  # it is told again with the next pass
            self._placement.tell(record, pause=True)
        return self._clock() - began < wait_s

    def end(self, record: SweepRecord, wait_s: float) -> None:
        """End the driver; blocks for half a minute at most."""
        self._placement.stop(record.id, min(wait_s, CLEAN_END_S))

    def forget_others(self, records: dict[str, SweepRecord]) -> None:
        """Forget the drivers that none of `records` has any more."""
        self._asked = {
            key: at for key, at in self._asked.items() if key[0] in records and records[key[0]].attempt == key[1]
        }
