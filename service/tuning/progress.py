"""What a sweep looks like right now, as a small JSON object that any client can show."""

from __future__ import annotations

from collections import Counter
from typing import Any

from service.tuning.history import History, Status, Trial
from service.tuning.limits import Limits

MIN_ENDED_FOR_ETA = 2


def snapshot(
    history: History, rungs: tuple[int, ...], limits: Limits, elapsed_s: float, expected: float | None = None
) -> dict[str, Any]:
    """Counts, best trial, rung occupancy, running trials and the time that is left, by a guess from what has ended.

    `expected` is what the next trial is expected to gain.
    """
    objective = history.objectives.objectives[0]
    counts = Counter(t.status for t in history.trials if t.repeats is None) if history.repeats else history.counts
    fits = {"fits": _fits(history)} if history.repeats else {}
    return {
        "sweep_id": history.sweep_id,
        "at": history.at,
        "elapsed_s": round(elapsed_s, 3),
        "eta_s": _eta_s(history, limits, elapsed_s),
        "metric": {"name": objective.name, "goal": objective.goal},
        "trials": {"total": limits.max_trials, **{str(status): counts[status] for status in Status}},
        **fits,
        "epochs": history.epochs_trained,
        "trial_hours": round(history.train_seconds / 3600, 6),
        "best": _best(history),
        "expected_improvement": expected,
        "min_expected_improvement": limits.min_expected_improvement,
        "rungs": [{"epoch": rung, "reached": len(history.observations_at(rung))} for rung in rungs],
        "running": [_running(history, t) for t in history.unfinished() if t.status is Status.RUNNING],
    }


def _best(history: History) -> dict[str, Any] | None:
    ranking = history.ranking()
    if not ranking:
        return None
    number, epoch = ranking[0]
    trial, objective = history.trials[number], history.objectives.objectives[0]
    value = trial.metrics[epoch][objective.name]
    found = {"trial": number, "epoch": epoch, "value": value, "params": trial.params}
    if history.objectives.is_single:
        return {**found, **_mean(history)}
    values = {o.name: trial.metrics[epoch][o.name] for o in history.objectives.objectives}
    return {**found, "values": values, "front": len(history.pareto())}


def _mean(history: History) -> dict[str, Any]:
    """With folds or seeds, the best configuration's mean in place of one fit's value."""
    found = history.standings() if history.repeats else []
    if not found:
        return {}
    return {
        "value": history.objectives.objectives[0].value(found[0].mean),
        "error": found[0].error,
        "fits": found[0].fits,
    }


def _fits(history: History) -> dict[str, int]:
    over = sum(count for status, count in history.counts.items() if status.is_over)
    return {"over": over, "running": history.counts[Status.RUNNING]}


def _running(history: History, trial: Trial) -> dict[str, Any]:
    name = history.objectives.objectives[0].name
    value = trial.metrics[trial.epoch][name] if trial.curve else None
    fold = {} if trial.repeats is None else {"repeats": trial.repeats, "fold": trial.fold, "seed": trial.seed_index}
    return {"trial": trial.number, "epoch": trial.epoch, "value": value, "params": trial.params, **fold}


def _eta_s(history: History, limits: Limits, elapsed_s: float) -> float | None:
    """Seconds left if trials keep ending at the rate so far, capped by the wall clock budget; None while unknown."""
    left = None if limits.wall_clock_s is None else max(0.0, limits.wall_clock_s - elapsed_s)
    ended = sum(t.status.is_over for t in history.trials if t.repeats is None)
    if limits.max_trials is None or ended < MIN_ENDED_FOR_ETA:
        return left
    training_s = max(0.0, history.at - (history.trials[0].started_at or history.at))  # without Ray's start
    by_trials = min(training_s, elapsed_s) / ended * max(0, limits.max_trials - ended)
    return round(by_trials if left is None else min(by_trials, left), 1)
