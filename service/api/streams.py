"""Counts open event and log streams, each of which holds a connection and asks the store again and again."""

from __future__ import annotations

import threading
from collections import Counter
from dataclasses import dataclass, field

from service.api.problems import ProblemError


@dataclass(slots=True)
class Streams:
    """How many streams are open, and who has them."""

    most: int
    most_of_a_user: int
    _users: Counter[str] = field(default_factory=Counter)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    @property
    def count(self) -> int:
        """How many there are."""
        return self._users.total()

    def enter(self, user: str) -> None:
        """Count one more. ProblemError where there are too many."""
        with self._lock:
            if self.count >= self.most or self._users[user] >= self.most_of_a_user:
                detail = "too many streams are open; close one, or ask for pages"
                raise ProblemError(429, "too-many-streams", detail, headers={"Retry-After": "10"})
            self._users[user] += 1

    def leave(self, user: str) -> None:
        """Count one less."""
        with self._lock:
            self._users[user] -= 1
            self._users += Counter()  # forgets those who have none
