"""Draws the effects of parameters from their posterior: a linear model whose groups of columns are zero or not.

The group horseshoe: each group's coefficients share a scale of their own with a half-Cauchy prior, which pulls a group
without effect to 0 and leaves a strong one alone (Carvalho, Polson, Scott 2010; drawn as in Makalic, Schmidt 2016).
Unlike a single fit, the draws say how far to trust each share, few trials and all.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from scipy.linalg import cholesky, solve_triangular

from service.tuning.importance_basis import Floats

_BURN_IN: Final = 100
_SMALLEST, _LARGEST = 1e-10, 1e10  # of a scale: keeps the matrices solvable


@dataclass(frozen=True, slots=True)
class Draws:
    """One row per draw."""

    level: Floats  # the mean over the space
    coefficients: Floats
    noise: Floats  # variance that no column explains


class _Regression:
    """What the data add up to, and the state of the chain."""

    def __init__(self, columns: Floats, target: Floats, groups: list[Floats], rng: np.random.Generator) -> None:
        self._rng = rng
        self._middle, self._unit = float(target.mean()), float(target.std()) or 1.0
        self._y = (target - self._middle) / self._unit
        self._x = np.column_stack([np.ones(len(columns)), columns])
        self._gram, self._moment = self._x.T @ self._x, self._x.T @ self._y
        self._decay = np.concatenate(groups)
        self._group = np.repeat(np.arange(len(groups)), [len(g) for g in groups])
        self._sizes = np.array([len(g) for g in groups], dtype=np.float64)
        self._local, self._local_aid = np.ones(len(groups)), np.ones(len(groups))
        self._overall, self._overall_aid, self._noise = 0.1, 1.0, 0.5

    def step(self) -> tuple[float, Floats, float]:
        """(level, coefficients, noise variance) of the next draw, in the target's unit."""
        weights = self._coefficients()
        coefficients = weights[1:]
        squares = coefficients**2 / self._decay
        rest = self._y - self._x @ weights
        spread = self._overall * self._local[self._group]
        count = len(self._y) + len(coefficients)
        self._noise = self._inverse_gamma(count / 2, (float(rest @ rest) + float((squares / spread).sum())) / 2)
        sums = np.bincount(self._group, squares, minlength=len(self._sizes)) / (2 * self._noise)
        self._local = self._scales(self._sizes, self._local_aid, sums / self._overall)
        self._local_aid = self._scales(np.ones_like(self._sizes), np.ones_like(self._sizes), 1 / self._local)
        pull = float((sums / self._local).sum())
        self._overall = float(self._scales(np.array([self._sizes.sum()]), np.array([self._overall_aid]), pull)[0])
        self._overall_aid = self._inverse_gamma(1.0, 1 + 1 / self._overall)
        return (
            self._middle + self._unit * float(weights[0]),
            self._unit * coefficients,
            self._unit**2 * self._noise,
        )

    def _coefficients(self) -> Floats:
        scales = np.clip(self._overall * self._local[self._group] * self._decay, _SMALLEST, _LARGEST)
        precision = self._gram + np.diag(np.concatenate([[1e-6], 1 / scales]))
        upper = cholesky(precision, check_finite=False)
        half = solve_triangular(upper, self._moment, trans=1, check_finite=False)
        noise = np.sqrt(self._noise) * self._rng.standard_normal(len(half))
        return np.asarray(solve_triangular(upper, half + noise, check_finite=False), dtype=np.float64)

    def _scales(self, shape: Floats, aid: Floats, rate: Floats | float) -> Floats:
        """Variances with the half-Cauchy prior, given its helper `aid`."""
        drawn = (1 / aid + rate) / self._rng.gamma((shape + 1) / 2)
        return np.asarray(np.clip(drawn, _SMALLEST, _LARGEST), dtype=np.float64)

    def _inverse_gamma(self, shape: float, rate: float) -> float:
        return float(np.clip(rate / self._rng.gamma(shape), _SMALLEST, _LARGEST))


def draw_effects(
    columns: Floats, target: Floats, groups: list[Floats], rng: np.random.Generator, *, draws: int
) -> Draws:
    """`draws` draws of the coefficients of `columns`, which stand in `groups` (each its columns' prior shares)."""
    chain = _Regression(columns, target, groups, rng)
    for _ in range(_BURN_IN):
        chain.step()
    levels, coefficients, noises = zip(*(chain.step() for _ in range(draws)), strict=True)
    return Draws(np.array(levels), np.array(coefficients), np.array(noises))
