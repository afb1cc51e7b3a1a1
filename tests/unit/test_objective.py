"""What makes observations comparable: goals, limits, and what counts before what."""

from __future__ import annotations

import math

import pytest

from service.spec.objective import DIVERGED_LOSS, Constraint, Objective, Objectives, Observation

ONE = Objectives((Objective("loss"),))
TWO = Objectives((Objective("loss"), Objective("acc", "maximize")))


def test_one_objective_scores_by_its_own_loss() -> None:
    assert ONE.scores([Observation((3.0,)), Observation((-1.0,))]) == [3.0, -1.0]


@pytest.mark.parametrize("objectives", [ONE, TWO])
def test_a_broken_limit_ranks_behind_everything_that_keeps_it_and_divergence_behind_all(objectives: Objectives) -> None:
    size = len(objectives.objectives)
    observations = [
        Observation((math.inf,) * size),
        Observation((-5.0,) * size, violation=2.0),
        Observation((-5.0,) * size, violation=1.0),
        Observation((7.0,) * size),
        Observation((DIVERGED_LOSS,) * size),
    ]
    scores = objectives.scores(observations)
    assert sorted(range(5), key=lambda i: (scores[i], i)) == [3, 2, 1, 0, 4]
    assert scores[0] == scores[4] == math.inf


def test_a_diverged_point_does_not_push_others_back() -> None:
    good = [Observation((1.0, 2.0)), Observation((2.0, 1.0)), Observation((3.0, 3.0))]
    assert TWO.scores([*good, Observation((0.0, -math.inf))])[:3] == TWO.scores(good)


def test_the_goal_flips_the_sign_in_one_place() -> None:
    goal = Objective("acc", "maximize", target=0.9)
    assert goal.loss(0.8) == -0.8
    assert goal.value(goal.loss(0.8)) == 0.8
    assert goal.loss(math.nan) == math.inf
    assert goal.reached(0.9)
    assert not goal.reached(0.89)


def test_a_constraint_says_by_how_much_it_is_broken() -> None:
    limit = Constraint.parse("latency_ms <= 20")
    assert (limit.violation(19), limit.violation(23.5), limit.violation(math.nan)) == (0, 3.5, math.inf)
    assert Constraint.parse("acc >= 0.5").violation(0.25) == 0.25
    assert str(limit) == "latency_ms <= 20"


@pytest.mark.parametrize("text", ["latency 20", "latency <= x", "latency < 20", "latency <= inf", ""])
def test_what_is_no_constraint_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"constraint|limit|could not convert"):
        Constraint.parse(text)


def test_a_sweep_reaches_its_target_only_within_its_limits() -> None:
    objectives = Objectives((Objective("acc", "maximize", target=0.9),), (Constraint("latency", "<=", 1.0),))
    assert objectives.metrics == ("acc", "latency")
    assert objectives.reached({"acc": 0.95, "latency": 1.0})
    assert not objectives.reached({"acc": 0.95, "latency": 1.1})
    assert not ONE.reached({"loss": -1e9})
