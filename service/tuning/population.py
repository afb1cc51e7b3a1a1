"""A population of trials that learn from each other while they train: what `pbt` and `pb2` share.

Every trial pauses at each interval. Then it goes on as it is or, where it has fallen behind, from the checkpoint of one
of the best, with values that the scheduler explores from there. Asynchronous: a trial is compared with all that have
reached the same epoch by then, and waits only until the population has begun. With several objectives a trial gives up
its state only to one that dominates it, so that the population stays spread over the Pareto front.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Protocol

from pydantic import Field

from service.spec.space import Params
from service.tuning.history import History, Status, Trial
from service.tuning.rungs import diverged, paused, rung_crossed, rung_reached, standings, value_at
from service.tuning.strategy import Drop, Problem, Resume, StrictOptions, Verdict

if TYPE_CHECKING:
    import numpy as np


class PopulationOptions(StrictOptions):
    """Options of every scheduler with a population."""

    max_epochs: int = Field(ge=1)
    """Epochs after which a trial is complete."""
    interval_epochs: int = Field(default=1, ge=1)
    """Epochs between two comparisons of a trial with the population."""
    quantile: float = Field(default=0.25, gt=0, le=0.5)
    """The worst part of the population that gives up its state, and the best part that it is replaced from."""
    population_size: int | None = Field(default=None, ge=2)
    """Paused trials go on once this many have begun; unset: once no new trial will come."""


def rungs(options: PopulationOptions) -> tuple[int, ...]:
    """Every `interval_epochs`, and the end."""
    return (*range(options.interval_epochs, options.max_epochs, options.interval_epochs), options.max_epochs)


def reach(options: PopulationOptions, trials: int) -> tuple[int, ...]:
    """Every trial passes every rung or jumps over it to a better state; none is stopped."""
    return tuple(trials for _ in rungs(options))


class Explore(Protocol):
    """Chooses values near those of a donor."""

    def explore(self, history: History, trial: Trial, donor: Trial, rng: np.random.Generator) -> Params:
        """What `trial` goes on with from the state of `donor`; a pure function."""


class Population:
    """Pauses every trial at each interval; then it goes on as it is, or as an explored copy of one of the best."""

    changes_params = True

    def __init__(self, options: PopulationOptions, problem: Problem, explorer: Explore) -> None:
        self.rungs = rungs(options)
        self._options = options
        self._objectives = problem.objectives
        self._seed = problem.seed
        self._explorer = explorer

    def judge(self, history: History, trial: int, epoch: int) -> Verdict:
        """Pause at every interval."""
        own = history.trials[trial]
        if diverged(own, epoch):
            return Verdict("stop", "diverged")
        rung = rung_crossed(self.rungs, own, epoch)
        if rung is None or rung >= self.rungs[-1]:
            return Verdict("continue", "")
        return Verdict("pause", f"rung {rung}: compared with the population")

    def release(self, history: History, *, is_drained: bool) -> list[Resume | Drop]:
        """The one that is least far, so that the population advances together; the next is decided when asked for."""
        size = self._options.population_size
        if not is_drained and (size is None or len(history.trials) < size):
            return []
        first = min(paused(history), key=lambda t: (t.epoch, t.number), default=None)
        return [] if first is None else [self._go_on(history, first)]

    def _go_on(self, history: History, trial: Trial) -> Resume:
        rung = rung_reached(self.rungs, trial.epoch) or self.rungs[0]
        table = standings(self.rungs, rung, history.trials, self._objectives)
        count = math.floor(len(table) * self._options.quantile)
        place = [number for _, number in table].index(trial.number)
        is_behind = place >= len(table) - count
        donors = [n for _, n in table[:count] if is_behind and self._can_give(history.trials[n], trial, rung)]
        if not donors:
            reason = f"rung {rung}: place {place + 1} of {len(table)}, goes on as it is"
            return Resume(trial.number, trial.number, trial.params, reason)
        import numpy as np

        rng = np.random.default_rng([self._seed, trial.number, rung])  # not of attempts: a lost worker changes nothing
        donor = history.trials[donors[int(rng.integers(len(donors)))]]
        params = self._explorer.explore(history, trial, donor, rng)
        reason = f"rung {rung}: place {place + 1} of {len(table)}, goes on from trial {donor.number}"
        return Resume(trial.number, donor.number, params, reason)

    def _can_give(self, donor: Trial, trial: Trial, rung: int) -> bool:
        """Whether the donor was better at `rung`, and its state is no step back and leaves something to train."""
        checkpoint, theirs, own = donor.latest_checkpoint, value_at(donor, rung), value_at(trial, rung)
        if donor.status in (Status.DIVERGED, Status.FAILED):
            return False
        if theirs is None or own is None or not theirs.dominates(own):
            return False
        return checkpoint is not None and trial.epoch <= checkpoint.epoch < self.rungs[-1]
