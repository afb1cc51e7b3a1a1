"""Importance is checked on functions whose answer is known: what dominates, what does nothing, what depends."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable

import numpy as np
import pytest

from service.tuning.importance import NOTHING, Importance, Understanding
from service.tuning.importance_basis import Column, Floats
from service.tuning.importance_stages import orders


def _order(losses: Floats) -> list[Floats]:
    return orders([{1: float(value)} for value in losses], [1])[0]


def _columns(places: Floats) -> list[Column]:
    return [Column(f"p{i}", places[:, i].tolist()) for i in range(places.shape[1])]


def _of(known: Understanding) -> dict[str, Importance]:
    return {item.name: item for item in known.parameters}


def _known(n: int = 150, seed: int = 0) -> tuple[list[Column], list[Floats]]:
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
        Column("child", child.tolist(), when={"choice": (1.0,)}),
    ]
    return columns, _order(loss)


@pytest.mark.parametrize("seed", range(5))
def test_the_dominant_parameter_leads_and_a_null_one_gets_nothing(seed: int) -> None:
    known = Understanding(*_known(seed=seed))
    found = _of(known)
    assert known.parameters[0].name == "dominant"
    assert found["dominant"].main.share > 0.5
    assert found["null"].total.share < 0.02
    assert found["null"].total.low < 0.01
    assert found["dominant"].main.share > 3 * max(found["choice"].main.share, found["child"].main.share)


def test_shares_lie_inside_their_intervals_and_sum_to_what_is_explained() -> None:
    known = Understanding(*_known())
    for item in known.parameters:
        for share in (item.main, item.total):
            assert 0 <= share.low <= share.share <= share.high <= 1
    assert sum(item.main.share for item in known.parameters) <= known.explained.high + 0.05


@pytest.mark.parametrize("n", [60, 400])
def test_an_additive_function_is_split_as_it_is_made(n: int) -> None:
    rng = np.random.default_rng(n)
    x = rng.random((n, 5))
    value = 2 * x[:, 0] + x[:, 1] + rng.normal(0, 0.2, n)
    known = Understanding(_columns(x), [value], seed=1)
    total = 4 / 12 + 1 / 12 + 0.04
    found = _of(known)
    assert found["p0"].main.low - 0.03 <= 4 / 12 / total <= found["p0"].main.high + 0.03
    assert found["p1"].main.low - 0.03 <= 1 / 12 / total <= found["p1"].main.high + 0.03
    assert max(found[name].total.share for name in ("p2", "p3", "p4")) < 0.03
    assert known.explained.share == pytest.approx(1 - 0.04 / total, abs=0.05)
    assert known.interactions == []


def test_a_pure_interaction_has_no_main_effects() -> None:
    rng = np.random.default_rng(3)
    x = rng.random((120, 5))
    known = Understanding(_columns(x), [(x[:, 1] - 0.5) * (x[:, 3] - 0.5) + rng.normal(0, 0.01, 120)])
    found = _of(known)
    assert [pair.names for pair in known.interactions] == [("p1", "p3")]
    assert known.interactions[0].share.share > 0.85
    for name in ("p1", "p3"):
        assert found[name].main.share < 0.05
        assert found[name].total.share > 0.85
    assert found["p0"].total.share < 0.02


def test_noise_has_no_importance_and_rarely_an_interaction() -> None:
    shown = 0
    for seed in range(12):
        rng = np.random.default_rng(seed)
        known = Understanding(_columns(rng.random((60, 6))), [rng.normal(size=60)], seed=seed)
        shown += bool(known.interactions)
        assert known.explained.low < 0.1
        assert known.parameters[0].total.low < 0.1
    assert shown <= 3  # one in twenty is expected


def test_intervals_hold_the_truth_about_as_often_as_they_say() -> None:
    hits = []
    for seed in range(20):
        rng = np.random.default_rng(100 + seed)
        half = rng.random((40, 4))
        near = np.clip(np.array([0.6, 0.8, 0.8, 0.8]) + 0.12 * rng.normal(size=(40, 4)), 0, 1)  # as a searcher goes
        x = np.concatenate([half, near])
        value = 1.2 * np.sin(3 * x[:, 0]) + x[:, 1] ** 2 + rng.normal(0, 0.3, 80)
        even = (np.arange(4000) + 0.5) / 4000
        parts = [float(np.var(1.2 * np.sin(3 * even))), float(np.var(even**2))]
        found = _of(Understanding(_columns(x), [value], seed=seed))
        for name, part in zip(("p0", "p1"), parts, strict=True):
            hits.append(found[name].main.low <= part / (sum(parts) + 0.09) <= found[name].main.high)
    assert sum(hits) >= 0.75 * len(hits)  # 90 % is meant


def test_a_conditional_parameter_counts_only_where_it_is_active() -> None:
    rng = np.random.default_rng(1)
    parent = rng.integers(0, 2, 200).astype(float)
    child = np.where(parent == 1, rng.random(200), np.nan)
    loss = 5 * parent + rng.normal(0, 0.1, 200)  # the parent decides all, the child nothing
    columns = [
        Column("parent", parent.tolist(), is_choice=True),
        Column("child", child.tolist(), when={"parent": (1.0,)}),
    ]
    found = _of(Understanding(columns, _order(loss)))
    assert found["parent"].main.share > 0.6
    assert found["child"].total.share < 0.03
    assert found["child"].trials == int(parent.sum())


def test_a_conditional_parameter_has_the_share_of_where_it_is_active() -> None:
    rng = np.random.default_rng(2)
    parent = rng.integers(0, 4, 300).astype(float)
    child = np.where(parent == 1, rng.random(300), np.nan)
    value = np.where(parent == 1, 2 * child, 1.0) + rng.normal(0, 0.1, 300)  # the parent's mean effect is nothing
    columns = [
        Column("parent", parent.tolist(), is_choice=True),
        Column("child", child.tolist(), when={"parent": (1.0,)}),
    ]
    known = Understanding(columns, [value])
    found = _of(known)
    truth = (4 / 12 / 4) / (4 / 12 / 4 + 0.01)  # active in a quarter of the space
    assert found["child"].main.share == pytest.approx(truth, abs=0.08)
    assert found["parent"].total.share < 0.05
    assert known.interactions == []  # with its one parent value it varies with nothing
    curve = known.curve("child")
    assert curve[0][1].share == pytest.approx(0.0, abs=0.2)  # over where it is active, not over the whole space
    assert curve[-1][1].share == pytest.approx(2.0, abs=0.2)


def test_a_chain_of_conditions_multiplies() -> None:
    rng = np.random.default_rng(4)
    top = rng.integers(0, 2, 400).astype(float)
    middle = np.where(top == 1, rng.integers(0, 2, 400), np.nan)
    low = np.where(middle == 1, rng.random(400), np.nan)
    value = np.where(np.isnan(low), 0.0, 4 * (np.nan_to_num(low) - 0.5)) + rng.normal(0, 0.2, 400)
    columns = [
        Column("low", low.tolist(), when={"middle": (1.0,)}),
        Column("middle", middle.tolist(), is_choice=True, when={"top": (1.0,)}),
        Column("top", top.tolist(), is_choice=True),
    ]
    found = _of(Understanding(columns, [value]))
    assert found["low"].main.share == pytest.approx((16 / 12 / 4) / (16 / 12 / 4 + 0.04), abs=0.08)


@pytest.mark.parametrize("n", [0, 1, 7])
def test_few_trials_give_no_answer(n: int) -> None:
    known = Understanding(*_known(n=n))
    assert not known.is_known
    assert known.parameters == []
    assert known.interactions == []
    assert known.explained == NOTHING


def test_columns_without_variation_have_no_importance() -> None:
    _, order = _known(n=30)
    columns = [Column("same", [0.5] * 30), Column("never", [math.nan] * 30), Column("one", [0.2] * 30, is_choice=True)]
    known = Understanding(columns, order)
    assert [(p.name, p.total, p.trials) for p in known.parameters] == [
        ("never", NOTHING, 0),
        ("one", NOTHING, 30),
        ("same", NOTHING, 30),
    ]
    assert known.curve("same") == []


def test_trials_that_are_all_alike_teach_nothing() -> None:
    columns, _ = _known(n=40)
    known = Understanding(columns, _order(np.ones(40)))
    assert all(item.total == NOTHING for item in known.parameters)


def test_the_same_trials_give_the_same_answer_and_the_seed_hardly_matters() -> None:
    columns, order = _known()
    first, again, other = (Understanding(columns, order, seed=seed) for seed in (0, 0, 1))
    assert first.parameters == again.parameters
    assert first.curve("dominant") == again.curve("dominant")
    assert _of(first)["dominant"].main.share == pytest.approx(_of(other)["dominant"].main.share, abs=0.03)


def test_thousands_of_trials_and_choices_with_many_values_are_sampled() -> None:
    rng = np.random.default_rng(0)
    places = rng.random((2500, 20))
    columns = [*_columns(places), Column("many", rng.integers(0, 60, 2500).astype(float).tolist(), is_choice=True)]
    known = Understanding(columns, [places[:, 3] + 0.1 * rng.normal(size=2500)])
    assert known.trials == 1000
    assert known.parameters[0].name == "p3"
    assert len(known.parameters) == 21


def test_a_curve_follows_the_function_and_a_surface_its_interaction() -> None:
    rng = np.random.default_rng(5)
    x = rng.random((200, 3))
    value = np.sin(3 * x[:, 0]) + 4 * (x[:, 1] - 0.5) * (x[:, 2] - 0.5) + rng.normal(0, 0.05, 200)
    known = Understanding(_columns(x), [value])
    for place, at in known.curve("p0"):
        assert at.low <= at.share <= at.high
        assert at.share == pytest.approx(math.sin(3 * place), abs=0.12)
    first, second, mean = known.surface(known.interactions[0].names)
    offset = float(np.mean(np.sin(3 * (np.arange(1000) + 0.5) / 1000)))
    for (i, u), (j, v) in itertools.product(enumerate(first), enumerate(second)):
        assert mean[i][j] == pytest.approx(offset + 4 * (u - 0.5) * (v - 0.5), abs=0.25)


def test_what_early_stopping_hid_is_found_by_the_stages() -> None:
    """At epoch 1 only `early` shows; in the end `late` decides, of which those stopped at epoch 1 never told."""
    rng = np.random.default_rng(6)
    n = 240
    early, late, null = rng.random((3, n))
    first = early + rng.normal(0, 0.1, n)
    final = 0.5 * first + 1.5 * late + rng.normal(0, 0.1, n)
    goes_on = first <= np.quantile(first, 1 / 3)
    curves = [{1: 10 + f, **({9: g} if on else {})} for f, g, on in zip(first, final, goes_on, strict=True)]
    columns = [Column("early", early.tolist()), Column("late", late.tolist()), Column("null", null.tolist())]
    stages, epoch = orders(curves, [1, 3, 9])
    known = Understanding(columns, stages)
    assert (epoch, len(stages)) == (9, 2)
    assert [item.name for item in known.parameters] == ["late", "early", "null"]
    parts = {"early": 0.25 / 12, "late": 2.25 / 12}
    total = sum(parts.values()) + 0.25 * 0.01 + 0.01
    assert _of(known)["late"].main.share == pytest.approx(parts["late"] / total, abs=0.1)
    alone = Understanding(columns, stages[:1])
    assert _of(alone)["late"].main.share < 0.05


def test_orders_hold_only_those_that_came_so_far() -> None:
    curves = [{1: 0.9, 3: 0.2}] * 20 + [{1: 0.5}] * 5 + [{1: 0.7, 2: math.inf}, {}]
    stages, epoch = orders(curves, [1, 3, 9])
    assert epoch == 3
    assert [int(np.isfinite(stage).sum()) for stage in stages] == [26, 21]
    assert stages[0][20] > stages[0][25] > stages[0][0]
    assert stages[1][25] == stages[1][:26][np.isfinite(stages[1][:26])].min()  # it broke on the way


def test_too_few_at_a_later_epoch_are_no_stage() -> None:
    stages, epoch = orders([{1: i, 3: i} for i in range(19)] + [{1: 0.5}] * 11, [1, 3])
    assert (len(stages), epoch) == (1, 1)


def test_without_early_stopping_there_is_one_order() -> None:
    stages, epoch = orders([{1: 100 - i, 3: i} for i in range(25)], [1, 3])
    assert (len(stages), epoch) == (1, 3)
    assert stages[0].argmax() == 0


FUNCTIONS: dict[str, Callable[[Floats], Floats]] = {
    "additive": lambda x: 3 * x[:, 0] + x[:, 1],
    "wave": lambda x: np.sin(6 * x[:, 2]) + 0.5 * x[:, 0],
    "cliff": lambda x: np.where(x[:, 1] > 0.7, 2.0, 0.0) + (x[:, 3] - 0.5) ** 2,
}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_optuna_sees_the_same_order(name: str) -> None:
    optuna = pytest.importorskip("optuna")
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    rng = np.random.default_rng(7)
    x = rng.random((150, 4))
    value = FUNCTIONS[name](x) + rng.normal(0, 0.05, 150)
    scales = {f"p{i}": optuna.distributions.FloatDistribution(0, 1) for i in range(4)}
    study = optuna.create_study()
    for row, seen in zip(x, value, strict=True):
        params = {f"p{i}": float(row[i]) for i in range(4)}
        study.add_trial(optuna.trial.create_trial(params=params, distributions=scales, value=float(seen)))
    theirs = optuna.importance.FanovaImportanceEvaluator(n_trees=32, seed=0).evaluate(study)
    ours = {item.name: item.main.share for item in Understanding(_columns(x), [value]).parameters}
    leading = [key for key, share in theirs.items() if share > 0.1]
    assert sorted(ours, key=lambda key: -ours[key])[: len(leading)] == sorted(leading, key=lambda key: -theirs[key])
    for key, share in theirs.items():
        assert ours[key] == pytest.approx(share / sum(theirs.values()), abs=0.15)
