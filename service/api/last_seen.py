"""What the cluster has, as it was told a moment ago: a Ray that hangs must not take the service's threads with it."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from cluster.backend import Capacity, JobError

FRESH_S: Final = 3.0
PATIENCE_S: Final = 2.0  # of those who ask while the cluster is being asked
_log: Final = logging.getLogger("tuneyard.api")


@dataclass(frozen=True, slots=True)
class Unseen:
    """Why nobody knows what the cluster has: `told` is for everybody, `detail` may name addresses and files."""

    told: str
    detail: str = ""


class LastSeen:
    """A cluster's capacity, or why it is not known; asked for by one thread at a time, which nobody waits for long."""

    def __init__(self, ask: Callable[[], Capacity]) -> None:
        self._ask = ask
        self._lock = threading.Lock()
        self._answer: Capacity | Unseen = Unseen("")
        self._told_at = self._asked_at = -float("inf")
        self._told = threading.Event()
        self._told.set()

    def __call__(self) -> Capacity | Unseen:
        """The last answer, no older than `FRESH_S`."""
        with self._lock:
            now = time.monotonic()
            if now - self._told_at < FRESH_S:
                return self._answer
            if self._told.is_set():
                self._told.clear()
                self._asked_at = now
                threading.Thread(target=self._look, name="capacity", daemon=True).start()
            left_s = self._asked_at + PATIENCE_S - now
        if self._told.wait(max(0.0, left_s)):
            return self._answer
        return Unseen("the cluster takes long to answer")

    def _look(self) -> None:
        try:
            self._answer = self._ask()
        except JobError as error:
            self._answer = Unseen("it does not answer just now; an operator sees why", str(error))
        except Exception:  # noqa: BLE001  # whoever waits has to hear of it
            _log.exception("what the cluster has is not understood")
            self._answer = Unseen("the cluster's answer is not understood; the server's log has it")
        finally:
            with self._lock:
                self._told_at = time.monotonic()
                self._told.set()
