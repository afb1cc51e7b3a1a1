"""Searcher `cmaes`: an evolution strategy that adapts the shape of its draws, for many numbers and many trials.

Hansen, The CMA Evolution Strategy (2016), by the library `cmaes`; it starts anew with twice the population where it has
come to rest (Auger and Hansen 2005). It learns in generations, each of as many trials as the strategy needs, in the
order in which they ended, and compares them only with each other. Choices and parameters under a condition are drawn
at random, since a normal distribution says nothing about them.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final

from pydantic import Field

from service.spec.space import Choice, Constant, Params, identity
from service.tuning.evidence import EvidenceReader
from service.tuning.history import History
from service.tuning.points import Tried, untried
from service.tuning.strategy import Problem, Searcher, StrictOptions

if TYPE_CHECKING:
    import numpy as np

MOST_RESTARTS: Final = 8  # the population doubles with each


class Options(StrictOptions):
    """Options of the searcher `cmaes`."""

    sigma: float = Field(default=0.25, gt=0, le=1)
    """How far the first draws lie from the middle, as a part of each parameter's range."""
    population_size: int | None = Field(default=None, ge=4)
    """Trials of a generation; unset: 4 and three times the logarithm of the number of parameters."""


def build(options: Options, problem: Problem) -> Searcher:
    """CMA-ES over the problem's numbers."""
    return CmaEs(options, problem)


class CmaEs:
    """Draws from a normal distribution that follows what was good."""

    def __init__(self, options: Options, problem: Problem) -> None:
        self._options, self._space, self._seed = options, problem.space, problem.seed
        self._reader = EvidenceReader(problem.space, problem.objectives)
        self._tried = Tried()
        self._adapted = [
            d
            for d, name in enumerate(problem.space.dimensions)
            if not isinstance(problem.space[name], Choice | Constant) and not problem.space[name].when
        ]
        self._states: list[tuple[tuple[int, ...], Any]] = []  # (a generation in order, the strategy after it)

    def propose(self, history: History) -> Params | None:
        """The strategy's next draw, or a random point where there is nothing that it could adapt."""
        import numpy as np

        rng = np.random.default_rng([self._seed, history.proposals])
        own = self._drawn(history, rng) if self._adapted else None
        tried = self._tried(history) if self._space.is_finite else set()
        if own is not None and (not tried or identity(own) not in tried):
            return own
        return untried(self._space, tried, lambda: self._space.sample(rng))

    def _drawn(self, history: History, rng: np.random.Generator) -> Params:
        strategy = self._strategy(history)
        strategy.reseed_rng(int(rng.integers(2**31)))
        at = rng.random(self._space.dimension)
        at[self._adapted] = strategy.ask()
        return self._space.from_unit(at.tolist())

    def _strategy(self, history: History) -> Any:  # noqa: ANN401  # the library has no annotations
        """The strategy after every full generation on record; what is known of earlier ones is kept."""
        evidence = self._reader.read(history)
        place = {number: i for i, number in enumerate(evidence.numbers)}
        waiting = [n for n in history.endings if history.trials[n].proposal >= 0 and n in place]
        strategy, done = self._fresh(0), 0
        while len(waiting) >= strategy.population_size:
            size = strategy.population_size
            told, waiting = tuple(sorted(waiting[:size], key=place.__getitem__)), waiting[size:]
            if done == len(self._states) or self._states[done][0] != told:
                after = self._after(strategy, [history.trials[number].params for number in told])
                self._states[done:] = [(told, after)]
            strategy, done = self._states[done][1], done + 1
        return strategy

    def _after(self, before: Any, best_first: Sequence[Params]) -> Any:  # noqa: ANN401  # the library has no annotations
        import numpy as np

        strategy = copy.deepcopy(before)
        rows = np.array([self._space.to_unit(params) for params in best_first], dtype=float)[:, self._adapted]
        strategy.tell([(row, float(place)) for place, row in enumerate(rows)])
        if strategy.should_stop():
            return self._fresh(strategy.restarts + 1)
        return strategy

    def _fresh(self, restarts: int) -> Any:  # noqa: ANN401  # the library has no annotations
        """A strategy that has seen nothing; the first begins in the middle, later ones anywhere."""
        import cmaes
        import numpy as np

        count = len(self._adapted)
        mean = np.random.default_rng([self._seed, 0, restarts]).random(count) if restarts else np.full(count, 0.5)
        bounds = np.tile([0.0, 1.0], (count, 1))
        strategy = cmaes.CMA(mean, self._options.sigma, bounds, population_size=self._options.population_size)
        size = strategy.population_size * 2 ** min(restarts, MOST_RESTARTS)
        strategy = cmaes.CMA(mean, self._options.sigma, bounds, population_size=size)
        strategy.restarts = restarts
        return strategy
