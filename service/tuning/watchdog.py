"""Notices attempts that hang: no report for too long. Their worker is killed, and the trial is tried again."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

log: Final = logging.getLogger(__name__)
Attempt = tuple[int, int]  # trial, attempt


@dataclass(slots=True)
class Watchdog:
    """Knows when each running attempt was last heard of. `timeout_s` None: it only listens.

    Time is counted by `tick`, in steps of at most a second: while the driver itself stands still (its storage is away),
    workers wait for its answer, and that is not their fault.
    """

    timeout_s: float | None
    kill: Callable[[int, str], None] | None = None  # process id, node
    clock: Callable[[], float] = time.monotonic
    _time_s: float = 0.0
    _ticked_at: float | None = None
    _heard: dict[Attempt, tuple[float, int, str]] = field(default_factory=dict)  # `_time_s`, process id, node
    _hung: set[Attempt] = field(default_factory=set)

    def heard(self, attempt: Attempt, pid: int, node: str) -> None:
        """The worker `pid` on `node` has said something of `attempt`."""
        self._heard[attempt] = (self._time_s, pid, node)

    def forget(self, attempt: Attempt) -> bool:
        """The attempt is over; whether it had to be killed."""
        self._heard.pop(attempt, None)
        was_hung = attempt in self._hung
        self._hung.discard(attempt)
        return was_hung

    def tick(self) -> None:
        """Let time pass, and kill the workers of attempts that have been silent for too long."""
        now = self.clock()
        if self._ticked_at is not None:
            self._time_s += min(now - self._ticked_at, 1.0)
        self._ticked_at = now
        if self.timeout_s is None:
            return
        for attempt, (heard_at, pid, node) in list(self._heard.items()):
            if self._time_s - heard_at > self.timeout_s and self.kill is not None:
                log.warning("trial %d is silent for %s s: killing its worker %d", attempt[0], self.timeout_s, pid)
                del self._heard[attempt]
                self._hung.add(attempt)
                self.kill(pid, node)
