"""Holds a running sweep to what is asked of it from outside: how many trials at once, how many in all, a pause."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import Final

from service.tuning.conductor import Conductor
from service.tuning.control import read_control
from service.tuning.storage_place import Place, storage_at
from service.tuning.sweep_folder import YIELD_FILE

_YIELDS: Final = YIELD_FILE.format(trial="")


class Steering:
    """Obeys `control.json`; `extend` is told again and again how many trials there may be, `pause` why it has to."""

    def __init__(
        self, place: Place, conductor: Conductor, extend: Callable[[int], None], pause: Callable[[str], None]
    ) -> None:
        self._place, self._storage = place, storage_at(place)
        self._conductor, self._extend, self._pause = conductor, extend, pause
        self._marked: set[int] = set()  # trials whose workers are to save with their next report, and end

    def obey(self) -> None:
        """Do what is asked now. OSError where storage does not take it; the next call does."""
        asked = read_control(self._place)
        if asked is None:
            return
        self._conductor.limit = asked.max_concurrent_trials
        if asked.max_trials is not None:
            self._extend(asked.max_trials)
        if asked.pause:
            self._pause("asked to pause")
        surplus = set(self._conductor.surplus())
        for trial in sorted(surplus - self._marked):
            self._storage.replace(YIELD_FILE.format(trial=trial), b"")
            self._marked.add(trial)
        for trial in sorted(self._marked - surplus):
            self._storage.delete(YIELD_FILE.format(trial=trial))
            self._marked.discard(trial)

    def tidy(self) -> None:
        """Remove the marks that a driver before has left."""
        with contextlib.suppress(OSError):  # they cost a checkpoint at worst
            for name in self._storage.names(""):
                if name.startswith(_YIELDS):
                    self._storage.delete(name)
