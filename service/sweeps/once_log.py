"""Log lines about things that are looked at again and again: each is written when it is new, and not every second."""

from __future__ import annotations

import logging
import threading
from typing import Final

_MOST: Final = 10_000  # subjects that are remembered


class OnceLog:
    """Remembers what was last said about each subject. Safe to use from several threads."""

    def __init__(self, log: logging.Logger) -> None:
        self._log = log
        self._lock = threading.Lock()
        self._said: dict[str, str] = {}

    def warn(self, subject: str, text: str, error: BaseException | None = None) -> None:
        """Write `text`, with where `error` was raised, unless it was the last thing said about `subject`."""
        with self._lock:
            if self._said.get(subject) == text:
                return
            self._said.pop(subject, None)
            self._said[subject] = text
            if len(self._said) > _MOST:
                del self._said[next(iter(self._said))]
        self._log.warning("%s", text, exc_info=error)

    def forget(self, subject: str) -> None:
        """All is well with `subject`: what comes next is news."""
        with self._lock:
            self._said.pop(subject, None)
