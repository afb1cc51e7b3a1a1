"""From a sweep file to its parts: the user's own values as the first trial, and the epochs that are saved."""

from __future__ import annotations

from pathlib import Path

import pytest

from service.spec.objective import Observation
from service.spec.sweep_spec import SweepSpec, parse_sweep
from service.tuning.assembly import build, checkpoint_epochs, first_points
from service.tuning.history import History
from service.tuning.strategy import PastSweep, PastTrial

SWEEP = """
name: small
fit: {model: {class_path: net.Net, init_args: {width: 4}}, trainer: {max_epochs: 9}}
metric: {name: val_loss, goal: minimize}
parameters:
  model.init_args.width: {min: 1, max: 8}
  model.init_args.rate: {min: 0.1, max: 1.0}
  trainer.gradient_clip_val: 1.0
search: {name: random}
budget: {max_trials: 3}
"""


def spec(*overrides: str) -> SweepSpec:
    return parse_sweep(SWEEP, file="sweep.yaml", root=Path(), overrides=overrides)


def test_the_users_own_values_come_first_with_those_of_the_signatures_and_constants() -> None:
    points, warnings = first_points(spec(), {"model.init_args.rate": 0.5})
    expected = {"model.init_args.width": 4, "model.init_args.rate": 0.5, "trainer.gradient_clip_val": 1.0}
    assert points == [("defaults", expected)]
    assert warnings == ()


@pytest.mark.parametrize(
    ("defaults", "reason"),
    [({}, "model.init_args.rate has no default"), ({"model.init_args.rate": 7.0}, "model.init_args.rate")],
)
def test_defaults_that_are_no_point_of_the_space_are_left_out_with_the_reason(
    defaults: dict[str, float], reason: str
) -> None:
    points, warnings = first_points(spec(), defaults)
    assert points == []
    assert reason in warnings[0]


def test_defaults_can_be_left_out_and_start_points_follow() -> None:
    asked = spec(
        "search.start_from_defaults=false",
        "search.start_points=[{model.init_args.width: 2, model.init_args.rate: 0.2, trainer.gradient_clip_val: 1.0}]",
    )
    points, _ = first_points(asked, {"model.init_args.rate": 0.5})
    assert [(source, point["model.init_args.width"]) for source, point in points] == [("start_point", 2)]


@pytest.mark.parametrize(
    ("rungs", "every", "expected"),
    [
        ((1, 3, 9), None, (1, 3, 9)),
        ((1, 3, 9), 4, (1, 3, 4, 8, 9)),
        ((30,), None, tuple(range(3, 31, 3))),
        ((5,), 2, (2, 4, 5)),
    ],
)
def test_rungs_are_saved_and_long_trials_without_rungs_now_and_then(
    rungs: tuple[int, ...], every: int | None, expected: tuple[int, ...]
) -> None:
    assert checkpoint_epochs(rungs, every) == expected


def test_after_an_earlier_sweep_of_the_same_seed_other_points_are_drawn() -> None:
    asked, past = spec(), PastSweep("old", (PastTrial({"model.init_args.width": 2}, {1: Observation((0.5,))}),))
    history = History(asked.objectives)
    cold, warm = (build(asked, history, {}, before).decider.searcher.propose(history) for before in ((), (past,)))
    assert cold != warm
