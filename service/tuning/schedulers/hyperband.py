"""Scheduler `hyperband`: brackets of synchronous successive halving, from many short trials to a few full ones.

Li et al., Hyperband: A Novel Bandit-Based Approach to Hyperparameter Optimization (JMLR 2018). Trials fill one bracket
after the other in the order of their numbers; the next round starts when all brackets are full. A bracket's trials wait
at a rung until all of them are there or over, then the best go on and the others are dropped.
"""

from __future__ import annotations

from pydantic import Field

from service.spec.objective import Objectives
from service.tuning.history import History
from service.tuning.rungs import diverged, ladder, paused, rung_crossed, rung_reached, standings, value_at
from service.tuning.strategy import Drop, Problem, Resume, RungOptions, Scheduler, Verdict


class Options(RungOptions):
    """Options of the scheduler `hyperband`."""

    reduction_factor: int = Field(default=3, ge=2)
    """One of this many trials goes on at each rung, and each rung is this many times as far as the one before."""


def rungs(options: Options) -> tuple[int, ...]:
    """`grace_epochs` times the powers of `reduction_factor`, then `max_epochs`; later brackets start further up."""
    return ladder(options.grace_epochs, options.reduction_factor, options.max_epochs)


def reach(options: Options, trials: int) -> tuple[int, ...]:
    """How many of `trials` reach each rung when none fails."""
    sizes = _sizes(options)
    totals = [0] * len(sizes)
    left, bracket = trials, 0
    while left > 0:
        going = min(left, sizes[bracket])
        left -= going
        for i in range(len(sizes)):
            totals[i] += going
            going = max(1, going // options.reduction_factor) if i >= bracket else going
        bracket = (bracket + 1) % len(sizes)
    return tuple(totals)


def _sizes(options: Options) -> list[int]:
    """How many trials each bracket starts with."""
    top = len(rungs(options)) - 1
    return [-(-(top + 1) * options.reduction_factor ** (top - b) // (top + 1 - b)) for b in range(top + 1)]


def build(options: Options, problem: Problem) -> Scheduler:
    """Hyperband over `options`."""
    return Hyperband(options, problem.objectives)


class Hyperband:
    """Pauses trials at the rungs of their bracket until the whole bracket is there."""

    def __init__(self, options: Options, objectives: Objectives) -> None:
        self.rungs = rungs(options)
        self._factor = options.reduction_factor
        self._sizes = _sizes(options)
        self._objectives = objectives

    def judge(self, history: History, trial: int, epoch: int) -> Verdict:
        """Pause at the rungs of the trial's bracket."""
        own = history.trials[trial]
        if diverged(own, epoch):
            return Verdict("stop", "diverged")
        bracket, _ = self._bracket(trial)
        rung = rung_crossed(self.rungs[bracket:], own, epoch)
        if rung is None or rung >= self.rungs[-1]:
            return Verdict("continue", "")
        return Verdict("pause", f"rung {rung}: waits for its bracket")

    def release(self, history: History, *, is_drained: bool) -> list[Resume | Drop]:
        """Decide on every rung of every bracket that is complete; the highest rungs go on first."""
        places: dict[tuple[int, range], set[int]] = {}
        for trial in paused(history):
            bracket, members = self._bracket(trial.number)
            rung = rung_reached(self.rungs[bracket:], trial.epoch) or 0
            places.setdefault((rung, members), set()).add(trial.number)
        drops: list[Resume | Drop] = []
        resumes: list[Resume | Drop] = []
        for (rung, members), waiting in sorted(places.items(), key=lambda item: (-item[0][0], item[0][1].start)):
            best = self._best(history, rung, members, is_drained=is_drained)
            if best is None:
                continue
            reason = f"rung {rung}: the best {len(best)} of its bracket go on"
            resumes += [Resume(n, n, history.trials[n].params, reason) for n in best if n in waiting]
            drops += [Drop(n, reason) for n in sorted(waiting.difference(best))]
        return drops + resumes

    def _bracket(self, number: int) -> tuple[int, range]:
        """The bracket of trial `number`, and the numbers of all trials in it."""
        start, bracket = number - number % sum(self._sizes), 0
        while number >= start + self._sizes[bracket]:
            start += self._sizes[bracket]
            bracket += 1
        return bracket, range(start, start + self._sizes[bracket])

    def _best(self, history: History, rung: int, members: range, *, is_drained: bool) -> list[int] | None:
        """The trials of the bracket with these `members` that go on beyond `rung`, best first; None while some miss."""
        bracket, _ = self._bracket(members.start)
        own_rungs = self.rungs[bracket:]
        going = list(range(members.start, min(members.stop, len(history.trials))))
        if len(going) < len(members) and not is_drained:
            return None
        kept = len(going)
        for own_rung in own_rungs[: own_rungs.index(rung) + 1]:
            trials = [history.trials[number] for number in going]
            if any(value_at(t, own_rung) is None and not t.status.is_over for t in trials):
                return None
            kept = max(1, kept // self._factor)
            going = [number for _, number in standings(own_rungs, own_rung, trials, self._objectives)[:kept]]
        return going
