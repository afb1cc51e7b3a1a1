"""A Gaussian process over learning curves: its hyperparameters fitted, conditioned on observations, and asked."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from service.tuning.forecast.kernel import Covariance, Floats, Places, Points, Prior, evidence, likelihood

MAX_FIT_STEPS: Final = 30
BOUND: Final = 3.0  # prior standard deviations
LEAST_VARIANCE: Final = 1e-9
SAMPLES: Final = 8  # of the hyperparameters: how sure the forecast is depends on values that few trials tell apart
THINNING: Final = 3  # steps of the chain from one sample to the next
LEAST_ANGLE: Final = 1e-6


@dataclass(frozen=True, slots=True)
class Belief:
    """Means and variances of a normal distribution each, in the target's units."""

    mean: Floats
    variance: Floats

    @property
    def deviation(self) -> Floats:
        """Standard deviations."""
        return np.sqrt(self.variance)

    def take(self, places: Places) -> Belief:
        """Some of them."""
        return Belief(self.mean[places], self.variance[places])

    def joined(self, other: Belief) -> Belief:
        """These, then the `other` ones."""
        return Belief(np.concatenate([self.mean, other.mean]), np.concatenate([self.variance, other.variance]))


def fit(points: Points, target: Floats, groups: Places) -> Floats:
    """The most probable hyperparameters, by L-BFGS from the medians of their priors."""
    from scipy.optimize import minimize

    prior = Prior.of(int(groups.max()) + 1 if len(groups) else 0)
    bounds = list(zip(prior.mean - BOUND * prior.spread, prior.mean + BOUND * prior.spread, strict=True))
    arguments = (groups, points, target, prior)
    options = {"maxiter": MAX_FIT_STEPS}
    found = minimize(evidence, prior.mean, arguments, "L-BFGS-B", jac=True, bounds=bounds, options=options)
    return np.asarray(found.x)


def sampled(theta: Floats, points: Points, target: Floats, groups: Places, seed: int) -> list[Floats]:
    """Hyperparameters drawn from their posterior, from the most probable ones on.

    By elliptical slice sampling, which needs no tuning where the prior is normal (Murray, Adams, MacKay, 2010).
    """
    rng = np.random.default_rng(seed)
    prior = Prior.of(int(groups.max()) + 1 if len(groups) else 0)

    def log_likelihood(off: Floats) -> float:
        return likelihood(prior.mean + prior.spread * off, groups, points, target)

    off = (theta - prior.mean) / prior.spread
    now, found = log_likelihood(off), []
    for step in range(1, SAMPLES * THINNING + 1):
        off, now = _next(off, now, log_likelihood, rng)
        if step % THINNING == 0:
            found.append(prior.mean + prior.spread * np.clip(off, -BOUND, BOUND))
    return found


def _next(
    off: Floats, now: float, log_likelihood: Callable[[Floats], float], rng: np.random.Generator
) -> tuple[Floats, float]:
    """The next state of the chain and its log likelihood: on an ellipse through this one and a draw of the prior."""
    draw = rng.standard_normal(len(off))
    level = now - rng.exponential()
    angle = rng.uniform(0.0, 2.0 * math.pi)
    low, high = angle - 2.0 * math.pi, angle
    while high - low > LEAST_ANGLE:
        moved = off * math.cos(angle) + draw * math.sin(angle)
        found = log_likelihood(moved)
        if found > level:
            return moved, found
        low, high = (angle, high) if angle < 0 else (low, angle)
        angle = rng.uniform(low, high)
    return off, now


class Process:
    """The posterior at hyperparameters `theta`, given that `points` have the values `target` (mean 0, variance 1)."""

    def __init__(self, theta: Floats, groups: Places, points: Points, target: Floats) -> None:
        from scipy.linalg import cholesky

        self._theta, self._groups = theta, groups
        self._covariance = Covariance(theta, groups)
        self.points, self._target = points, target
        matrix = self._covariance.between(points, points)
        matrix[np.diag_indices_from(matrix)] += self._covariance.noises(points)
        self._factor = cholesky(matrix, lower=True, check_finite=False)
        self._weigh()

    def _weigh(self) -> None:
        from scipy.linalg import cho_solve

        self._weights = cho_solve((self._factor, True), self._target, check_finite=False)

    def extended(self, points: Points, target: Floats) -> Process:
        """The posterior with more observations, whose `features` go on after those that are known."""
        from scipy.linalg import cholesky, solve_triangular

        bigger = object.__new__(Process)
        bigger._theta, bigger._groups, bigger._covariance = self._theta, self._groups, self._covariance
        known, covariance = self.points, self._covariance
        old = Points(points.features, known.trial, known.time, known.count)
        side = solve_triangular(self._factor, covariance.between(old, points), lower=True, check_finite=False)
        corner = covariance.between(points, points) - side.T @ side
        corner[np.diag_indices_from(corner)] += covariance.noises(points)
        n, m = len(known), len(points)
        factor = np.zeros((n + m, n + m))
        factor[:n, :n], factor[n:, :n] = self._factor, side.T
        factor[n:, n:] = cholesky(corner, lower=True, check_finite=False)
        both = (np.concatenate([a, b]) for a, b in zip(_columns(known), _columns(points), strict=True))
        bigger.points = Points(points.features, *both)
        bigger._target, bigger._factor = np.concatenate([self._target, target]), factor
        bigger._weigh()
        return bigger

    def of_trials(self, trials: Places, times: Floats) -> Belief:
        """What known trials (rows of `points.features`) would show at `times`, without noise."""
        asked = Points(self.points.features, trials, times, np.ones(len(trials)))
        return self._belief(self._covariance.between(asked, self.points), self._covariance.total)

    def means_of_trials(self, trials: Places, times: Floats) -> Floats:
        """The means alone of `of_trials`, which cost little."""
        asked = Points(self.points.features, trials, times, np.ones(len(trials)))
        return np.asarray(self._covariance.between(asked, self.points) @ self._weights)

    def means_of_new(self, features: Floats, time: float) -> Floats:
        """The means alone of `of_new`, which cost little."""
        return np.asarray(self._covariance.of_new(features, time, self.points) @ self._weights)

    def of_new(self, features: Floats, time: float) -> Belief:
        """What configurations that no trial has would show at one `time`, but for the luck of a single training."""
        return self._belief(self._covariance.of_new(features, time, self.points), self._covariance.shared)

    def _belief(self, covariances: Floats, variance: float) -> Belief:
        from scipy.linalg import solve_triangular

        explained = solve_triangular(self._factor, covariances.T, lower=True, check_finite=False)
        left = variance - np.einsum("ij,ij->j", explained, explained)
        return Belief(covariances @ self._weights, np.maximum(left, LEAST_VARIANCE))


def _columns(points: Points) -> tuple[Places, Floats, Floats]:
    return points.trial, points.time, points.count


def chosen(points: Points, target: Floats, count: int) -> NDArray[np.intp]:
    """At most about `count` places: every trial's last observation before any earlier one, the best trials first."""
    if len(points) <= count:
        return np.arange(len(points))
    trials = len(points.features)
    best = np.full(trials, np.inf)
    np.minimum.at(best, points.trial, target)
    rank = np.empty(trials, dtype=np.intp)
    rank[np.argsort(best, kind="stable")] = np.arange(trials)
    is_last = np.append(points.trial[1:] != points.trial[:-1], True)
    order = np.lexsort((rank[points.trial], ~is_last))
    return np.sort(order[:count])
