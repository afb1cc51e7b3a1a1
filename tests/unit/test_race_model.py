"""The arithmetic of races: held against the textbook where that has an answer, and against what must always be so."""

from __future__ import annotations

import math
import random
import statistics

import numpy as np
import pytest
from scipy.stats import ttest_rel

from service.tuning.race_model import FitResult, standings


def results(table: dict[int, list[float | None]]) -> list[FitResult]:
    """One row per configuration, one column per fold; None where it has no fit."""
    return [
        FitResult(number, (fold, 0), loss)
        for number, losses in table.items()
        for fold, loss in enumerate(losses)
        if loss is not None
    ]


def noisy(configurations: int, folds: int, seed: int = 0, noise: float = 0.1) -> dict[int, list[float | None]]:
    rng = np.random.default_rng(seed)
    effects = rng.normal(0, 1, folds)
    return {c: [float(c / 10 + effects[k] + rng.normal(0, noise)) for k in range(folds)] for c in range(configurations)}


@pytest.mark.parametrize("seed", range(5))
def test_two_configurations_on_the_same_folds_are_the_paired_t_test(seed: int) -> None:
    table = noisy(2, 6, seed)
    first, second = standings(results(table))
    textbook = ttest_rel(table[second.configuration], table[first.configuration], alternative="greater")
    assert second.behind == pytest.approx(textbook.pvalue)


def test_with_every_fold_the_mean_is_the_plain_one_and_its_error_the_textbooks() -> None:
    table = noisy(3, 5)
    found = {s.configuration: s for s in standings(results(table))}
    for number, losses in table.items():
        assert found[number].mean == pytest.approx(statistics.fmean(x for x in losses if x is not None))
    grid = np.array([table[c] for c in range(3)], dtype=float)
    residuals = grid - grid.mean(0) - grid.mean(1)[:, None] + grid.mean()
    noise = (residuals**2).sum() / ((3 - 1) * (5 - 1))
    assert [s.error for s in found.values()] == pytest.approx([math.sqrt(noise / 5)] * 3)


def test_the_difficulty_of_folds_is_taken_out() -> None:
    full: list[float | None] = [1.0, 3.0, 8.0]  # the last fold is hard
    table: dict[int, list[float | None]] = {0: full, 1: [x + 0.5 for x in full if x is not None], 2: [0.9, None, None]}
    found = {s.configuration: s for s in standings(results(table))}
    assert found[2].mean == pytest.approx(found[0].mean - 0.1)
    assert found[1].mean == pytest.approx(found[0].mean + 0.5)


def test_the_first_fits_luck_is_the_shift_to_its_own_mean_in_that_fold() -> None:
    table: dict[int, list[float | None]] = {0: [1.0, 2.0, 3.0], 1: [1.0, 2.6, 3.6], 2: [5.0, None, None]}
    found = {s.configuration: s for s in standings(results(table))}
    assert found[2].shift == 0.0
    assert found[1].shift == pytest.approx(0.2)  # it was lucky where the other was not, by 0.6 in one of three folds
    assert found[0].shift == pytest.approx(-0.2)


def test_while_nothing_tells_the_noise_nothing_is_said_of_it() -> None:
    found = standings(results({0: [1.0, None], 1: [0.5, None], 2: [0.7, 0.9]}))
    assert [s.configuration for s in found] == [1, 2, 0]
    assert {(s.error, s.behind, s.best) for s in found} == {(None, None, None)}
    assert standings([]) == []


def test_the_order_of_the_results_and_a_shift_of_all_losses_change_nothing() -> None:
    table = noisy(6, 4)
    for number in (3, 4, 5):
        table[number][1:] = [None] * 3
    given = results(table)
    before = standings(given)
    random.Random(1).shuffle(given)
    assert standings(given) == before
    moved = standings([FitResult(r.configuration, r.cell, r.loss + 100) for r in given])
    assert [s.configuration for s in moved] == [s.configuration for s in before]
    assert [s.behind for s in moved] == pytest.approx([s.behind for s in before], abs=1e-9)
    assert [s.best for s in moved] == pytest.approx([s.best for s in before], abs=1e-9)


def test_the_chances_to_be_the_best_add_up_and_follow_the_order() -> None:
    found = standings(results(noisy(8, 5, noise=0.3)))
    chances = [s.best or 0.0 for s in found]
    assert sum(chances) == pytest.approx(1.0)
    assert chances == sorted(chances, reverse=True)
    alike = standings(results({0: [1.0, 2.0, 3.1], 1: [1.1, 2.0, 3.0], 2: [1.0, 2.1, 3.0]}))
    assert [s.best for s in alike] == pytest.approx([1 / 3] * 3, abs=1e-6)


def test_fits_without_noise_are_told_apart_for_sure() -> None:
    found = standings(results({0: [1.0, 2.0, 3.0], 1: [1.5, 2.5, 3.5], 2: [4.0, None, None]}))
    assert [s.best for s in found] == pytest.approx([1.0, 0.0, 0.0])
    assert [s.behind for s in found] == pytest.approx([1.0, 0.0, 0.0])


def test_who_breaks_a_constraint_comes_after_all_who_keep_them_and_finalists_come_first() -> None:
    given = [FitResult(0, (0, 0), 0.1, violation=1.0), FitResult(1, (0, 0), 0.5), FitResult(2, (0, 0), 0.4)]
    assert [s.configuration for s in standings(given)] == [2, 1, 0]
    assert [s.configuration for s in standings(given, frozenset({1}))] == [1, 2, 0]
