"""From losses to what a Gaussian process can model: one number each, the differences among the good ones widened."""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
GOOD_SHARE, FAIR_SHARE, POOR_SHARE = 0.25, 0.5, 0.75
FAIR_WEIGHT: Final = 10.0  # the larger, the closer is the scale to the losses themselves
FARTHEST: Final = 3.0  # times the way from the lowest to the middle: so far above the middle, losses count as one
LEAST: Final = 1e-12
BLEND: Final = 0.05  # of the sum of all objectives, so that what is dominated never ties (augmented Chebyshev)


class Scale:
    """A monotone map, learned from `losses`: log(1 + (loss - lowest) / offset), standardised, linear below the lowest.

    How bad a bad configuration is says little about where the good ones are, so that what lies far above the middle
    counts as one.
    """

    def __init__(self, losses: Floats) -> None:
        finite = losses[np.isfinite(losses)]
        if not len(finite):
            finite = np.zeros(1)
        good, fair, poor = np.quantile(finite, [GOOD_SHARE, FAIR_SHARE, POOR_SHARE]).tolist()
        self._lowest = float(finite.min())
        self._offset = max((good - self._lowest) + FAIR_WEIGHT * (fair - self._lowest), LEAST)
        self._highest = max(poor, fair + FARTHEST * (fair - self._lowest))
        warped = self._warped(losses)
        self._mean, self._deviation = float(warped.mean()), max(float(warped.std()), LEAST)

    def _warped(self, losses: Floats) -> Floats:
        above = np.minimum(losses, self._highest) - self._lowest
        return np.asarray(np.where(above >= 0, np.log1p(np.maximum(above, 0.0) / self._offset), above / self._offset))

    def __call__(self, losses: Floats) -> Floats:
        """Losses on the scale; +inf is as bad as the worst that counts."""
        return (self._warped(losses) - self._mean) / self._deviation

    def inverse(self, scaled: Floats) -> Floats:
        """Losses of values on the scale."""
        warped = scaled * self._deviation + self._mean
        above = np.where(warped >= 0, np.expm1(np.maximum(warped, 0.0)), warped)
        return np.asarray(above * self._offset + self._lowest)


def joined(losses: Floats, weights: Floats) -> Floats:
    """One loss per row: the objectives by augmented Chebyshev, infeasible rows behind all feasible ones.

    The last column of `losses` is the constraints' violation. `weights`: one per objective, summing to 1; the
    objectives are first brought to a common scale (Knowles, ParEGO, 2006).
    """
    objectives, violation = losses[:, :-1], losses[:, -1]
    is_sound = np.isfinite(objectives).all(axis=1) & np.isfinite(violation)
    found = np.full(len(losses), np.inf)
    if is_sound.any():
        found[is_sound] = _one(objectives[is_sound], weights)
    feasible = found[is_sound & (violation <= 0)]
    worst, best = (float(feasible.max()), float(feasible.min())) if len(feasible) else (0.0, 0.0)
    is_outside = is_sound & (violation > 0)
    if is_outside.any():
        span = max(worst - best, LEAST) if len(feasible) else 1.0
        typical = max(float(np.median(violation[is_outside])), LEAST)
        found[is_outside] = worst + span * (0.1 + violation[is_outside] / typical)
    return found


def _one(objectives: Floats, weights: Floats) -> Floats:
    if objectives.shape[1] == 1:
        return np.asarray(objectives[:, 0])
    low, high = objectives.min(axis=0), np.quantile(objectives, POOR_SHARE, axis=0)
    units = (objectives - low) / np.maximum(high - low, LEAST)
    return np.asarray((weights * units).max(axis=1) + BLEND * (weights * units).sum(axis=1))
