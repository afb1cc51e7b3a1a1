"""Scheduler `adaptive`: lets go on whatever trial is forecast to improve most on the best, by freeze and thaw.

Trials are looked at ever more rarely the further they have come. Each time, a model of all learning curves so far says
where this trial, every paused one and the best new configuration would come to, and with what uncertainty; the worker
goes on with the one that promises most for the epochs that it takes (see `service/tuning/forecast/choice.py`). Swersky
et al., Freeze-Thaw Bayesian Optimization (2014). A trial without prospects is dropped, and its checkpoint with it.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Final

from pydantic import Field

from service.tuning.history import History, Status, Trial
from service.tuning.rungs import diverged, paused, rung_crossed
from service.tuning.strategy import Drop, Problem, Resume, RungOptions, Scheduler, Verdict

if TYPE_CHECKING:  # the forecast needs numpy, which whoever only checks the options does without
    from service.tuning.forecast.choice import Arm, Chooser

DECLINE: Final = 1.3  # how fast fewer trials come so far as the epoch grows
SLIM: Final = 0.05  # a chance that is not worth the epochs, once nothing new comes any more


class Options(RungOptions):
    """Options of the scheduler `adaptive`."""

    growth: float = Field(default=1.5, gt=1, le=10)
    """A trial is looked at again after this many times the epochs of the time before; 2 pauses trials less often."""


def rungs(options: Options) -> tuple[int, ...]:
    """`grace_epochs`, then each `growth` times as far as the one before but at least one epoch further."""
    found = [options.grace_epochs]
    while found[-1] < options.max_epochs:
        found.append(min(options.max_epochs, max(found[-1] + 1, round(found[-1] * options.growth))))
    return tuple(found)


def reach(options: Options, trials: int) -> tuple[int, ...]:
    """About so many of `trials` reach each rung, by what simulated sweeps over real curves did."""
    return tuple(max(1, round(trials * (options.grace_epochs / rung) ** DECLINE)) for rung in rungs(options))


def build(options: Options, problem: Problem) -> Scheduler:
    """Freeze and thaw by the forecast for `problem`."""
    return Adaptive(options, problem)


class Adaptive:
    """Pauses a trial as soon as something else promises more; resumes what promises most."""

    def __init__(self, options: Options, problem: Problem) -> None:
        self.rungs = rungs(options)
        self._problem = problem

    def judge(self, history: History, trial: int, epoch: int) -> Verdict:
        """Go on for as long as this trial is what an idle worker would choose."""
        own = history.trials[trial]
        if diverged(own, epoch):
            return Verdict("stop", "diverged")
        rung = rung_crossed(self.rungs, own, epoch)
        if rung is None or rung >= self.rungs[-1]:
            return Verdict("continue", "")
        found = self._chooser(history).choose(history, trial)
        if found is None and len(history.trials) >= (self._problem.max_trials or math.inf):
            return Verdict("continue", "nothing is known to compare it with")
        if found is not None and found.resume is not None and found.resume.trial == trial:
            return Verdict("continue", self._reason(found.resume))
        return Verdict("pause", "something else promises more")

    def release(self, history: History, *, is_drained: bool) -> list[Resume | Drop]:
        """Drop what has no prospects, then resume the most promising, unless a new configuration promises more."""
        waiting = paused(history)
        if not waiting:
            return []
        found = self._chooser(history).choose(history, is_drained=is_drained)
        arm = None if found is None else found.resume
        if is_drained and found is None:
            return [Resume(t.number, t.number, t.params, "nothing is known to compare it with") for t in waiting]
        if is_drained and (arm is None or arm.chance < SLIM):
            return self._last(history, waiting)
        gone: list[Resume | Drop] = [
            Drop(number, "forecast: no chance to become the best")
            for number in self._hopeless(history, waiting)
            if arm is None or number != arm.trial
        ]
        if arm is not None:
            trial = history.trials[arm.trial]
            gone.append(Resume(arm.trial, arm.trial, trial.params, self._reason(arm)))
        return gone

    def _last(self, history: History, waiting: list[Trial]) -> list[Resume | Drop]:
        """No new trial comes and none of the paused ones promises anything: only see that one is trained to the end."""
        if any(t.status in (Status.RUNNING, Status.PENDING) for t in history.unfinished()):
            return []
        ranks = [number for number, _ in history.ranking()]
        leader = min(waiting, key=lambda t: ranks.index(t.number) if t.number in ranks else math.inf)
        is_first = ranks[:1] == [leader.number] or history.counts[Status.COMPLETED] == 0
        if is_first and leader.number in ranks:
            return [Resume(leader.number, leader.number, leader.params, "the best so far is trained to the end")]
        return [Drop(t.number, "forecast: no chance to become the best") for t in waiting]

    def _chooser(self, history: History) -> Chooser:
        from service.tuning.forecast.choice import chooser

        return chooser(self._problem, history)

    def _hopeless(self, history: History, waiting: list[Trial]) -> list[int]:
        from service.tuning.forecast.choice import hopeless

        return hopeless(self._problem, history, waiting)

    def _reason(self, arm: Arm) -> str:
        objectives = self._problem.objectives.objectives
        if len(objectives) > 1:
            return "promises most"
        return f"promises most: {objectives[0].name} {objectives[0].value(arm.expected_loss):.4g} at the end"
