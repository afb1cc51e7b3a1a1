"""What a driver hands its workers: the fields of an `Assignment`, from the sweep file and the sweep so far."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

from service.spec.sweep_spec import SweepSpec
from service.tuning.events import AttemptStarted, Begun
from service.tuning.history import History
from service.tuning.outcome import seed_of
from service.tuning.storage_place import Place
from service.tuning.sweep_folder import Job


def own(spec: SweepSpec, history: History, started: Begun, *, keeps_fits: bool) -> dict[str, Any]:
    """What one attempt or test has for itself. `keeps_fits`: further fits save their best epochs, too."""
    trial = history.trials[started.trial]
    params = started.params if isinstance(started, AttemptStarted) else trial.params
    further = math.inf if keeps_fits else None
    return {
        "trial": started.trial,
        "attempt": started.attempt,
        "params": {**params, **spec.evaluation.arguments(trial.fold)},
        "seed": seed_of(spec) + trial.seed_index,
        "checkpoint": None if started.checkpoint is None else dataclasses.asdict(started.checkpoint),
        "save_above": _save_above(spec, history) if trial.repeats is None else further,
        "seconds_before": trial.seconds,
        "is_test": not isinstance(started, AttemptStarted),
    }


def shared(spec: SweepSpec, job: Job, place: Place, checkpoint_epochs: tuple[int, ...]) -> dict[str, Any]:
    """What all attempts of a sweep share."""
    objectives = spec.objectives
    single = objectives.objectives[0] if len(objectives.objectives) == 1 else None
    return {
        "sweep_id": job.sweep_id,
        "fit": spec.fit,
        "metrics": list(objectives.metrics),
        "goals": {o.name: o.goal for o in objectives.objectives},
        "max_epochs": spec.max_epochs,
        "checkpoint_epochs": list(checkpoint_epochs),
        "storage": str(place),
        "code_root": job.code_root,
        "best_metric": None if single is None else [single.name, single.goal],
        "cpus": spec.resources.cpu,
    }


def _save_above(spec: SweepSpec, history: History) -> float | None:
    """The loss that an epoch has to beat to be among the best that are kept; None where only rungs are saved."""
    keep = spec.checkpoints.save_sweep_best
    ranking = history.ranking()
    if len(spec.objectives.objectives) > 1 or keep == 0:
        return None
    if len(ranking) < keep:
        return math.inf
    number, epoch = ranking[keep - 1]
    return history.trials[number].curve[epoch].losses[0]
