"""What the trials of a history showed, as a table of few rows: epochs that lie close together count as one."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from service.spec.objective import DIVERGED_LOSS, Objectives, Observation
from service.spec.space import Space
from service.tuning.history import History, Status, Trial

Floats = NDArray[np.float64]
GROWTH: Final = 1.6  # of the epoch, from one group of epochs to the next
BROKEN: Final = (Status.DIVERGED, Status.FAILED)
Row = tuple[float, tuple[float, ...], int]  # mean log epoch, mean losses (violation last), epochs


@dataclass(frozen=True, slots=True)
class Table:
    """Trials (`numbers`, `units`: points of the unit cube) and the rows of their curves, each trial's in order.

    `losses` has a column per objective and one for the constraints' violation; +inf stands for broken.
    """

    numbers: list[int]
    units: Floats
    trial: NDArray[np.intp]
    log_epoch: Floats
    losses: Floats
    count: Floats


class Reader:
    """Reads tables; keeps the rows of a trial for as long as nothing was added to its curve."""

    def __init__(self, space: Space, objectives: Objectives, max_epochs: int) -> None:
        self._space = space
        self._width = len(objectives.objectives) + 1
        self._edges = _edges(max_epochs)
        self._known: dict[int, tuple[int, Status, list[Row]]] = {}
        self._units: dict[int, tuple[object, list[float]]] = {}

    def read(self, history: History) -> Table:
        """All trials that showed something, or broke without."""
        rows = {t.number: self._rows(t) for t in history.trials if t.curve or t.status in BROKEN}
        return self._table(history, rows)

    def read_first(self, history: History, count: int) -> Table:
        """As `read`, but of the first `count` observations only: what was known then, whatever came after."""
        curves: dict[int, dict[int, Observation]] = {}
        for number, epoch in history.observed[:count]:
            curves.setdefault(number, {})[epoch] = history.trials[number].curve[epoch]
        table = self._table(history, {n: self._grouped(curve) for n, curve in sorted(curves.items())})
        for row, number in enumerate(table.numbers):
            trial, last = history.trials[number], max(curves[number])
            then = next((params for epoch, params in reversed(trial.phases) if epoch < last), trial.params)
            if then != trial.params:  # its scheduler has given it other values since
                table.units[row] = self._space.to_unit(then)
        return table

    def units(self, trials: list[Trial]) -> Floats:
        """Points of the unit cube, NaN where inactive."""
        return np.array([self._unit(t) for t in trials], dtype=float).reshape(len(trials), self._space.dimension)

    def _unit(self, trial: Trial) -> list[float]:
        known = self._units.get(trial.number)
        if known is None or known[0] is not trial.params:
            known = self._units[trial.number] = (trial.params, self._space.to_unit(trial.params))
        return known[1]

    def _rows(self, trial: Trial) -> list[Row]:
        known = self._known.get(trial.number)
        if known is None or known[:2] != (len(trial.curve), trial.status):
            rows = self._grouped(trial.curve)
            if trial.status in BROKEN:  # told once, at the epoch where it broke
                log_epoch = math.log(max(1, trial.epoch))
                rows = [row for row in rows if row[0] < log_epoch and math.isfinite(row[1][0])]
                rows.append((log_epoch, (math.inf,) * self._width, 1))
            known = self._known[trial.number] = (len(trial.curve), trial.status, rows)
        return known[2]

    def _grouped(self, curve: Mapping[int, Observation]) -> list[Row]:
        groups: dict[int, list[tuple[int, Observation]]] = {}
        for epoch in sorted(curve):
            groups.setdefault(self._edges[min(epoch, len(self._edges) - 1)], []).append((epoch, curve[epoch]))
        return [_mean(group) for group in groups.values()]

    def _table(self, history: History, rows: dict[int, list[Row]]) -> Table:
        numbers = list(rows)
        flat = [(i, *row) for i, number in enumerate(numbers) for row in rows[number]]
        return Table(
            numbers,
            self.units([history.trials[number] for number in numbers]),
            np.array([row[0] for row in flat], dtype=np.intp),
            np.array([row[1] for row in flat], dtype=float),
            np.array([row[2] for row in flat], dtype=float).reshape(len(flat), self._width),
            np.array([row[3] for row in flat], dtype=float),
        )


def _edges(max_epochs: int) -> list[int]:
    """Epoch -> its group."""
    found, group, end = [0], 0, 1
    for epoch in range(1, max_epochs + 1):
        if epoch > end:
            group, end = group + 1, max(end + 1, round(end * GROWTH))
        found.append(group)
    return found


def _mean(group: list[tuple[int, Observation]]) -> Row:
    losses = [(*seen.losses, seen.violation) if seen.is_finite else None for _, seen in group]
    finite = [loss for loss in losses if loss is not None]
    log_epoch = sum(math.log(epoch) for epoch, _ in group) / len(group)
    if len(finite) < len(losses) or not finite:
        return log_epoch, (math.inf,) * (len(group[0][1].losses) + 1), len(group)
    means = tuple(min(sum(column) / len(finite), DIVERGED_LOSS) for column in zip(*finite, strict=True))
    return log_epoch, means, len(group)
