"""The Gaussian process: its gradient, what it interpolates, and what it makes of choices and of what is not there."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.integrate import quad
from scipy.optimize import approx_fprime

from service.space import Choice, Integer, Real, Space
from service.tuning.gaussian_process import (
    Codes,
    GaussianProcess,
    _surprise,
    log_expected_improvement,
    squared_distances,
)

SPACE = Space({
    "kind": Choice(("a", "b", "c"), (1, 1, 6)),
    "width": Choice((8, 32, 16)),
    "x": Real(0, 1),
    "depth": Integer(1, 9, when={"kind": ("a",)}),
})  # fmt: skip


def rows_of(count: int, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return np.array([SPACE.to_unit(SPACE.sample(rng)) for _ in range(count)], dtype=float)


def test_gradient_is_that_of_the_surprise() -> None:
    rows, codes = rows_of(30), Codes(SPACE)
    squared = squared_distances(codes.of(rows), codes.of(rows), codes.is_category)
    targets, usual = np.sin(5 * rows[:, 2]), np.full(5, -0.5)
    at = np.array([-0.5, 0.3, 0.1, -0.2, -3.0])
    numeric = approx_fprime(at, lambda theta: _surprise(theta, squared, targets, usual)[0], 1e-6)
    assert _surprise(at, squared, targets, usual)[1] == pytest.approx(numeric, rel=1e-4, abs=1e-4)


def test_codes_keep_the_order_of_numbers_and_no_other() -> None:
    codes = Codes(SPACE)
    assert codes.is_category.tolist() == [True, False, False, False]
    params = [{"kind": "c", "width": 32, "x": 0.5}, {"kind": "a", "width": 16, "x": 0.5, "depth": 5}]
    found = codes.of(np.array([SPACE.to_unit(p) for p in params], dtype=float))
    assert found[:, 1].tolist() == [1.0, 0.5]
    apart = squared_distances(found, found, codes.is_category)[:, 0, 1]
    assert apart.tolist() == [1.0, 0.25, 0.0, 1.0]


def test_it_goes_through_what_it_has_seen_and_doubts_what_is_far() -> None:
    rows, codes = rows_of(40), Codes(SPACE)
    targets = 3 + np.sin(5 * rows[:, 2]) + (rows[:, 0] > 0.25)
    process = GaussianProcess.fit(codes.of(rows), targets, codes.is_category)
    mean, deviation = process.predict(codes.of(rows))
    assert mean == pytest.approx(targets, abs=0.05)
    other = rows_of(200, seed=1)
    errors = process.predict(codes.of(other))[0] - (3 + np.sin(5 * other[:, 2]) + (other[:, 0] > 0.25))
    assert np.sqrt(np.mean(errors**2)) < 0.15
    assert deviation.max() < process.predict(codes.of(other))[1].max()


def test_believing_changes_no_expectation_and_takes_the_doubt_away() -> None:
    rows, codes = rows_of(20), Codes(SPACE)
    process = GaussianProcess.fit(codes.of(rows), rows[:, 2] ** 2, codes.is_category)
    there = codes.of(rows_of(3, seed=2))
    believed = process.believing(there)
    assert believed.predict(there)[0] == pytest.approx(process.predict(there)[0], abs=1e-2)
    assert (believed.predict(there)[1] < 0.8 * process.predict(there)[1]).all()


@pytest.mark.parametrize("mean", [-1.0, 0.0, 2.0, 6.0])
def test_log_expected_improvement_is_the_log_of_the_integral(mean: float) -> None:
    def gain(y: float) -> float:
        return -y * math.exp(-0.5 * ((y - mean) / 0.5) ** 2) / (0.5 * math.sqrt(2 * math.pi))

    integral = quad(gain, mean - 10, 0.0, epsabs=0, points=[min(mean, 0.0) - 1e-3])[0]
    found = log_expected_improvement(np.array([mean]), np.array([0.5]), 0.0)[0]
    assert found == pytest.approx(math.log(integral), rel=1e-3)


def test_log_expected_improvement_falls_on_where_it_would_underflow() -> None:
    found = log_expected_improvement(np.linspace(0, 500, 200), np.ones(200), 0.0)
    assert np.isfinite(found).all()
    assert (np.diff(found) < 0).all()
