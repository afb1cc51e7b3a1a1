"""The forecast of learning curves: its arithmetic against plain definitions, and that it knows only what was shown."""

from __future__ import annotations

import math
import statistics

import numpy as np
import pytest
from scipy.integrate import quad
from scipy.stats import norm

from service import plugins
from service.spec.objective import Constraint, Objective, Objectives
from service.spec.space import Choice, Integer, Params, Real, Space
from service.tuning.events import (
    AttemptEnded,
    AttemptStarted,
    Checkpoint,
    Event,
    Record,
    Reported,
    TrialEnded,
    TrialProposed,
)
from service.tuning.forecast.choice import chooser, expected_improvement, log_expected_improvement
from service.tuning.forecast.curves import Reader
from service.tuning.forecast.features import Features
from service.tuning.forecast.forecast import Forecaster
from service.tuning.forecast.kernel import Covariance, Points, Prior, evidence
from service.tuning.forecast.process import Belief, Process, chosen, fit
from service.tuning.forecast.scale import Scale, joined
from service.tuning.history import History
from service.tuning.strategy import Problem
from tests.simulator import Curves, Simulation, best_loss

ONE = Objectives((Objective("loss"),))
TWO = Objectives((Objective("loss"), Objective("acc", "maximize")), (Constraint.parse("size <= 2"),))
SPACE = Space(
    {
        "lr": Real(1e-4, 1.0, log=True),
        "depth": Integer(1, 5),
        "width": Choice((8, 64, 16)),
        "kind": Choice(("a", "b", "c")),
        "momentum": Real(0, 1, when={"kind": ("a",)}),
    }
)


