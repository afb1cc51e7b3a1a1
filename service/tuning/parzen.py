"""Kernel densities over the unit cube of a search space, with categories and parameters that are not always active."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

import numpy as np

from service.spec.space import Choice, Parameter, Space

LEAST_WIDTH: Final = 0.02  # narrower kernels would only repeat what was tried
PRIOR_WIDTH: Final = 0.2  # the width that a few points are shrunk towards
PRIOR_COUNT: Final = 2.0  # how many points that prior counts for
REDRAWS: Final = 30  # a draw falls outside at most half the time, so that next to none is left after these


@dataclass(frozen=True, slots=True)
class Category:
    """A choice's prior and how alike its values are, the diagonal aside: neighbours are where values are numbers."""

    edges: np.ndarray
    prior: np.ndarray
    alike: np.ndarray


@dataclass(frozen=True, slots=True)
class Dimensions:
    """What kernels need to know of each dimension: the category of a choice (None for numbers), the narrowest width."""

    categories: tuple[Category | None, ...]
    least_widths: np.ndarray

    @classmethod
    def of(cls, space: Space) -> Dimensions:
        """The dimensions of `space`; where values are countable, no kernel is narrower than half a step."""
        sizes = [space[name].size for name in space.dimensions]
        least = np.array([max(LEAST_WIDTH, 0.5 / size if size else 0.0) for size in sizes])
        return cls(tuple(_category(space[name]) for name in space.dimensions), least)


def _category(parameter: Parameter) -> Category | None:
    if not isinstance(parameter, Choice):
        return None
    prior = np.array(parameter.probabilities, dtype=float)
    prior /= prior.sum()
    alike = np.tile(prior, (len(prior), 1))
    values = parameter.values
    if all(isinstance(v, int | float) and not isinstance(v, bool) for v in values):
        rank = np.argsort(np.argsort(np.array(values, dtype=float)))
        near = np.exp(-np.abs(rank[:, None] - rank[None, :])) * prior
        alike = 0.5 * alike + 0.5 * near / near.sum(axis=1, keepdims=True)
    return Category(np.cumsum(prior)[:-1], prior, alike)


class Density:
    """A mixture of one kernel per point and the prior, which is even over the cube (and by weight over a choice).

    A kernel is a product over dimensions: a truncated Gaussian for a number, a row of a matrix for a choice, and the
    prior for a dimension that is inactive at its point. The prior weighs as much as a point of weight 1.
    """

    def __init__(self, points: np.ndarray, weights: np.ndarray, dimensions: Dimensions, widening: float = 1.0) -> None:
        self._points = points
        self._categories = dimensions.categories
        total = weights.sum() + 1.0
        self._weights = np.append(weights / total, 1.0 / total)
        self._tables = [_table(category, len(points)) for category in dimensions.categories]
        self._widths = np.maximum(dimensions.least_widths, widening * _widths(points))

    def log(self, at: np.ndarray) -> np.ndarray:
        """Log density at each row of `at`; NaN marks inactive dimensions, which say nothing."""
        logs = np.zeros((len(at), len(self._points) + 1))
        for d, category in enumerate(self._categories):
            active = ~np.isnan(at[:, d])
            if active.any():
                kernel, prior = self._log_along(d, category, at[active, d])
                logs[active, :-1] += kernel
                logs[active, -1] += prior
        logs += np.log(self._weights)
        top = logs.max(axis=1, keepdims=True)
        return np.asarray(top[:, 0] + np.log(np.exp(logs - top).sum(axis=1)))

    def _log_along(self, d: int, category: Category | None, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Log of each point's kernel (columns) and of the prior along dimension `d`, at `x` (rows)."""
        centres = self._points[:, d]
        if category is None:
            kernel, prior = _log_normal(x, np.nan_to_num(centres), float(self._widths[d])), np.zeros(len(x))
        else:
            chosen = np.searchsorted(category.edges, x, side="right")
            owner = np.searchsorted(category.edges, np.nan_to_num(centres), side="right")
            kernel, prior = np.log(self._tables[d][owner][:, chosen].T), np.log(category.prior[chosen])
        return np.where(np.isnan(centres)[None, :], prior[:, None], kernel), prior

    def sample(self, rng: np.random.Generator, count: int) -> np.ndarray:
        """`count` rows of the unit cube; a dimension that is inactive at a kernel's point is drawn from the prior."""
        kernels = rng.choice(len(self._weights), size=count, p=self._weights)
        found = rng.random((count, len(self._categories)))
        from_point = np.flatnonzero(kernels < len(self._points))
        for d, category in enumerate(self._categories):
            centres = self._points[kernels[from_point], d]
            rows, centres = from_point[~np.isnan(centres)], centres[~np.isnan(centres)]
            if category is None:
                found[rows, d] = _draw_normal(rng, centres, float(self._widths[d]))
            else:
                owner = np.searchsorted(category.edges, centres, side="right")
                cumulative = np.cumsum(self._tables[d][owner], axis=1)
                chosen = (rng.random(len(rows))[:, None] >= cumulative[:, :-1]).sum(axis=1)
                starts = np.append(0.0, category.edges)
                found[rows, d] = starts[chosen] + 0.5 * category.prior[chosen]
        return found


def _table(category: Category | None, count: int) -> np.ndarray:
    """The kernel of each value (rows), less of it on other values the more points there are; empty for numbers."""
    if category is None:
        return np.empty((0, 0))
    spread = 1.0 / (1.0 + math.sqrt(max(1, count)))
    return (1 - spread) * np.eye(len(category.prior)) + spread * category.alike


def _widths(points: np.ndarray) -> np.ndarray:
    """Scott's rule on the spread of the points, shrunk towards a fixed width while they are few."""
    active = ~np.isnan(points)
    count = active.sum(axis=0)
    centre = np.where(active, points, 0.0).sum(axis=0) / np.maximum(1, count)
    squares = (np.where(active, points - centre, 0.0) ** 2).sum(axis=0)
    spread = np.sqrt((squares + PRIOR_COUNT * PRIOR_WIDTH**2) / (count + PRIOR_COUNT))
    return np.asarray(spread * np.maximum(1, count) ** (-1.0 / (points.shape[1] + 4)))


def _log_normal(x: np.ndarray, centres: np.ndarray, width: float) -> np.ndarray:
    """Log density of Gaussians at `centres` (columns) cut to the unit interval, at `x` (rows)."""
    mass = _normal_cdf((1 - centres) / width) - _normal_cdf(-centres / width)
    z = (x[:, None] - centres[None, :]) / width
    return np.asarray(-0.5 * z * z - np.log(mass * width * math.sqrt(2 * math.pi))[None, :])


def _normal_cdf(z: np.ndarray) -> np.ndarray:
    """Within 7.5e-8 (Abramowitz and Stegun 26.2.17)."""
    t = 1 / (1 + 0.2316419 * np.abs(z))
    poly = t * (0.319381530 + t * (-0.356563782 + t * (1.781477937 + t * (-1.821255978 + t * 1.330274429))))
    upper = np.exp(-0.5 * z * z) / math.sqrt(2 * math.pi) * poly
    return np.asarray(np.where(z >= 0, 1 - upper, upper))


def _draw_normal(rng: np.random.Generator, centres: np.ndarray, width: float) -> np.ndarray:
    """One draw per centre, drawn again while outside the unit interval."""
    found = rng.normal(centres, width)
    for _ in range(REDRAWS):
        outside = (found < 0) | (found > 1)
        if not outside.any():
            break
        found[outside] = rng.normal(centres[outside], width)
    return np.clip(found, 0.0, 1.0)
