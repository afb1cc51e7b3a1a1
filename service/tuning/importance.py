"""Which parameters mattered: how much of the order of the trials each one explains by itself; numpy only.

Trials are put in order by how many others they beat, each pair compared at the highest epoch that both reached, so
that a trial stopped early is not judged by its early value against another's final one. A parameter's importance is
the share of that order which it predicts out of sample (leave-one-out kernel regression, or group means for choices):
the first-order effect of a functional analysis of variance. A parameter without effect gets about 0. One that is active
in some trials only is judged inside those, so that its parent's effect is not credited to it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final, TypeAlias

import numpy as np
from numpy.typing import NDArray

Floats: TypeAlias = NDArray[np.float64]
FEWEST_TRIALS: Final = 8  # with less, every number would be noise
_MOST_TRIALS: Final = 1000  # beyond it an even sample: the kernels grow with the square
_BANDWIDTHS: Final = (0.06, 0.12, 0.25)  # of the unit interval
_RESAMPLES: Final = 200
_INTERVAL: Final = (5.0, 95.0)  # percent


@dataclass(frozen=True, slots=True)
class Importance:
    """The share (0 to 1) of the trials' order that one parameter explains, with a 90 % bootstrap interval."""

    name: str
    share: float
    low: float
    high: float
    trials: int  # in which it was active


@dataclass(frozen=True, slots=True)
class Column:
    """One parameter over all trials: places in the unit interval, NaN where inactive; `is_choice` has no order."""

    name: str
    places: Sequence[float]
    is_choice: bool = False


def standings(curves: Sequence[Mapping[int, float]]) -> Floats:
    """For each trial the share of the others that it beats, from 0 to 1; NaN for a trial that reported nothing.

    `curves`: epoch -> loss of each trial; a loss that is not finite loses against all that are. Ties count half.
    """
    last = np.array([max(curve, default=0) for curve in curves])
    wins, met = np.zeros(len(curves)), np.zeros(len(curves))
    for epoch in sorted(set(last.tolist()) - {0}):
        ends_here, goes_on = np.flatnonzero(last == epoch), np.flatnonzero(last > epoch)
        losses = np.array([_best_until(curve, epoch) for curve in curves])
        for group, others in ((ends_here, np.concatenate([ends_here, goes_on])), (goes_on, ends_here)):
            field = np.sort(losses[others])
            below = np.searchsorted(field, losses[group], side="left")
            equal = np.searchsorted(field, losses[group], side="right") - below
            itself = 1 if group is ends_here else 0
            wins[group] += len(field) - below - equal + (equal - itself) / 2
            met[group] += len(field) - itself
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(met > 0, wins / met, np.nan)


def importances(columns: Sequence[Column], standing: Floats, *, seed: int = 0) -> list[Importance]:
    """The importance of each column, the greatest first; empty with fewer than FEWEST_TRIALS usable trials.

    `standing`: one value per trial as from `standings`; NaN leaves the trial out.
    """
    rng = np.random.default_rng(seed)
    known = np.flatnonzero(np.isfinite(standing))
    if len(known) < FEWEST_TRIALS:
        return []
    if len(known) > _MOST_TRIALS:
        known = np.sort(rng.choice(known, _MOST_TRIALS, replace=False))
    target = standing[known]
    found = [_importance(column, known, target, rng) for column in columns]
    return sorted(found, key=lambda item: (-item.share, item.name))


def _best_until(curve: Mapping[int, float], epoch: int) -> float:
    best = min((loss for e, loss in curve.items() if e <= epoch), default=math.inf)
    return best if math.isfinite(best) else math.inf


def _importance(column: Column, known: NDArray[np.intp], target: Floats, rng: np.random.Generator) -> Importance:
    places = np.asarray(column.places, dtype=np.float64)[known]
    active = np.isfinite(places)
    x, y = places[active], target[active]
    total = float(np.sum((target - target.mean()) ** 2))
    if len(x) < FEWEST_TRIALS or total == 0 or np.ptp(x) == 0:
        return Importance(column.name, 0.0, 0.0, 0.0, len(x))
    mean = (y.sum() - y) / (len(y) - 1)  # what each is predicted to be without the parameter, leaving it out too
    explained = (y - mean) ** 2 - (y - _predict(x, y, is_choice=column.is_choice)) ** 2
    draws = rng.integers(0, len(x), size=(_RESAMPLES, len(x)))
    shares = np.clip(explained[draws].sum(axis=1) / total, 0.0, 1.0)
    low, high = np.percentile(shares, _INTERVAL)
    share = min(1.0, max(0.0, float(explained.sum()) / total))
    return Importance(column.name, share, min(share, float(low)), max(share, float(high)), len(x))


def _predict(x: Floats, y: Floats, *, is_choice: bool) -> Floats:
    """Each target as the others predict it; the bandwidth is the one that does so best."""
    if is_choice:
        return _leave_one_out((x[:, None] == x[None, :]).astype(np.float64), y)
    gap = (x[:, None] - x[None, :]) ** 2
    candidates = [_leave_one_out(np.exp(-gap / (2 * width**2)), y) for width in _BANDWIDTHS]
    return min(candidates, key=lambda guess: float(np.sum((y - guess) ** 2)))


def _leave_one_out(weights: Floats, y: Floats) -> Floats:
    """Weighted means of the others, drawn to their overall mean as if one more trial stood there."""
    np.fill_diagonal(weights, 0.0)
    others = (y.sum() - y) / (len(y) - 1)
    return np.asarray((weights @ y + others) / (weights.sum(axis=1) + 1.0), dtype=np.float64)