def some_points(count: int = 25, dimension: int = 3, seed: int = 0) -> tuple[Points, np.ndarray]:
    rng = np.random.default_rng(seed)
    trial = np.sort(rng.integers(0, count // 3, count))
    points = Points(rng.random((count // 3, dimension)), trial, rng.random(count), np.ones(count) * 2)
    return points, rng.standard_normal(count)


def history_of(curves: list[tuple[Params, list[float], str | None]], objectives: Objectives = ONE) -> History:
    history = History(objectives)
    events: list[Event] = []
    for number, (params, losses, ending) in enumerate(curves):
        events += [TrialProposed(number, params, "searcher", number), AttemptStarted(number, 1, params, None, "new")]
        for epoch, loss in enumerate(losses, 1):
            metrics = {"loss": loss, "acc": 1 - loss, "size": 1.0}
            events.append(Reported(number, 1, epoch, metrics, float(epoch), None, "continue", "", not loss < 1e30))
        if ending is not None:
            events.append(TrialEnded(number, ending))  # type: ignore[arg-type]  # an Ending
    for sequence, event in enumerate(events):
        history.apply(Record(sequence, 1.0 + sequence, event))
    return history


def a_sweep(trials: int = 20, seed: int = 0, objectives: Objectives = ONE) -> History:
    rng = np.random.default_rng(seed)
    curves: list[tuple[Params, list[float], str | None]] = []
    for i in range(trials):
        params = SPACE.sample(rng)
        floor = (math.log10(params["lr"]) + 2) ** 2 + 0.3 * params["depth"]
        curves.append((params, [floor + 2 / e for e in range(1, 2 + i % 9)], "completed" if i % 9 == 8 else "stopped"))
    return history_of(curves, objectives)


def test_gradient_of_the_evidence_is_that_of_its_value() -> None:
    points, target = some_points()
    groups = np.array([0, 0, 1])
    prior = Prior.of(2)
    theta = prior.mean + 0.3 * np.random.default_rng(1).standard_normal(len(prior.mean))
    _, gradient = evidence(theta, groups, points, target, prior)
    for k in range(len(theta)):
        step = np.zeros_like(theta)
        step[k] = 1e-5
        above, below = (evidence(theta + sign * step, groups, points, target, prior)[0] for sign in (1, -1))
        assert gradient[k] == pytest.approx((above - below) / 2e-5, rel=1e-4, abs=1e-5)


def test_more_observations_by_extension_are_the_same_as_all_at_once() -> None:
    points, target = some_points(30)
    groups = np.arange(3)
    theta = fit(points, target, groups)
    whole = Process(theta, groups, points, target)
    part = Process(theta, groups, points.take(np.arange(22)), target[:22]).extended(
        points.take(np.arange(22, 30)), target[22:]
    )
    asked = np.random.default_rng(2).random((5, 3))
    for one, other in ((whole.of_new(asked, 0.7), part.of_new(asked, 0.7)),):
        np.testing.assert_allclose(one.mean, other.mean, atol=1e-8)
        np.testing.assert_allclose(one.variance, other.variance, atol=1e-8)
    np.testing.assert_allclose(whole.means_of_new(asked, 0.7), whole.of_new(asked, 0.7).mean, atol=1e-12)


def test_posterior_is_that_of_the_joint_normal_distribution() -> None:
    points, target = some_points(12)
    theta = Prior.of(3).mean
    covariance = Covariance(theta, np.arange(3))
    process = Process(theta, np.arange(3), points, target)
    known = covariance.between(points, points) + np.diag(covariance.noises(points))
    rows, times = np.array([0, 2]), np.array([1.0, 0.4])
    asked = Points(points.features, rows, times, np.ones(2))
    cross = covariance.between(asked, points)
    belief = process.of_trials(rows, times)
    np.testing.assert_allclose(belief.mean, cross @ np.linalg.solve(known, target), atol=1e-9)
    left = covariance.total - np.einsum("ij,ij->i", cross, np.linalg.solve(known, cross.T).T)
    np.testing.assert_allclose(belief.variance, left, atol=1e-9)


@pytest.mark.parametrize("gap", [3.0, 0.5, 0.0, -0.9, -1.1, -4.0, -20.0, -900.0, -2000.0])
def test_log_expected_improvement_is_the_integral_far_into_the_tail(gap: float) -> None:
    found = log_expected_improvement(Belief(np.array([-gap * 0.5]), np.array([0.25])), 0.0)[0]
    if gap > -30:
        value, _ = quad(lambda t: t * math.exp(gap * t - t * t / 2), 0, 40 if gap < 5 else 60, epsabs=0)
        assert found == pytest.approx(math.log(0.5 * value) + norm.logpdf(gap), abs=1e-6)
    else:
        assert found == pytest.approx(
            math.log(0.5) - 0.5 * gap**2 - math.log(math.sqrt(2 * math.pi) * gap**2), abs=1e-4
        )


def test_rows_of_configurations_measure_distance_as_the_parameters_do() -> None:
    features = Features(SPACE)
    a = {"lr": 0.01, "depth": 2, "width": 8, "kind": "a", "momentum": 0.5}
    other_kind = {"lr": 0.01, "depth": 2, "width": 8, "kind": "b"}
    wider, widest = {**a, "width": 16}, {**a, "width": 64}
    rows = features.of(np.array([SPACE.to_unit(p) for p in (a, other_kind, wider, widest)]))
    assert len(features.groups) == rows.shape[1]
    gap = np.linalg.norm(rows[:, None] - rows[None], axis=2)
    assert gap[0, 1] == pytest.approx(1.0)
    assert gap[0, 2] == pytest.approx(0.5)
    assert gap[0, 3] == pytest.approx(1.0)


def test_candidates_are_read_as_the_space_reads_them() -> None:
    rng = np.random.default_rng(0)
    for space in (SPACE, Space({"lr": Real(1e-4, 1.0, log=True), "depth": Integer(1, 5), "kind": Choice(("a", "b"))})):
        features = Features(space)
        units = rng.random((50, space.dimension))
        near = features.neighbours(units, 50, rng)
        assert near.min() >= 0
        assert near.max() <= 1
        for unit in features.canonical(np.concatenate([units, near])):
            np.testing.assert_allclose(space.to_unit(features.params(unit)), unit, atol=1e-9)


def test_scale_keeps_the_order_and_comes_back() -> None:
    losses = np.array([3.0, 0.1, 0.2, 0.5, 7.0, math.inf])
    scale = Scale(losses)
    scaled = scale(losses)
    assert np.isfinite(scaled).all()
    assert list(np.argsort(scaled[:4])) == list(np.argsort(losses[:4]))
    better = np.array([-1.0, 0.0, 0.3, 1.0])
    np.testing.assert_allclose(scale.inverse(scale(better)), better, atol=1e-9)


def test_infeasible_and_broken_rows_come_after_all_feasible_ones() -> None:
    losses = np.array([[1.0, 0.0], [5.0, 0.0], [0.1, 2.0], [0.1, 9.0], [math.inf, math.inf]])
    found = joined(losses, np.ones(1))
    assert list(np.argsort(found)) == [0, 1, 2, 3, 4]
    assert math.isinf(found[4])


def test_only_what_was_shown_by_then_counts() -> None:
    reader = Reader(SPACE, ONE, 9)
    early, late = a_sweep(10), a_sweep(30)
    count = len(early.observed)
    assert late.observed[:count] == early.observed
    a, b = reader.read_first(early, count), reader.read_first(late, count)
    np.testing.assert_array_equal(a.losses, b.losses)
    assert a.numbers == b.numbers == list(range(10))


def test_what_was_known_then_has_the_values_of_then() -> None:
    before, after = ({"lr": lr, "depth": 1, "width": 8, "kind": "b"} for lr in (0.1, 0.2))
    history = history_of([(before, [3.0, 2.0], None)])
    reader = Reader(SPACE, ONE, 9)
    known = reader.read_first(history, 2)
    history.apply(Record(99, 99.0, AttemptEnded(0, 1, "paused")))
    history.apply(Record(100, 100.0, AttemptStarted(0, 2, after, Checkpoint("a", 2, 1, ""), "goes on")))
    history.apply(Record(101, 101.0, Reported(0, 2, 3, {"loss": 1.0}, 3.0, None, "continue", "")))
    for again in (reader, Reader(SPACE, ONE, 9)):
        np.testing.assert_array_equal(again.read_first(history, 2).units, known.units)
        np.testing.assert_array_equal(again.read(history).units, [SPACE.to_unit(after)])


def test_a_trial_that_broke_is_bad_and_told_once() -> None:
    params = SPACE.sample(np.random.default_rng(0))
    history = history_of([(params, [1.0, 0.9, 1e30], "diverged"), (params, [], "failed"), (params, [0.5, 0.4], None)])
    table = Reader(SPACE, ONE, 9).read(history)
    bad = [int(trial) for trial, loss in zip(table.trial, table.losses[:, 0], strict=True) if math.isinf(loss)]
    assert bad == [0, 1]
    assert table.numbers == [0, 1, 2]


def test_few_observations_of_each_trial_are_left_out_first() -> None:
    points, target = some_points(60)
    kept = chosen(points, target, 30)
    assert len(kept) == 30
    last = np.flatnonzero(np.append(points.trial[1:] != points.trial[:-1], True))
    assert set(last.tolist()) <= set(kept.tolist())


@pytest.mark.parametrize("objectives", [ONE, TWO], ids=["one", "several"])
def test_a_choice_is_a_function_of_the_history(objectives: Objectives) -> None:
    problem = Problem(SPACE, objectives, (1, 3, 9), 5)
    first, again = a_sweep(objectives=objectives), a_sweep(objectives=objectives)
    chooser(problem, first).choose(a_sweep(12, objectives=objectives))  # what it saw before leaves no trace
    found = chooser(problem, first).choose(first)
    assert found is not None
    assert found == chooser(problem, again).choose(again)
    assert found.params is not None
    assert SPACE.problems(found.params) == []


def test_the_forecast_follows_the_curves_and_what_is_known_of_the_space() -> None:
    problem = Problem(SPACE, ONE, (1, 3, 9), 0)
    history = a_sweep(36)
    source = Forecaster(problem)
    state = source.state(history)
    assert state is not None
    expected = state.scale.inverse(state.finals(state.table.numbers).mean)
    truth = [t.curve[1].losses[0] - 2 + 2 / 9 for t in history.trials]
    order = np.argsort(truth)[: len(truth) // 2]
    assert np.corrcoef(expected[order], np.array(truth)[order])[0, 1] > 0.95


def test_bayes_with_adaptive_needs_less_training_than_random_search_with_asha() -> None:
    space = Space({"lr": Real(1e-4, 1.0, log=True), "width": Integer(8, 512, log=True), "kind": Choice(("a", "b"))})

    def metrics(params: Params, epoch: int) -> dict[str, float]:
        speed, floor = 0.3 + params["lr"] ** 0.5, (math.log10(params["lr"]) + 2) ** 2 + 8 / params["width"] ** 0.5
        return {"loss": floor + (params["kind"] == "b") * 0.3 + 2 * math.exp(-speed * epoch)}

    def found(searcher: str, scheduler: str, seed: int) -> float:
        search, schedule = plugins.find("searchers", searcher), plugins.find("schedulers", scheduler)
        options = schedule.Options(max_epochs=27)
        problem = Problem(space, ONE, tuple(schedule.rungs(options)), seed)
        parts = search.build(search.Options(), problem), schedule.build(options, problem), Curves(metrics)
        simulation = Simulation(ONE, *parts, workers=3, max_trials=None, wall_clock_s=60)
        return float(best_loss(simulation.run()) - 8 / 512**0.5)

    ours, theirs = ([found(*names, seed) for seed in range(5)] for names in (("bayes", "adaptive"), ("random", "asha")))
    assert statistics.median(ours) < 0.5 * statistics.median(theirs)


def test_expected_improvement_shrinks_as_the_best_gets_better() -> None:
    problem = Problem(SPACE, ONE, (1, 3, 9), 0)
    few, many = expected_improvement(problem, a_sweep(12)), expected_improvement(problem, a_sweep(60))
    assert few is not None
    assert many is not None
    assert 0 <= many < few
    assert expected_improvement(problem, history_of([])) is None
