"""Does work beside the controller's passes: what takes long for one sweep must not hold up the others."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor, wait
from enum import StrEnum
from typing import Final

from cluster.backend import JobError
from service.errors import TuneyardError
from service.sweeps.once_log import OnceLog

log: Final = logging.getLogger(__name__)


class Kind(StrEnum):
    """Work that takes about as long, and so may wait for its like."""

    ENDING = "ending"
    STARTING = "starting"
    LEARNING = "learning"  # what earlier sweeps showed, before a sweep starts: that may take minutes


class Hands:
    """A few threads for each kind of work, and one piece of work at a time for each key."""

    def __init__(self, workers: int = 8) -> None:
        self._pools = {kind: ThreadPoolExecutor(workers, thread_name_prefix=str(kind)) for kind in Kind}
        self._lock = threading.Lock()
        self._busy: dict[str, Future[None]] = {}  # no key of work that is over: there is a new one with each sweep
        self._odd = OnceLog(log)

    def start(self, key: str, work: Callable[[], None], kind: Kind = Kind.ENDING) -> None:
        """Have `work` done, unless something for `key` still is. What it raises is told once; a later pass retries."""
        with self._lock:
            if not self.is_busy(key):
                self._busy[key] = begun = self._pools[kind].submit(self._done, key, work)
                begun.add_done_callback(lambda _: self._busy.pop(key, None))

    def is_busy(self, key: str) -> bool:
        """Whether something for `key` is being done."""
        return key in self._busy

    def close(self, wait_s: float = 0.0) -> bool:
        """Begin nothing more; whether what goes on, which may take minutes, was over before `wait_s` were."""
        for pool in self._pools.values():
            pool.shutdown(wait=False, cancel_futures=True)
        return not wait(list(self._busy.values()), wait_s).not_done

    def _done(self, key: str, work: Callable[[], None]) -> None:
        try:
            work()
        except (JobError, TuneyardError) as error:
            self._odd.warn(key, f"work on {key} has to be tried again: {error}")
        except Exception as error:  # noqa: BLE001  # whatever it is, a later pass tries again
            self._odd.warn(key, f"work on {key} broke off; it is tried again: {error!r}", error)
        else:
            self._odd.forget(key)
