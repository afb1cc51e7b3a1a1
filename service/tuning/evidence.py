"""What a history says about configurations: their order from best to worst, with values only compared at one epoch.

A trial that was stopped early shows an early value, which says little beside the final value of another. So all trials
are put in order at the lowest epoch that any of them ended at; then, epoch by epoch, those that came further are put in
order anew among the places that they hold. No early value is ever taken for a final one, and none is thrown away.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from service.spec.objective import Objectives, Observation
from service.spec.space import Space
from service.tuning.history import History, Status, Trial

if TYPE_CHECKING:
    import numpy as np

MAX_LEVELS: Final = 8  # epochs at which trials are compared; more of them cost time and hardly change the order
BROKEN: Final = (Status.DIVERGED, Status.FAILED)


@dataclass(frozen=True, slots=True)
class Evidence:
    """Trials as rows of the unit cube, NaN where a parameter is inactive.

    `ranked`: trials with a value, best first, then those that broke; `broken` of the last rows are such. `numbers` are
    those of the ranked trials. `pending`: trials that have shown nothing yet.
    """

    ranked: np.ndarray
    pending: np.ndarray
    broken: int
    numbers: tuple[int, ...]


class EvidenceReader:
    """Reads the evidence of a history; remembers what cannot change any more, which is what ended trials showed."""

    def __init__(self, space: Space, objectives: Objectives) -> None:
        self._space = space
        self._objectives = objectives
        self._forget(None)

    def _forget(self, history: History | None) -> None:
        import numpy as np

        self._history = history
        self._seen = 0
        self._open: list[Trial] = []
        self._ended: list[_Curve] = []
        self._ended_rows = np.empty((0, self._space.dimension))
        self._ended_numbers = np.empty(0, dtype=int)
        self._ended_lasts: set[int] = set()
        self._broken_rows: dict[int, list[float]] = {}  # by trial number, because the order of reading must not matter
        self._levels: dict[int, list[Observation | None]] = {}
        self._losses: dict[int, np.ndarray] = {}

    def read(self, history: History) -> Evidence:
        """The evidence of `history`; another history object than last time is read from its start."""
        import numpy as np

        if history is not self._history:
            self._forget(history)
        self._catch_up(history)
        alive = [trial for trial in self._open if trial.curve]
        order = self._order([_Curve(trial, self._objectives) for trial in alive])
        rows = np.concatenate([self._ended_rows, self._rows(alive)])
        broken = [row for _, row in sorted(self._broken_rows.items())]
        numbers = [*self._ended_numbers.tolist(), *(trial.number for trial in alive)]
        return Evidence(
            np.concatenate([rows[order], np.array(broken, dtype=float).reshape(len(broken), rows.shape[1])]),
            self._rows([trial for trial in self._open if not trial.curve]),
            len(broken),
            (*(numbers[i] for i in order), *sorted(self._broken_rows)),
        )

    def _rows(self, trials: list[Trial]) -> np.ndarray:
        import numpy as np

        rows = [self._space.to_unit(trial.params) for trial in trials]
        return np.array(rows, dtype=float).reshape(len(rows), self._space.dimension)

    def _catch_up(self, history: History) -> None:
        """Put away what ended since the last time."""
        import numpy as np

        self._open += history.trials[self._seen :]
        self._seen = len(history.trials)
        over = [trial for trial in self._open if trial.status.is_over]
        self._broken_rows.update({t.number: self._space.to_unit(t.params) for t in over if t.status in BROKEN})
        ended = [trial for trial in over if trial.status not in BROKEN and trial.curve]
        if ended:
            curves = [_Curve(trial, self._objectives) for trial in ended]
            self._ended += curves
            self._ended_lasts |= {curve.last for curve in curves}
            self._ended_rows = np.concatenate([self._ended_rows, self._rows(ended)])
            self._ended_numbers = np.append(self._ended_numbers, [trial.number for trial in ended])
        self._open = [trial for trial in self._open if not trial.status.is_over]

    def _order(self, alive: list[_Curve]) -> np.ndarray:
        """Places of the ended and then the `alive` curves, best first; what is equal goes by trial number."""
        import numpy as np

        numbers = np.append(self._ended_numbers, np.array([curve.number for curve in alive], dtype=int))
        order = np.argsort(numbers)
        for level in _thinned(sorted(self._ended_lasts | {curve.last for curve in alive})):
            scores = self._scores(level, alive, numbers)
            is_member = ~np.isnan(scores)
            members = np.flatnonzero(is_member)
            places = np.flatnonzero(is_member[order])
            order[places] = members[np.lexsort((numbers[members], scores[members]))]
        return order

    def _scores(self, level: int, alive: list[_Curve], numbers: np.ndarray) -> np.ndarray:
        """One number per curve at epoch `level`, lower is better; NaN where the curve does not reach it."""
        import numpy as np

        if len(self._objectives.objectives) == 1 and not self._objectives.constraints:
            known = self._losses.get(level, np.empty(0))
            fresh = [_loss(curve.at(level)) for curve in self._ended[len(known) :]]
            self._losses[level] = np.append(known, fresh) if fresh else known
            return np.append(self._losses[level], [_loss(curve.at(level)) for curve in alive])
        ended = self._levels.setdefault(level, [])
        ended += [curve.at(level) for curve in self._ended[len(ended) :]]
        values = [*ended, *(curve.at(level) for curve in alive)]
        found = [(int(numbers[i]), i, value) for i, value in enumerate(values) if value is not None]
        found.sort(key=lambda entry: entry[0])  # equally crowded points are told apart by their order
        scores = np.full(len(values), np.nan)
        scores[[i for _, i, _ in found]] = self._objectives.scores([value for _, _, value in found])
        return scores


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


def _loss(observation: Observation | None) -> float:
    return math.nan if observation is None else observation.losses[0]


def _thinned(levels: list[int]) -> Iterable[int]:
    if len(levels) <= MAX_LEVELS:
        return levels
    last = len(levels) - 1
    return [levels[round(i * last / (MAX_LEVELS - 1))] for i in range(MAX_LEVELS)]
