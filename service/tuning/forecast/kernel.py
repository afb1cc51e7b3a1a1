"""The covariance of learning curves: how much one epoch of one trial says about another epoch of another trial.

    k((x, t, i), (x', t', i')) = c T(t, t') + M(x, x') (a + b T(t, t')) + [i = i'] (d + e T(t, t')) + noise

M and T are Matern 5/2 kernels over configurations (a length scale per parameter) and over the logarithm of the epoch.
`a` is what a configuration shows at every epoch, `b` how curves change shape, `d` and `e` what one trial has of its
own, such as its random initialisation, and `c` the curve that all trials have in common.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Places = NDArray[np.intp]
SQRT5: Final = math.sqrt(5.0)
NUGGET: Final = 1e-3  # of the variance: no loss is known more exactly than this
COMMON, LEVEL, SHAPE, OWN_LEVEL, OWN_SHAPE, NOISE, TIME = range(7)  # after the length scales, logarithms all
PRIOR_MEDIANS: Final = (0.5, 1.0, 0.5, 0.01, 0.01, 0.005, 1.2)
PRIOR_SPREADS: Final = (1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 0.4)
LENGTH_MEDIAN: Final = 0.5  # times the root of the dimension
LENGTH_SPREAD: Final = 0.8


@dataclass(frozen=True, slots=True)
class Points:
    """Observations: `trial` indexes the rows of `features`; `time` is log(epoch) / log(max_epochs).

    `count` says how many epochs each is the mean of.
    """

    features: Floats
    trial: Places
    time: Floats
    count: Floats

    def __len__(self) -> int:
        return len(self.trial)

    def take(self, places: Places) -> Points:
        """Some of the observations; the features of all trials stay."""
        return Points(self.features, self.trial[places], self.time[places], self.count[places])

    def compact(self) -> Points:
        """The same observations, with the features of their own trials only, so that cost follows their number."""
        used, trial = np.unique(self.trial, return_inverse=True)
        return Points(self.features[used], trial, self.time, self.count)


@dataclass(frozen=True, slots=True)
class Prior:
    """Log-normal priors of the hyperparameters, with length scales that grow with the number of dimensions."""

    mean: Floats
    spread: Floats

    @classmethod
    def of(cls, dimension: int) -> Prior:
        """Length scales grow with the dimensions, as in Hvarfner et al. (ICML 2024)."""
        lengths = np.full(dimension, math.log(LENGTH_MEDIAN * math.sqrt(max(1, dimension))))
        mean = np.concatenate([lengths, np.log(PRIOR_MEDIANS)])
        return cls(mean, np.concatenate([np.full(dimension, LENGTH_SPREAD), PRIOR_SPREADS]))


def squared_distances(a: Floats, b: Floats) -> Floats:
    """All pairs of rows of `a` and `b`."""
    return np.asarray(np.maximum((a * a).sum(axis=1)[:, None] + (b * b).sum(axis=1)[None] - 2.0 * (a @ b.T), 0.0))


def matern(squared: Floats) -> tuple[Floats, Floats]:
    """(value, slope): Matern 5/2 at squared distances; d value / d log length = 5/3 slope (part of the distance)."""
    a = SQRT5 * np.sqrt(squared)
    decay = np.exp(-a)
    slope = (1.0 + a) * decay
    return slope + a * a / 3.0 * decay, slope


class Covariance:
    """The covariance at one setting of the hyperparameters `theta`; `groups` maps columns to dimensions."""

    def __init__(self, theta: Floats, groups: Places) -> None:
        self.dimension = len(theta) - len(PRIOR_MEDIANS)
        self._lengths = np.exp(theta[: self.dimension])[groups]
        scales = np.exp(theta[self.dimension :]).tolist()
        self.common, self.level, self.shape, self.own_level, self.own_shape, self.noise, self._time = scales
        self.shared = self.common + self.level + self.shape
        self.total = self.shared + self.own_level + self.own_shape

    def scaled(self, features: Floats) -> Floats:
        """Features in units of the length scales."""
        return features / self._lengths

    def times(self, a: Floats, b: Floats) -> tuple[Floats, Floats, Floats]:
        """(value, slope, squared distance) between two sets of times."""
        gaps = ((a[:, None] - b[None]) / self._time) ** 2
        return (*matern(gaps), gaps)

    def between(self, a: Points, b: Points) -> Floats:
        """len(a) by len(b), without noise; equal `trial` in both is the same trial."""
        own, other = a.compact(), b.compact()
        configs = matern(squared_distances(self.scaled(own.features), self.scaled(other.features)))[0]
        configs = configs[own.trial][:, other.trial]
        times = self.times(a.time, b.time)[0]
        same = a.trial[:, None] == b.trial[None]
        return self._joined(configs, times, same)

    def _joined(self, configs: Floats, times: Floats, same: NDArray[np.bool_]) -> Floats:
        found = times * (self.common + self.shape * configs + self.own_shape * same)
        found += self.level * configs
        found += self.own_level * same
        return np.asarray(found)

    def noises(self, points: Points) -> Floats:
        """The variance of each observation's own noise."""
        return np.asarray(self.noise / points.count + NUGGET)

    def of_new(self, features: Floats, time: float, known: Points) -> Floats:
        """Covariance of configurations that no trial has, at one `time`, with observations: m by len(known)."""
        used = known.compact()
        configs = matern(squared_distances(self.scaled(features), self.scaled(used.features)))[0][:, used.trial]
        times = self.times(np.array([time]), known.time)[0][0]
        return np.asarray(configs * (self.level + self.shape * times) + self.common * times)


