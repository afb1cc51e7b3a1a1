"""The order of configurations of an earlier sweep as a smooth function of where they lie in the search space; numpy.

Trials are only ever compared at an epoch that both reached. What is learned is how many of the others a configuration
beats, which has the same scale in every sweep, whatever its losses were.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Final

import numpy as np

from service.spec.distributions import Choice
from service.spec.space import Space
from service.tuning.forecast.kernel import matern

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from service.spec.objective import Objectives, Observation

    Floats = NDArray[np.float64]

MAX_POINTS: Final = 200  # that a surrogate stands on: its cost grows with their cube
_TUNED_ON: Final = 80
_LENGTHS: Final = (0.2, 0.5, 1.2, 10.0)  # of the unit interval; the last one leaves a parameter out
_NOISES: Final = (0.05, 0.2, 0.6)  # variance beside a signal of 1
_PASSES: Final = 2
_MOST_LEVELS: Final = 3
_APART: Final = 3  # times the epoch before
_ENOUGH: Final = 8
_ONE_INACTIVE: Final = 0.5  # distance along a parameter that only one of two configurations has


def wins(curves: Sequence[Mapping[int, Observation]], objectives: Objectives) -> Floats:
    """For each trial (row) against each other: 1 where it wins at the last epoch that both reached, 0.5 for a tie.

    NaN on the diagonal and where a trial has shown nothing. A trial that broke loses against all that did not.
    """
    lasts = np.array([max(curve, default=0) for curve in curves], dtype=int)
    found = np.full((len(curves), len(curves)), np.nan)
    bests = [_Bests(curve, objectives) for curve in curves]
    for level in sorted(set(lasts.tolist()) - {0}):
        members = np.flatnonzero(lasts >= level)
        scores: Floats = np.array(objectives.scores([bests[i].until(level) for i in members.tolist()]))
        ends = np.flatnonzero(lasts[members] == level)
        mine, theirs = scores[ends][:, None], scores[None, :]
        row = np.where(mine < theirs, 1.0, np.where(mine > theirs, 0.0, 0.5))
        found[np.ix_(members[ends], members)] = row
        found[np.ix_(members, members[ends])] = 1.0 - row.T
    broke = np.array([is_broken(curve) for curve in curves], dtype=bool)
    fine = ~broke & (lasts > 0)
    found[np.ix_(broke, fine)], found[np.ix_(fine, broke)], found[np.ix_(broke, broke)] = 0.0, 1.0, 0.5
    np.fill_diagonal(found, np.nan)
    return found


def is_broken(curve: Mapping[int, Observation]) -> bool:
    """Whether the last epoch shows that the training broke down."""
    return bool(curve) and not curve[max(curve)].is_finite


def levels(curves: Sequence[Mapping[int, Observation]]) -> list[tuple[int, list[int]]]:
    """(epoch, the trials that reached it or broke), for the first epoch and some later ones, ascending.

    Those later ones that enough trials reached to learn an order from, few of them.
    """
    lasts = sorted(max(curve) for curve in curves)
    epochs = [lasts[0], *(last for last in sorted(set(lasts)) if last >= _APART * lasts[0])]
    found: list[tuple[int, list[int]]] = []
    for epoch in epochs:
        members = [i for i, curve in enumerate(curves) if max(curve) >= epoch or is_broken(curve)]
        if not found or (epoch >= _APART * found[-1][0] and len(members) >= _ENOUGH and len(found) < _MOST_LEVELS):
            found.append((epoch, members))
    return found


def shares_beaten(curves: Sequence[Mapping[int, Observation]], epoch: int, objectives: Objectives) -> Floats:
    """The share of all that each curve leaves behind by its best until `epoch`, from 0 to 1; ties count half."""
    worst = [curve[max(curve)] if is_broken(curve) else _Bests(curve, objectives).until(epoch) for curve in curves]
    scores = np.array(objectives.scores(worst))
    ranked = np.sort(scores)
    places = (np.searchsorted(ranked, scores, "left") + np.searchsorted(ranked, scores, "right")) / 2
    return np.asarray(1.0 - places / len(scores))


class _Bests:
    """A curve's best by epoch; with several objectives, what it showed last."""

    def __init__(self, curve: Mapping[int, Observation], objectives: Objectives) -> None:
        self._epochs = sorted(curve)
        self._found: list[Observation] = []
        for epoch in self._epochs:
            seen = curve[epoch]
            if self._found and len(objectives.objectives) == 1 and not seen.dominates(self._found[-1]):
                seen = self._found[-1]
            self._found.append(seen)

    def until(self, level: int) -> Observation:
        """What was known at epoch `level`; the first report where that came later."""
        return self._found[max(0, bisect_right(self._epochs, level) - 1)]


