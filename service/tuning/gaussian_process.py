"""Gaussian process regression over the unit cube of a search space, with choices and parameters not always active.

A Matérn-5/2 kernel with a length for each dimension, fitted to its most probable lengths and noise. Two values of a
choice are one apart, and so is a number from no number at all; choices between numbers keep their order. All of it
depends on its inputs alone, so whoever decides by it decides the same when a ledger is replayed.
"""

from __future__ import annotations

import math
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from functools import cache
from typing import Any, Final

import numpy as np
from scipy.linalg import cho_solve, cholesky, solve_triangular
from scipy.optimize import minimize
from threadpoolctl import ThreadpoolController

from service.spec.space import Choice, Space
from service.tuning.forecast.kernel import matern
from service.tuning.forecast.process import Belief

STEPS: Final = 25  # of the search for the most probable lengths; more of them hardly change a proposal
USUAL_LENGTH: Final = 0.3  # in one dimension; it grows with the root of their number, as distances in the cube do
LENGTH_SPREAD: Final = 0.8  # one standard deviation of a length's logarithm
USUAL_NOISE: Final = 1e-3  # part of the variance that no configuration explains
NOISE_SPREAD: Final = 2.0
LEAST_NOISE: Final = 1e-6


def one_thread() -> AbstractContextManager[Any]:
    """While it is entered, linear algebra keeps to one core.

    Matrices are small here: more threads take five times as long, and sum up in an order that depends on the machine.
    """
    limited: AbstractContextManager[Any] = _controller().limit(limits=1, user_api="blas")
    return limited


@cache
def _controller() -> Any:  # noqa: ANN401  # the library has no annotations
    return ThreadpoolController()


class Codes:
    """Turns rows of the unit cube into codes, whose differences along each dimension mean something to the kernel."""

    def __init__(self, space: Space) -> None:
        from service.tuning.parzen import Dimensions

        categories = Dimensions.of(space).categories
        self._places: list[tuple[int, np.ndarray, np.ndarray]] = []  # (dimension, edges of the values, their codes)
        self.is_category = np.zeros(space.dimension, dtype=bool)
        for d, (name, category) in enumerate(zip(space.dimensions, categories, strict=True)):
            parameter = space[name]
            if category is not None and isinstance(parameter, Choice):
                codes = _order_of(parameter)
                self.is_category[d] = codes is None
                codes = np.arange(len(parameter.values), dtype=float) if codes is None else codes
                self._places.append((d, category.edges, codes))

    def of(self, rows: np.ndarray) -> np.ndarray:
        """The codes of `rows`; NaN stays NaN."""
        found = rows.copy()
        for d, edges, codes in self._places:
            active = ~np.isnan(rows[:, d])
            found[active, d] = codes[np.searchsorted(edges, rows[active, d], side="right")]
        return found


def _order_of(parameter: Choice) -> np.ndarray | None:
    """Even places in the unit interval for values that are numbers; None for values without an order."""
    values = parameter.values
    if len(values) < 2 or not all(isinstance(v, int | float) and not isinstance(v, bool) for v in values):  # noqa: PLR2004  # one value has no order
        return None
    return np.asarray(np.argsort(np.argsort(np.array(values, dtype=float))) / (len(values) - 1))


def squared_distances(a: np.ndarray, b: np.ndarray, is_category: np.ndarray) -> np.ndarray:
    """By dimension, between the rows of `a` and of `b`, all of them codes."""
    apart = a.T[:, :, None] - b.T[:, None, :]
    found = apart * apart
    found[is_category] = apart[is_category] != 0
    no_a, no_b = np.isnan(a.T), np.isnan(b.T)
    if no_a.any() or no_b.any():
        found[no_a[:, :, None] & no_b[:, None, :]] = 0.0
        found[no_a[:, :, None] ^ no_b[:, None, :]] = 1.0
    return np.asarray(found)


@dataclass(frozen=True, slots=True)
class Lengths:
    """How fast the target changes along each dimension (`scales`: 1 / length²), and the noise beside its variance."""

    scales: np.ndarray
    noise: float


