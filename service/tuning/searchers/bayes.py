"""Searcher `bayes`: a Gaussian process over configuration and epoch, made for trials that end early and side by side.

It learns from every epoch of every trial, running, paused and stopped ones too, so that no early value is ever taken
for a final one, and believes in what running trials are expected to come to while it looks for the next configuration.
With the scheduler `adaptive` both share one model and one choice.
"""

from __future__ import annotations

from pydantic import Field

from service.spec.space import Params, identity
from service.tuning.history import History
from service.tuning.points import SobolPoints, Tried, untried
from service.tuning.strategy import Problem, Searcher, StrictOptions


class Options(StrictOptions):
    """Options of the searcher `bayes`."""

    n_startup: int = Field(default=4, ge=1)
    """So many points are proposed first: the middle of the space, then a Sobol sequence."""


def build(options: Options, problem: Problem) -> Searcher:
    """Bayesian search over the problem's space."""
    return Bayes(options, problem)


class Bayes:
    """Proposes the new configuration that promises most by the forecast."""

    def __init__(self, options: Options, problem: Problem) -> None:
        self._options, self._problem = options, problem
        self._startup = SobolPoints(problem.space, problem.seed)
        self._tried = Tried()

    def propose(self, history: History) -> Params | None:
        """A start-up point, or the most promising one; in a finite space never one that was tried."""
        import numpy as np

        space = self._problem.space
        rng = np.random.default_rng([self._problem.seed, history.proposals])
        own = self._own(history)
        tried = self._tried(history) if space.is_finite else set()
        if own is not None and (not tried or identity(own) not in tried):
            return own
        return untried(space, tried, lambda: space.sample(rng))

    def expected_improvement(self, history: History) -> float | None:
        """By how much the best new configuration, trained to the end, is expected to improve on the best so far."""
        from service.tuning.forecast import choice

        return choice.expected_improvement(self._problem, history)

    def _own(self, history: History) -> Params | None:
        if history.proposals == 0:  # who sets bounds puts them around what is expected to work
            return self._problem.space.from_unit([0.5] * self._problem.space.dimension)
        if history.proposals < self._options.n_startup:
            return self._startup.at(history.proposals)
        from service.tuning.forecast.choice import chooser

        found = chooser(self._problem, history).choose(history)
        return None if found is None else found.params
