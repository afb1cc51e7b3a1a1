"""Scheduler `fifo`: every trial trains to the end, in the order in which it came."""

from __future__ import annotations

from pydantic import Field

from service.tuning.history import History
from service.tuning.rungs import diverged, paused
from service.tuning.strategy import Drop, Problem, Resume, Scheduler, StrictOptions, Verdict


class Options(StrictOptions):
    """Options of the scheduler `fifo`."""

    max_epochs: int = Field(ge=1)
    """Epochs that every trial trains for."""


def rungs(options: Options) -> tuple[int, ...]:
    """The end only."""
    return (options.max_epochs,)


def reach(options: Options, trials: int) -> tuple[int, ...]:  # noqa: ARG001  # one signature for all schedulers
    """Every trial reaches the end."""
    return (trials,)


def build(options: Options, problem: Problem) -> Scheduler:  # noqa: ARG001  # one signature for all
    """A scheduler that lets trials be."""
    return Fifo(options)


class Fifo:
    """Stops nothing but what diverged."""

    def __init__(self, options: Options) -> None:
        self.rungs = rungs(options)

    def judge(self, history: History, trial: int, epoch: int) -> Verdict:
        """Go on to the end."""
        if diverged(history.trials[trial], epoch):
            return Verdict("stop", "diverged")
        return Verdict("continue", "")

    def release(self, history: History, *, is_drained: bool) -> list[Resume | Drop]:  # noqa: ARG002  # never waits
        """Whatever else paused a trial, it goes on at once."""
        return [Resume(t.number, t.number, t.params, "nothing to wait for") for t in paused(history)]