@dataclass(frozen=True, slots=True)
class GaussianProcess:
    """A fitted process: `predict` says what to expect of other points. Made by `fit`."""

    codes: np.ndarray
    is_category: np.ndarray
    lengths: Lengths
    variance: float
    centre: float
    factor: np.ndarray
    weights: np.ndarray
    targets: np.ndarray

    @classmethod
    def fit(cls, codes: np.ndarray, targets: np.ndarray, is_category: np.ndarray) -> GaussianProcess:
        """The process with the most probable lengths and noise for `targets` at `codes`; at least one point."""
        return cls.given(codes, targets, is_category, most_probable(codes, targets, is_category))

    @classmethod
    def given(
        cls, codes: np.ndarray, targets: np.ndarray, is_category: np.ndarray, lengths: Lengths
    ) -> GaussianProcess:
        """The process with lengths that are known."""
        centre = float(targets.mean())
        kernel, _ = matern(np.tensordot(lengths.scales, squared_distances(codes, codes, is_category), 1))
        factor = cholesky(kernel + (lengths.noise + 1e-9) * np.eye(len(codes)), lower=True)
        weights = cho_solve((factor, True), targets - centre)
        variance = max(1e-12, float((targets - centre) @ weights) / len(codes))
        return cls(codes, is_category, lengths, variance, centre, factor, weights, targets)

    def predict(self, codes: np.ndarray) -> Belief:
        """The target at `codes`, noise aside."""
        squared = squared_distances(self.codes, codes, self.is_category)
        kernel, _ = matern(np.tensordot(self.lengths.scales, squared, 1))
        half = solve_triangular(self.factor, kernel, lower=True)
        left = np.maximum(1e-12, 1.0 - (half * half).sum(axis=0))
        return Belief(self.centre + kernel.T @ self.weights, self.variance * left)

    def believing(self, codes: np.ndarray) -> GaussianProcess:
        """This process as if it had seen what it expects at `codes`: what is under way there says nothing new."""
        if not len(codes):
            return self
        both = np.concatenate([self.codes, codes]), np.concatenate([self.targets, self.predict(codes).mean])
        return replace(GaussianProcess.given(*both, self.is_category, self.lengths), variance=self.variance)


def most_probable(codes: np.ndarray, targets: np.ndarray, is_category: np.ndarray) -> Lengths:
    """The lengths and the noise that `targets` at `codes` speak for, drawn towards usual ones."""
    squared = squared_distances(codes, codes, is_category)
    scaled = (targets - targets.mean()) / (float(targets.std()) or 1.0)
    count = codes.shape[1]
    usual = np.append(np.full(count, math.log(USUAL_LENGTH) + 0.5 * math.log(max(1, count))), math.log(USUAL_NOISE))
    bounds = [(math.log(0.02), math.log(30.0))] * count + [(math.log(LEAST_NOISE), 0.0)]
    found = minimize(
        _surprise, usual, args=(squared, scaled, usual), jac=True, method="L-BFGS-B", bounds=bounds,
        options={"maxiter": STEPS},
    )  # fmt: skip
    best = np.round(found.x, 3)  # what the last steps differ by on other machines must not show
    return Lengths(np.exp(-2 * best[:-1]), math.exp(best[-1]))


def _surprise(
    theta: np.ndarray, squared: np.ndarray, targets: np.ndarray, usual: np.ndarray
) -> tuple[float, np.ndarray]:
    """Minus the log of the posterior of (log lengths, log noise), the variance at its best; and its gradient."""
    scales, noise, count = np.exp(-2 * theta[:-1]), math.exp(theta[-1]), len(targets)
    kernel, slope = matern(np.tensordot(scales, squared, 1))
    factor = cholesky(kernel + (noise + 1e-9) * np.eye(count), lower=True)
    inverse = cho_solve((factor, True), np.eye(count))
    weights = inverse @ targets
    fit = max(1e-12, float(targets @ weights))
    spreads = np.append(np.full(len(scales), LENGTH_SPREAD), NOISE_SPREAD)
    off = (theta - usual) / spreads
    value = 0.5 * count * math.log(fit) + float(np.log(np.diag(factor)).sum()) + 0.5 * float(off @ off)
    outer = inverse - (count / fit) * np.outer(weights, weights)
    along = 0.5 * (5 / 3) * scales * np.tensordot(squared, outer * slope, 2)
    return value, np.append(along, 0.5 * noise * np.trace(outer)) + off / spreads
