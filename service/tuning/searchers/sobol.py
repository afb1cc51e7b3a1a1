"""Searcher `sobol`: a scrambled Sobol sequence, which covers the search space more evenly than random draws."""

from __future__ import annotations

from service.spec.space import Params, Space
from service.tuning.history import History
from service.tuning.points import SobolPoints, Tried, untried
from service.tuning.strategy import Problem, Searcher, StrictOptions


class Options(StrictOptions):
    """The searcher `sobol` has no options."""


def build(options: Options, problem: Problem) -> Searcher:  # noqa: ARG001  # one signature for all
    """Quasi-random search over the problem's space."""
    return Sobol(problem.space, problem.seed)


class Sobol:
    """Proposes the sequence point by point; in a finite space a random untried point replaces a repeated one."""

    def __init__(self, space: Space, seed: int) -> None:
        self._space = space
        self._seed = seed
        self._points = SobolPoints(space, seed)
        self._tried = Tried()

    def propose(self, history: History) -> Params | None:
        """The point whose index is the number of earlier proposals."""
        import numpy as np

        rng = np.random.default_rng([self._seed, history.proposals])
        own = [self._points.at(history.proposals)]
        tried = self._tried(history) if self._space.is_finite else set()
        return untried(self._space, tried, lambda: own.pop() if own else self._space.sample(rng))
