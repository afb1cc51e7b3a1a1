"""Trials that are certain to break a constraint end early, and none that would have kept it, whatever the scheduler."""

from __future__ import annotations

import math
import random
from typing import Any

import pytest

from service.spec.objective import Constraint, Objective, Objectives
from service.spec.space import Params
from service.tuning.events import AttemptStarted, Record, Reported, TrialEnded, TrialProposed
from service.tuning.feasibility import certain_violation
from service.tuning.history import History, Status
from tests.scheduling import built, shuffled, simulated
from tests.simulator import Curves

LIMIT = Constraint.parse("latency_ms <= 20")
GOALS = Objectives((Objective("loss"),), (LIMIT,))


def history_of(curves: list[list[float]], complete: int, objectives: Objectives = GOALS) -> History:
    """Trials that reported these values of the limited metric; the first `complete` were trained to the end."""
    events: list[Any] = []
    name = objectives.constraints[0].metric
    for number, curve in enumerate(curves):
        events += [TrialProposed(number, {}, "searcher", number), AttemptStarted(number, 1, {}, None, "new")]
        events += [
            Reported(number, 1, epoch, {"loss": 1.0, name: value}, float(epoch), None, "continue", "")
            for epoch, value in enumerate(curve, 1)
        ]
        events += [TrialEnded(number, "completed")] if number < complete else []
    return History.of(objectives, [Record(i, float(i), event) for i, event in enumerate(events)])


def test_what_never_moves_is_certain_after_one_report() -> None:
    reason = certain_violation(history_of([[18.0] * 5, [9.0] * 5, [30.0] * 3, [20.1]], 2), 3, 1)
    assert reason is not None
    assert "latency_ms <= 20" in reason
    assert "20.1" in reason


@pytest.mark.parametrize(
    ("curves", "complete"),
    [
        ([[18.0] * 5, [30.0] * 3, [20.1]], 2),  # two others are not enough
        ([[18.0] * 5, [9.0] * 5, [30.0] * 3, [20.1]], 1),  # nobody has seen the end
        ([[18.0] * 5, [9.0] * 5, [30.0, 30.6, 30.0], [20.3]], 2),  # within twice of what it has moved by
        ([[18.0] * 5, [9.0] * 5, [30.0, 15.0, 15.0], [90.0]], 2),  # it moves, and few have been trained to the end
        ([[18.0] * 5, [9.0] * 5, [30.0] * 3, [math.inf]], 2),  # not a number: nothing is known
        ([[18.0] * 5, [9.0] * 5, [math.nan] * 3, [90.0]], 2),
    ],
)
def test_anything_less_is_open(curves: list[list[float]], complete: int) -> None:
    assert certain_violation(history_of(curves, complete), len(curves) - 1, 1) is None


def test_an_epoch_that_kept_the_limit_may_count_whatever_comes_later() -> None:
    history = history_of([[18.0] * 5, [9.0] * 5, [30.0] * 3, [19.9, 25.0]], 2)
    assert certain_violation(history, 3, 2) is None


def test_of_what_moves_the_complete_trials_tell_how_far() -> None:
    complete = [[30.0 + i, 28.0 + i, 22.0 + i] for i in range(12)]  # comes back by 8, at most 27 %
    assert certain_violation(history_of([*complete, [60.0]], 12), 12, 1) is not None
    assert certain_violation(history_of([*complete, [35.0]], 12), 12, 1) is None, "twice 8 is more than it needs"
    assert certain_violation(history_of([*complete, [40.0]], 12), 12, 1) is None, "far in units, not in proportion"
    assert certain_violation(history_of([*complete, [60.0]], 9), 12, 1) is None, "nine are too few"
    at_least = Objectives((Objective("loss"),), (Constraint.parse("recall >= 0.9"),))
    rising = [[0.5, 0.55, 0.6 + i / 100] for i in range(12)]
    assert certain_violation(history_of([*rising, [0.2]], 12, at_least), 12, 1) is not None
    assert certain_violation(history_of([*rising, [0.7]], 12, at_least), 12, 1) is None


def limited(kind: str, seed: int) -> Curves:
    """Trials whose metric `m` is a property of theirs, a noisy one, one that falls, or one that falls late."""
    rng = random.Random(seed)
    own = [(rng.uniform(0.5, 1.5), rng.uniform(1, 12), rng.uniform(0.2, 3)) for _ in range(1000)]

    def metrics(params: Params, epoch: int) -> dict[str, float]:
        end, pace, extra = own[int(params["q"] * 997)]
        noise = random.Random(f"{seed} {params['q']} {epoch}").gauss(0, 0.01)
        value = {
            "steady": end,
            "noisy": end * (1 + noise),
            "falling": end + extra * math.exp(-epoch / pace) + 0.1 * noise,
            "late": end + (extra if epoch < 14 else 0.0),
        }[kind]
        return {"loss": params["q"] + math.exp(-epoch / 5), "m": value}

    return Curves(metrics)


@pytest.mark.parametrize("kind", ["steady", "noisy", "falling", "late"])
@pytest.mark.parametrize("scheduler", ["fifo", "asha", "hyperband", "pbt"])
def test_no_trial_that_would_keep_its_limit_is_stopped_for_it(scheduler: str, kind: str) -> None:
    objectives = Objectives((Objective("loss"),), (Constraint.parse("m <= 1"),))
    saved = 0
    for seed in range(2):
        task = limited(kind, seed)
        options = {"interval_epochs": 9} if scheduler == "pbt" else {}
        simulation = simulated(
            built(scheduler, options, objectives), shuffled(40, seed), objectives=objectives, task=task
        )
        history = simulation.run()
        assert history.counts[Status.COMPLETED] >= 1
        for trial in history.trials:
            if "certain to break" in trial.cause:
                whole = [task.metrics(trial.params, epoch)["m"] for epoch in range(1, 28)]
                assert min(whole) > 1, f"trial {trial.number} would have kept its limit"
                saved += 27 - trial.epoch
    if scheduler == "fifo" and kind in ("steady", "noisy"):
        assert saved > 200
    if getattr(built(scheduler, {}), "changes_params", False):
        assert saved == 0, "with other parameters a trial may keep its limits yet"