def choices(space: Space) -> NDArray[np.bool_]:
    """Which dimensions have values that are no nearer to one than to another."""
    return np.array([isinstance(space[name], Choice) for name in space.dimensions], dtype=bool)


def squares(one: Floats, other: Floats, is_choice: NDArray[np.bool_]) -> Floats:
    """Squared distances along each parameter: (parameters, rows of `one`, rows of `other`)."""
    apart = np.abs(one.T[:, :, None] - other.T[:, None, :])
    apart[is_choice] = (apart[is_choice] > 0).astype(float)
    missing = np.isnan(one.T)[:, :, None].astype(int) + np.isnan(other.T)[:, None, :]
    apart = np.where(missing == 1, _ONE_INACTIVE, np.where(missing > 1, 0.0, np.nan_to_num(apart)))
    return np.asarray(apart**2)


class Surrogate:
    """The mean of a Gaussian process over the unit cube, NaN where a parameter is inactive or unknown.

    A length for each parameter, and the noise, are chosen by the error of leaving each point out.
    """

    def __init__(self, space: Space, points: Floats, values: Floats) -> None:
        self._is_choice = choices(space)
        order = np.argsort(values, kind="stable")
        kept = order[np.linspace(0, len(order) - 1, min(len(order), MAX_POINTS)).round().astype(int)]
        self._points, self._centre = points[kept], float(values.mean())
        self._scale = float(values.std()) or 1.0
        self._tune((values[kept] - self._centre) / self._scale)

    def _tune(self, targets: Floats) -> None:
        few = np.linspace(0, len(targets) - 1, min(len(targets), _TUNED_ON)).round().astype(int)
        apart = self._squares(self._points[few], self._points[few])
        lengths = np.full(len(apart), _LENGTHS[1])
        total = np.tensordot(1.0 / lengths**2, apart, axes=1)
        best, noise = min((_left_out(total, noise, targets[few]), noise) for noise in _NOISES)
        for _ in range(_PASSES):
            for d in range(len(apart)):
                for length in _LENGTHS:
                    moved = total + (1.0 / length**2 - 1.0 / lengths[d] ** 2) * apart[d]
                    error = _left_out(moved, noise, targets[few])
                    if error < best:
                        best, total, lengths[d] = error, moved, length
            best, noise = min((_left_out(total, noise, targets[few]), noise) for noise in _NOISES)
        self._lengths = lengths
        every = matern(self._between(self._points, self._points))[0]
        self._weights = np.linalg.solve(every + noise * np.eye(len(every)), targets)

    def _between(self, one: Floats, other: Floats) -> Floats:
        return np.asarray(np.tensordot(1.0 / self._lengths**2, self._squares(one, other), axes=1))

    def _squares(self, one: Floats, other: Floats) -> Floats:
        return squares(one, other, self._is_choice)

    def predict(self, points: Floats) -> Floats:
        """The expected value at each row."""
        alike = matern(self._between(points, self._points))[0]
        return np.asarray(self._centre + self._scale * (alike @ self._weights))


def _left_out(total: Floats, noise: float, targets: Floats) -> float:
    """Mean squared error of predicting each target from the others."""
    kernel, _ = matern(np.maximum(total, 0.0))  # lengths come and go in it, and leave rounding behind
    inverse = np.linalg.inv(kernel + noise * np.eye(len(targets)))
    return float(np.mean((inverse @ targets / np.diag(inverse)) ** 2))
