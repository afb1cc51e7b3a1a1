"""The Gaussian process: its gradient, what it interpolates, and what it makes of choices and of what is not there."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.optimize import approx_fprime

from service.spec.space import Choice, Integer, Real, Space
from service.tuning.gaussian_process import (
    Codes,
    GaussianProcess,
    _surprise,
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
    belief = process.predict(codes.of(rows))
    assert belief.mean == pytest.approx(targets, abs=0.05)
    other = rows_of(200, seed=1)
    errors = process.predict(codes.of(other)).mean - (3 + np.sin(5 * other[:, 2]) + (other[:, 0] > 0.25))
    assert np.sqrt(np.mean(errors**2)) < 0.15
    assert belief.deviation.max() < process.predict(codes.of(other)).deviation.max()


def test_believing_changes_no_expectation_and_takes_the_doubt_away() -> None:
    rows, codes = rows_of(20), Codes(SPACE)
    process = GaussianProcess.fit(codes.of(rows), rows[:, 2] ** 2, codes.is_category)
    there = codes.of(rows_of(3, seed=2))
    believed = process.believing(there)
    assert believed.predict(there).mean == pytest.approx(process.predict(there).mean, abs=1e-2)
    assert (believed.predict(there).deviation < 0.8 * process.predict(there).deviation).all()
