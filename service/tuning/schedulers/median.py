"""Scheduler `median`: a trial stops when its best is worse than the median of the others' running averages.

Rule: Golovin et al., Google Vizier: A Service for Black-Box Optimization (KDD 2017), section 3.2. With several
objectives the fronts of non-dominated sorting stand for the values, so that no trial stops that none dominates.
"""

from __future__ import annotations

import math
from statistics import fmean, median

from pydantic import Field

from service.spec.objective import Objectives, Observation
from service.tuning.history import History, Status, Trial
from service.tuning.rungs import diverged, paused, rung_crossed
from service.tuning.strategy import Drop, Problem, Resume, RungOptions, Scheduler, Verdict


class Options(RungOptions):
    """Options of the scheduler `median`."""

    interval_epochs: int = Field(default=1, ge=1)
    """Epochs between two decisions on the same trial."""
    min_trials: int = Field(default=5, ge=1)
    """No trial is stopped before this many others came as far as it."""


def rungs(options: Options) -> tuple[int, ...]:
    """From `grace_epochs` on, every `interval_epochs`."""
    return (*range(options.grace_epochs, options.max_epochs, options.interval_epochs), options.max_epochs)


def reach(options: Options, trials: int) -> tuple[int, ...]:
    """How many of `trials` come to each rung: about half of those that are ever judged go on to the end.

    Curves rarely cross the median often, so the half that stops is taken to stop at the first rung.
    """
    kept = min(trials, options.min_trials) + max(0, trials - options.min_trials + 1) // 2
    return (trials, *(min(trials, kept) for _ in rungs(options)[1:]))


def build(options: Options, problem: Problem) -> Scheduler:
    """The median stopping rule."""
    return Median(options, problem.objectives)


class Median:
    """Compares a trial's best epoch so far with the others' averages up to the same epoch."""

    def __init__(self, options: Options, objectives: Objectives) -> None:
        self.rungs = rungs(options)
        self._options = options
        self._objectives = objectives

    def judge(self, history: History, trial: int, epoch: int) -> Verdict:
        """Stop when strictly worse than the median."""
        own = history.trials[trial]
        if diverged(own, epoch):
            return Verdict("stop", "diverged")
        if epoch >= self.rungs[-1] or rung_crossed(self.rungs, own, epoch) is None:
            return Verdict("continue", "")
        others = [t for t in history.trials if t.number != trial and (t.epoch >= epoch or t.status is Status.DIVERGED)]
        if len(others) < self._options.min_trials:
            return Verdict("continue", f"epoch {epoch}: only {len(others)} other trials came this far")
        averages = [self._average(other, epoch) for other in others]
        bests = [value for e, value in own.curve.items() if e <= epoch]
        scores = self._objectives.layers([*averages, *bests])
        middle, best = median(scores[: len(averages)]), min(scores[len(averages) :])
        if best > middle:
            return Verdict("stop", f"epoch {epoch}: worse than the median of {len(others)} trials")
        return Verdict("continue", f"epoch {epoch}: at least the median of {len(others)} trials")

    def _average(self, trial: Trial, epoch: int) -> Observation:
        values = [value for e, value in trial.curve.items() if e <= epoch]
        broken = trial.status is Status.DIVERGED and trial.epoch <= epoch
        if broken or not values or not all(value.is_finite for value in values):
            return Observation((math.inf,) * len(self._objectives.objectives))
        losses = tuple(map(fmean, zip(*(value.losses for value in values), strict=True)))
        return Observation(losses, fmean(value.violation for value in values))

    def release(self, history: History, *, is_drained: bool) -> list[Resume | Drop]:  # noqa: ARG002  # never waits
        """Whatever else paused a trial, it goes on at once."""
        return [Resume(t.number, t.number, t.params, "nothing to wait for") for t in paused(history)]
