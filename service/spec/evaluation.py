"""Checks the folds and seeds of a sweep file against its other sections."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from service import plugins
from service.errors import SpecError
from service.spec.faults import Faults
from service.spec.sections import Checkpoints, Evaluation, SchedulerSection


def check_evaluation(fields: Mapping[str, Any], faults: Faults) -> None:
    """Note what keeps a configuration from being trained more than once."""
    evaluation, checkpoints = fields.get("evaluation"), fields.get("checkpoints")
    if not isinstance(evaluation, Evaluation):
        return
    if evaluation.test is True and isinstance(checkpoints, Checkpoints) and checkpoints.save_sweep_best == 0:
        faults.add(
            ("evaluation", "test"), "needs the best trial's checkpoint", allowed="checkpoints.save_sweep_best: 1"
        )
    if not evaluation.is_raced:
        return
    if len(fields.get("metrics", ())) > 1:
        faults.add(("metrics",), "folds and seeds race on one metric", allowed="metric: {name: ..., goal: ...}")
    scheduler = fields.get("scheduler")
    if isinstance(scheduler, SchedulerSection) and _changes_params(scheduler.name):
        message = (
            f"{scheduler.name} changes a trial's parameters as it goes, so there is nothing to train on a next fold"
        )
        faults.add(("scheduler", "name"), message, allowed="another scheduler, or evaluation: {folds: 1, seeds: 1}")
    if evaluation.folds == 1:
        return
    if evaluation.fold_argument == evaluation.folds_argument:
        faults.add(("evaluation", "folds_argument"), "is given the number of the fold already")
    for name in ("fold_argument", "folds_argument"):
        path = getattr(evaluation, name)
        if path in fields.get("parameters", {}):
            message = f"is set by evaluation.{name}, so it cannot be searched"
            faults.add(("parameters", path), message)


def _changes_params(scheduler: str) -> bool:
    """Whether the scheduler's file says so, by a constant `CHANGES_PARAMS`."""
    try:
        return bool(getattr(plugins.find("schedulers", scheduler), "CHANGES_PARAMS", False))
    except SpecError:  # an unknown one is a fault of its own
        return False
