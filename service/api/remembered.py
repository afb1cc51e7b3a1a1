"""Remembers answers of the database for a moment: what hardly changes is asked for with every request."""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Final, Generic, TypeVar

SECONDS: Final = 2.0  # for which another replica's change may go unseen
MOST: Final = 10_000
Key = TypeVar("Key", bound=Hashable)
Value = TypeVar("Value")


class Remembered(Generic[Key, Value]):
    """A function whose answers count for `SECONDS`, or until they are forgotten; safe to use from many threads."""

    def __init__(self, ask: Callable[[Key], Value], clock: Callable[[], float] = time.monotonic) -> None:
        self._ask, self._clock = ask, clock
        self._known: OrderedDict[Key, tuple[float, Value]] = OrderedDict()
        self._lock = threading.Lock()
        self._forgotten = 0

    def __call__(self, key: Key) -> Value:
        """The answer for `key`, no older than `SECONDS`."""
        with self._lock:
            found, forgotten = self._known.get(key), self._forgotten
            if found is not None and self._clock() - found[0] < SECONDS:
                return found[1]
        at, value = self._clock(), self._ask(key)
        with self._lock:
            if forgotten == self._forgotten:  # an answer from before a change must not be kept after it
                self._known[key] = (at, value)
                self._known.move_to_end(key)
                if len(self._known) > MOST:
                    self._known.popitem(last=False)
        return value

    def has(self, key: Key) -> bool:
        """Whether the answer for `key` is at hand."""
        with self._lock:
            found = self._known.get(key)
            return found is not None and self._clock() - found[0] < SECONDS

    def forget(self) -> None:
        """Something has changed."""
        with self._lock:
            self._known.clear()
            self._forgotten += 1
