"""Searcher `random`: independent draws from the search space."""

from __future__ import annotations

from service.spec.space import Params, Space
from service.tuning.history import History
from service.tuning.points import Tried, untried
from service.tuning.strategy import Problem, Searcher, StrictOptions


class Options(StrictOptions):
    """The searcher `random` has no options."""


def build(options: Options, problem: Problem) -> Searcher:  # noqa: ARG001  # one signature for all
    """Random search over the problem's space."""
    return Random(problem.space, problem.seed)


class Random:
    """Draws each trial on its own; a finite space is used up without repeating a point."""

    def __init__(self, space: Space, seed: int) -> None:
        self._space = space
        self._seed = seed
        self._tried = Tried()

    def propose(self, history: History) -> Params | None:
        """A draw that depends on the seed and the number of earlier proposals."""
        import numpy as np

        rng = np.random.default_rng([self._seed, history.proposals])
        tried = self._tried(history) if self._space.is_finite else set()
        return untried(self._space, tried, lambda: self._space.sample(rng))