def likelihood(theta: Floats, groups: Places, points: Points, target: Floats) -> float:
    """Logarithm of the probability of the observations' values `target`, but for a constant."""
    covariance = Covariance(theta, groups)
    matrix = covariance.between(points, points)
    matrix[np.diag_indices_from(matrix)] += covariance.noises(points)
    found = _solved(matrix, target)
    return -math.inf if found is None else -found[2]


def _solved(matrix: Floats, target: Floats) -> tuple[Floats, Floats, float] | None:
    """(Cholesky factor, matrix^-1 target, negative log likelihood); None where `matrix` is numerically singular."""
    from scipy.linalg import LinAlgError, cho_solve, cholesky

    try:
        factor = cholesky(matrix, lower=True, check_finite=False)
    except LinAlgError:
        return None
    weights = cho_solve((factor, True), target, check_finite=False)
    return factor, weights, 0.5 * float(target @ weights) + float(np.log(np.diag(factor)).sum())


def evidence(theta: Floats, groups: Places, points: Points, target: Floats, prior: Prior) -> tuple[float, Floats]:
    """(value, gradient) of the negative log posterior of `theta`, given the observations' values `target`."""
    from scipy.linalg import cho_solve

    covariance = Covariance(theta, groups)
    scaled = covariance.scaled(points.features)
    configs, config_slope = (m[points.trial][:, points.trial] for m in matern(squared_distances(scaled, scaled)))
    times, time_slope, gaps = covariance.times(points.time, points.time)
    same = points.trial[:, None] == points.trial[None]
    matrix = covariance._joined(configs, times, same)  # noqa: SLF001  # the same file
    matrix[np.diag_indices_from(matrix)] += covariance.noises(points)
    solved = _solved(matrix, target)
    if solved is None:
        return 1e10, np.zeros_like(theta)
    factor, weights, value = solved
    inverse = cho_solve((factor, True), np.eye(len(target)), check_finite=False)
    slope = inverse - np.outer(weights, weights)

    gradient = np.zeros_like(theta)
    by_config = slope * (covariance.level + covariance.shape * times) * config_slope * (5.0 / 3.0)
    rows = scaled[points.trial]
    moments = 2.0 * ((rows * rows).T @ by_config.sum(axis=1) - np.einsum("if,if->f", rows, by_config @ rows))
    gradient[: covariance.dimension] = 0.5 * np.bincount(groups, moments, minlength=covariance.dimension)
    parts = gradient[covariance.dimension :]
    with_configs, of_same = slope * configs, slope * same
    parts[COMMON] = 0.5 * covariance.common * (slope * times).sum()
    parts[LEVEL] = 0.5 * covariance.level * with_configs.sum()
    parts[SHAPE] = 0.5 * covariance.shape * (with_configs * times).sum()
    parts[OWN_LEVEL] = 0.5 * covariance.own_level * of_same.sum()
    parts[OWN_SHAPE] = 0.5 * covariance.own_shape * (of_same * times).sum()
    parts[NOISE] = 0.5 * float((np.diag(slope) * covariance.noise / points.count).sum())
    by_time = covariance.common + covariance.shape * configs + covariance.own_shape * same
    parts[TIME] = 0.5 * (slope * by_time * time_slope * gaps).sum() * (5.0 / 3.0)
    off = (theta - prior.mean) / prior.spread
    return value + 0.5 * float(off @ off), gradient + off / prior.spread
