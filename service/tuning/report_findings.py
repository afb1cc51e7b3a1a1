"""What a report says about a sweep as a whole: rungs, the Pareto front, failures, cost and budget."""

from __future__ import annotations

import math
import statistics
from collections import Counter
from typing import Any

from service.spec.space import Choice, Constant
from service.spec.sweep_spec import SweepSpec
from service.tuning.assembly import outlook_of
from service.tuning.first_fits import configurations_of
from service.tuning.history import History, Status
from service.tuning.report_trials import rounded
from service.tuning.stopping import best_name, plateau
from service.tuning.strategy import Problem
from service.tuning.tracking_subject import rungs_of

SECONDS_PER_HOUR = 3600.0


def rung_survival(history: History, rungs: tuple[int, ...]) -> list[dict[str, Any]]:
    """Per rung: how many trials reached it, how many ended right there, and the values seen there."""
    objective = history.objectives.objectives[0]
    found = []
    for i, rung in enumerate(rungs):
        above = rungs[i + 1] if i + 1 < len(rungs) else math.inf
        reached = [t for t in history.trials if t.epoch >= rung and t.repeats is None]
        values = [objective.value(t.curve[rung].losses[0]) for t in reached if rung in t.curve]
        finite = [v for v in map(rounded, values) if v is not None]
        found.append(
            {
                "epoch": rung,
                "reached": len(reached),
                "ended": sum(t.status.is_over and t.epoch < above for t in reached),
                "best": objective.value(min(map(objective.loss, finite))) if finite else None,
                "median": statistics.median(finite) if finite else None,
            }
        )
    return found


def axes(spec: SweepSpec, history: History) -> list[dict[str, Any]]:
    """How to draw each parameter: its values if it is a choice, else its range and scale."""
    found: list[dict[str, Any]] = []
    for name, parameter in spec.space.items():
        if isinstance(parameter, Constant):
            continue
        axis: dict[str, Any] = {"name": name, "conditional": bool(parameter.when)}
        if isinstance(parameter, Choice):
            axis["values"] = list(parameter.values)
        else:
            outside = [t.params[name] for t in history.trials if name in t.params]  # an exploit may leave the bounds
            axis |= {"min": min([parameter.low, *outside]), "max": max([parameter.high, *outside])}
            axis["log"] = bool(parameter.log)
        found.append(axis)
    return found


def pareto_front(history: History) -> list[int]:
    """Trials that no other feasible one beats in every objective, by their best epochs; empty with one objective."""
    return sorted(number for number, _ in history.pareto())


def wishes(history: History) -> list[dict[str, Any]]:
    """What chose the compromise: each objective's weight and reference; empty with one objective."""
    if history.objectives.is_single:
        return []
    return [{"name": o.name, "weight": o.weight, "reference": o.reference} for o in history.objectives.objectives]


def outlook(history: History, spec: SweepSpec) -> dict[str, Any]:
    """What the next trial was expected to gain at the end, in `unit`; None while unknown."""
    objectives = history.objectives
    problem = Problem(spec.space, objectives, rungs_of(spec), spec.seed)
    gain = outlook_of(spec, problem).latest(history)
    return {
        "expected_improvement": None if gain is None else rounded(gain),
        "unit": best_name(objectives),
        "threshold": spec.budget.min_expected_improvement,
    }


def failures(history: History) -> list[dict[str, Any]]:
    """Causes of failed and diverged trials, the most frequent first."""
    bad = [t for t in history.trials if t.status in (Status.FAILED, Status.DIVERGED)]
    counts = Counter((str(t.status), t.cause) for t in bad)
    found = []
    for (ending, cause), count in counts.most_common(20):
        numbers = [t.number for t in bad if (str(t.status), t.cause) == (ending, cause)]
        found.append({"ending": ending, "cause": cause, "count": count, "trials": numbers[:20]})
    return found


def cost(history: History, spec: SweepSpec) -> dict[str, Any]:
    """Epochs and hours that went in, and what the same trials would have cost with none ended early.

    A trial that failed or goes on counts with what it trained: nothing was saved by it.
    """
    seconds = sum(t.seconds for t in history.trials)
    in_full = {Status.COMPLETED, Status.STOPPED, Status.DIVERGED}
    full = sum(spec.max_epochs if t.status in in_full else t.epoch for t in history.trials)
    hours = seconds / SECONDS_PER_HOUR
    return {
        "epochs": history.epochs_trained,
        "epochs_without_stopping": full,
        "saved_share": round(1 - history.epochs_trained / full, 4) if full else 0.0,
        "train_seconds": round(seconds, 3),
        "active_seconds": round(history.active_s, 3),
        "cpu_hours": round(hours * spec.resources.cpu, 6),
        "gpu_hours": round(hours * spec.resources.gpu, 6),
    }


def budget_use(history: History, spec: SweepSpec) -> list[dict[str, Any]]:
    """Each limit of the sweep file and how much of it was used."""
    spent = cost(history, spec)
    used = {
        "max_trials": history.configurations,
        "max_failed_trials": sum(t.status is Status.FAILED for t in history.trials),
        "wall_clock_s": round(history.active_s, 1),
        "cpu_hours": spent["cpu_hours"],
        "gpu_hours": spent["gpu_hours"],
        "total_epochs": history.epochs_trained,
    }
    limits = {name: getattr(spec.budget, name) for name in used}
    found = [{"name": name, "limit": limit, "used": used[name]} for name, limit in limits.items() if limit is not None]
    if spec.budget.plateau is not None:
        flat = _since_better(configurations_of(history), spec)
        found.append({"name": "plateau.trials", "limit": spec.budget.plateau.trials, "used": flat})
    return found


def _since_better(history: History, spec: SweepSpec) -> int:
    """How many trials in a row have had their chance without improving the best by `plateau.min_delta`."""
    limit = spec.budget.plateau
    lengths = range(1, min(limit.trials if limit else 0, len(history.tried)) + 1)
    delta, full = limit.min_delta if limit else 0.0, spec.max_epochs
    is_flat = (plateau(history, length, delta, full) is not None for length in lengths)
    return next((n for n, flat in enumerate(is_flat) if not flat), len(lengths))
