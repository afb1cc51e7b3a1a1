"""Does work beside the controller's passes: what takes long for one sweep must not hold up the others."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor, wait
from typing import Final

from cluster.backend import JobError
from service.errors import TuneyardError

log: Final = logging.getLogger(__name__)


class Hands:
    """A few threads, and one piece of work at a time for each key."""

    def __init__(self, workers: int = 16) -> None:
        self._pool = ThreadPoolExecutor(workers, thread_name_prefix="controller")
        self._lock = threading.Lock()
        self._busy: dict[str, Future[None]] = {}

    def start(self, key: str, work: Callable[[], None]) -> None:
        """Have `work` done, unless something for `key` still is. What it raises is logged; a later pass retries."""
        with self._lock:
            if not self.is_busy(key):
                self._busy[key] = self._pool.submit(_logged, key, work)

    def is_busy(self, key: str) -> bool:
        """Whether something for `key` is being done."""
        found = self._busy.get(key)
        if found is not None and found.done():
            self._busy.pop(key, None)
            return False
        return found is not None

    def close(self, wait_s: float = 0.0) -> bool:
        """Begin nothing more; whether what goes on, which may take minutes, was over before `wait_s` were."""
        self._pool.shutdown(wait=False, cancel_futures=True)
        return not wait(list(self._busy.values()), wait_s).not_done


class OwnHands(Hands):
    """Does everything at once, where it is asked for."""

    def start(self, key: str, work: Callable[[], None]) -> None:
        """Do `work` now."""
        _logged(key, work)


def _logged(key: str, work: Callable[[], None]) -> None:
    try:
        work()
    except (JobError, TuneyardError) as error:
        log.warning("work on %s has to be tried again: %s", key, error)
    except Exception:
        log.exception("work on %s broke off; it is tried again", key)
