"""Notices attempts that hang: no report for too long. Their worker is killed, and the trial is tried again."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

log: Final = logging.getLogger(__name__)
Attempt = tuple[int, int]  # trial, attempt
LEAST_S: Final = 600.0  # without a limit of the user's own: nothing is called hung before that
TIMES_THE_LONGEST: Final = 10.0  # ... and before so many times the longest silence that a report has ended


@dataclass(slots=True)
class Watchdog:
    """Knows when each running attempt was last heard of. `timeout_s` None: how long is too long shows by itself.

    Time is counted by `tick`, in steps of at most a second: while the driver itself stands still (its storage is away),
    workers wait for its answer, and that is not their fault.
    """

    timeout_s: float | None
    kill: Callable[[int, str], None] | None = None  # process id, node
    is_excused: Callable[[], bool] = lambda: False  # whether workers wait for something that is not their fault
    clock: Callable[[], float] = time.monotonic
    _time_s: float = 0.0
    _ticked_at: float | None = None
    _longest_s: float = math.inf  # silence that a report has ended; inf before the first
    _heard: dict[Attempt, tuple[float, int, str]] = field(default_factory=dict)  # `_time_s`, process id, node
    _allowances: dict[int, float] = field(default_factory=dict)  # trial -> what it may be longer than the limit
    _hung: dict[Attempt, float] = field(default_factory=dict)  # what they were allowed

    @property
    def limit_s(self) -> float:
        """How long an attempt may be silent."""
        return max(LEAST_S, TIMES_THE_LONGEST * self._longest_s) if self.timeout_s is None else self.timeout_s

    def watch(self, attempt: Attempt, pid: int, node: str) -> None:
        """The attempt begins, in the worker `pid` on `node`."""
        self._heard[attempt] = (self._time_s, pid, node)

    def heard(self, attempt: Attempt) -> None:
        """The attempt has said something."""
        if attempt in self._heard:
            before, pid, node = self._heard[attempt]
            silence_s = self._time_s - before
            self._longest_s = silence_s if math.isinf(self._longest_s) else max(silence_s, self._longest_s)
            self._heard[attempt] = (self._time_s, pid, node)

    def forget(self, attempt: Attempt) -> float | None:
        """The attempt is over; how long it was allowed to be silent if it had to be killed for that, else None."""
        self._heard.pop(attempt, None)
        return self._hung.pop(attempt, None)

    def tick(self) -> None:
        """Let time pass, and kill the workers of attempts that have been silent for too long."""
        now = self.clock()
        if self._ticked_at is not None:
            self._time_s += min(now - self._ticked_at, 1.0)
        self._ticked_at = now
        for attempt, (heard_at, pid, node) in list(self._heard.items()):
            limit_s = self.limit_s * self._allowances.get(attempt[0], 1.0)
            if self._time_s - heard_at > limit_s and self.kill is not None:
                if self.is_excused():
                    self._heard = {key: (self._time_s, place, at) for key, (_, place, at) in self._heard.items()}
                    return
                if self.timeout_s is None:  # it may be slow by its nature: the next attempt gets twice the time
                    self._allowances[attempt[0]] = 2.0 * self._allowances.get(attempt[0], 1.0)
                log.warning("trial %d: no report for %.0f s, so its worker %d is killed", attempt[0], limit_s, pid)
                del self._heard[attempt]
                self._hung[attempt] = limit_s
                self.kill(pid, node)
