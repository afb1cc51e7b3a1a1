"""What a history says about configurations: their order from best to worst, with values only compared at one epoch.

A trial that was stopped early shows an early value, which says little beside the final value of another. So all trials
are put in order at the lowest epoch that any of them ended at; then, epoch by epoch, those that came further are put in
order anew among the places that they hold. No early value is ever taken for a final one, and none is thrown away.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from service.objective import Objectives, Observation
from service.space import Params, Space
from service.tuning.history import History, Status, Trial

if TYPE_CHECKING:
    import numpy as np

MAX_LEVELS: Final = 8  # epochs at which trials are compared; more of them cost time and hardly change the order
BROKEN: Final = (Status.DIVERGED, Status.FAILED)


@dataclass(frozen=True, slots=True)
class Evidence:
    """Trials as rows of the unit cube, NaN where a parameter is inactive.

    `ranked`: trials with a value, best first, then those that broke; `broken` of the last rows are such.
    `pending`: trials that have shown nothing yet.
    """

    ranked: np.ndarray
    pending: np.ndarray
    broken: int


class EvidenceReader:
    """Reads the evidence of a history; remembers what cannot change any more, which is what ended trials showed."""

    def __init__(self, space: Space, objectives: Objectives) -> None:
        self._space = space
        self._objectives = objectives
        self._forget(None)

    def _forget(self, history: History | None) -> None:
        self._history = history
        self._seen = 0
        self._open: list[Trial] = []
        self._ended: list[_Curve] = []
        self._ended_rows: list[list[float]] = []
        self._broken_rows: dict[int, list[float]] = {}  # by trial number, because the order of reading must not matter
        self._levels: dict[int, list[Observation | None]] = {}

    def read(self, history: History) -> Evidence:
        """The evidence of `history`; another history object than last time is read from its start."""
        import numpy as np

        if history is not self._history:
            self._forget(history)
        self._catch_up(history)
        alive = [trial for trial in self._open if trial.curve]
        curves = [*self._ended, *(_Curve(trial, self._objectives) for trial in alive)]
        rows = [*self._ended_rows, *(self._row(trial.params) for trial in alive)]
        order = self._order(curves)
        pending = [self._row(trial.params) for trial in self._open if not trial.curve]
        width = self._space.dimension
        ranked = np.array(rows, dtype=float).reshape(len(rows), width)[order]
        broken = np.array([row for _, row in sorted(self._broken_rows.items())], dtype=float)
        return Evidence(
            np.concatenate([ranked, broken.reshape(len(broken), width)]),
            np.array(pending, dtype=float).reshape(len(pending), width),
            len(broken),
        )

    def _row(self, params: Params) -> list[float]:
        return self._space.to_unit(params)

    def _catch_up(self, history: History) -> None:
        self._open += history.trials[self._seen :]
        self._seen = len(history.trials)
        for trial in self._open:
            if trial.status in BROKEN:
                self._broken_rows[trial.number] = self._row(trial.params)
            elif trial.status.is_over and trial.curve:
                self._ended.append(_Curve(trial, self._objectives))
                self._ended_rows.append(self._row(trial.params))
        self._open = [trial for trial in self._open if not trial.status.is_over]

    def _order(self, curves: list[_Curve]) -> list[int]:
        """Places of `curves`, best first; what is equal goes by trial number."""
        import numpy as np

        numbers = np.array([curve.number for curve in curves], dtype=int)
        order = np.argsort(numbers)
        for level in _thinned(sorted({curve.last for curve in curves})):
            values = self._values(level, curves)
            is_member = np.array([value is not None for value in values])
            members = np.flatnonzero(is_member)
            if len(members) == 0:
                continue
            scores = self._scores([value for value in values if value is not None])
            places = np.flatnonzero(is_member[order])
            order[places] = members[np.lexsort((numbers[members], np.array(scores)))]
        return [int(i) for i in order]

    def _values(self, level: int, curves: list[_Curve]) -> list[Observation | None]:
        known = self._levels.setdefault(level, [])
        known += [curve.at(level) for curve in self._ended[len(known) :]]
        return [*known, *(curve.at(level) for curve in curves[len(self._ended) :])]

    def _scores(self, observations: list[Observation]) -> list[float]:
        if len(self._objectives.objectives) == 1 and not self._objectives.constraints:
            return [observation.losses[0] for observation in observations]
        return self._objectives.scores(observations)


class _Curve:
    """A trial's best so far by epoch; with several objectives, what it showed last by epoch."""

    def __init__(self, trial: Trial, objectives: Objectives) -> None:
        self.number = trial.number
        self.epochs = sorted(trial.curve)
        self.last = self.epochs[-1]
        self._is_final = trial.status is Status.COMPLETED
        self._bests: list[Observation] = []
        for epoch in self.epochs:
            found = trial.curve[epoch]
            if self._bests and len(objectives.objectives) == 1 and not found.dominates(self._bests[-1]):
                found = self._bests[-1]
            self._bests.append(found)

    def at(self, level: int) -> Observation | None:
        """What is known at epoch `level`; None where the trial has not come so far, unless it ended by itself."""
        if level > self.last and not self._is_final:
            return None
        place = bisect_right(self.epochs, level)
        return self._bests[place - 1] if place else None


def _thinned(levels: list[int]) -> Iterable[int]:
    if len(levels) <= MAX_LEVELS:
        return levels
    last = len(levels) - 1
    return [levels[round(i * last / (MAX_LEVELS - 1))] for i in range(MAX_LEVELS)]
