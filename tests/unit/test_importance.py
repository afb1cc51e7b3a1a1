"""Importance is checked on functions whose answer is known: what dominates, what does nothing, what depends."""

from __future__ import annotations

import math
import time

import numpy as np
import pytest

from service.tuning.importance import Column, Importance, importances, standings


def _known(n: int = 150, seed: int = 0) -> tuple[list[Column], np.ndarray[tuple[int], np.dtype[np.float64]]]:
    """Loss = 9 (x - 0.3)^2 + choice + nothing; a conditional parameter matters only where the choice is 1."""
    rng = np.random.default_rng(seed)
    x, null = rng.random(n), rng.random(n)
    choice = rng.integers(0, 3, n).astype(float)
    child = np.where(choice == 1, rng.random(n), np.nan)
    loss = 9 * (x - 0.3) ** 2 + 0.4 * (choice == 2) + np.where(choice == 1, 1.5 * child, 0.0) + rng.normal(0, 0.05, n)
    columns = [
        Column("null", null.tolist()),
        Column("dominant", x.tolist()),
        Column("choice", choice.tolist(), is_choice=True),
        Column("child", child.tolist()),
    ]
    return columns, standings([{1: float(value)} for value in loss])


@pytest.mark.parametrize("seed", range(5))
def test_the_dominant_parameter_leads_and_a_null_one_gets_nothing(seed: int) -> None:
    found = importances(*_known(seed=seed))
    shares = {item.name: item.share for item in found}
    assert found[0].name == "dominant"
    assert shares["dominant"] > 0.5
    assert shares["null"] < 0.03
    assert shares["dominant"] > 3 * max(shares["choice"], shares["child"])


def test_shares_lie_inside_their_intervals() -> None:
    for item in importances(*_known()):
        assert 0 <= item.low <= item.share <= item.high <= 1


def test_a_conditional_parameter_counts_only_where_it_is_active() -> None:
    rng = np.random.default_rng(1)
    parent = rng.integers(0, 2, 200).astype(float)
    child = np.where(parent == 1, rng.random(200), np.nan)
    loss = 5 * parent + rng.normal(0, 0.1, 200)  # the parent decides all, the child nothing
    columns = [Column("parent", parent.tolist(), is_choice=True), Column("child", child.tolist())]
    shares = {i.name: i for i in importances(columns, standings([{1: float(v)} for v in loss]))}
    assert shares["parent"].share > 0.7
    assert shares["child"].share < 0.03
    assert shares["child"].trials == int(parent.sum())


def test_a_dominant_conditional_parameter_is_seen() -> None:
    rng = np.random.default_rng(2)
    parent = rng.integers(0, 2, 200).astype(float)
    child = np.where(parent == 1, rng.random(200), np.nan)
    loss = np.where(parent == 1, child, 0.5) + rng.normal(0, 0.01, 200)
    columns = [Column("parent", parent.tolist(), is_choice=True), Column("child", child.tolist())]
    found = importances(columns, standings([{1: float(v)} for v in loss]))
    assert found[0].name == "child"
    assert found[0].share > 0.5


def test_few_trials_give_no_answer() -> None:
    columns, standing = _known(n=7)
    assert importances(columns, standing) == []


def test_a_constant_column_has_no_importance() -> None:
    _, standing = _known(n=30)
    assert importances([Column("same", [0.5] * 30)], standing) == [Importance("same", 0.0, 0.0, 0.0, 30)]


def test_the_same_trials_give_the_same_answer() -> None:
    columns, standing = _known()
    assert importances(columns, standing) == importances(columns, standing)


def test_a_thousand_trials_of_twenty_parameters_take_seconds() -> None:
    rng = np.random.default_rng(0)
    columns = [Column(f"p{i}", rng.random(2000).tolist()) for i in range(20)]
    start = time.process_time()
    assert len(importances(columns, rng.random(2000))) == 20
    assert time.process_time() - start < 20


def test_standings_compare_each_pair_at_the_highest_epoch_that_both_reached() -> None:
    late_bloomer = {1: 0.9, 3: 0.2}
    early_star = {1: 0.5, 3: 0.4}
    stopped = {1: 0.8}
    standing = standings([late_bloomer, early_star, stopped])
    assert standing.tolist() == [0.5, 0.5, 0.5]  # a circle: each beats one


def test_an_early_value_is_not_held_against_final_ones() -> None:
    slow_start_good_end = [{1: 0.9, 9: 0.1}, {1: 0.8, 9: 0.2}]
    fast_start_stopped = [{1: 1.0}, {1: 1.1}]  # at epoch 1 they are behind both
    standing = standings([*slow_start_good_end, *fast_start_stopped])
    assert list(np.argsort(-standing)) == [0, 1, 2, 3]


def test_diverged_trials_lose_against_all_and_silent_ones_are_left_out() -> None:
    standing = standings([{1: 0.5}, {1: math.inf}, {}, {1: math.nan}])
    assert standing[0] == 1.0
    assert standing[1] == standing[3] == 0.25  # a tie between the two that diverged
    assert math.isnan(standing[2])
