"""Searcher `bohb`: a Parzen estimator on the highest rung that has shown enough.

Falkner et al., BOHB: Robust and Efficient Hyperparameter Optimization at Scale (ICML 2018), with its defaults. Unlike
`tpe`, which puts trials of all lengths in one order, it looks at one rung only and forgets those below.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Final

from pydantic import Field

from service.spec.space import Params, identity
from service.tuning.history import History, Status, Trial
from service.tuning.points import Tried, untried
from service.tuning.rungs import standings
from service.tuning.strategy import Problem, Searcher, StrictOptions

if TYPE_CHECKING:
    import numpy as np

MAX_BAD: Final = 300  # more of them cost time and hardly change the density


class Options(StrictOptions):
    """Options of the searcher `bohb`."""

    min_points: int | None = Field(default=None, ge=2)
    """Trials that a rung needs before it is looked at; unset: one more than there are parameters."""
    n_candidates: int = Field(default=64, ge=1)
    """How many draws from the density of good configurations compete for each proposal."""
    good_fraction: float = Field(default=0.15, gt=0, lt=1)
    """The part of the rung that counts as good."""
    random_fraction: float = Field(default=1 / 3, ge=0, le=1)
    """The part of the proposals that is drawn at random."""
    bandwidth_factor: float = Field(default=3.0, ge=1)
    """Draws are made with kernels this much wider than the density's."""


def build(options: Options, problem: Problem) -> Searcher:
    """BOHB over the problem's space and rungs."""
    return Bohb(options, problem)


class Bohb:
    """Proposes the best of some draws by the ratio of two densities, both of one rung."""

    def __init__(self, options: Options, problem: Problem) -> None:
        from service.tuning.parzen import Dimensions

        self._options, self._problem, self._space = options, problem, problem.space
        self._tried = Tried()
        self._dimensions = Dimensions.of(problem.space)
        self._least = options.min_points or problem.space.dimension + 1

    def propose(self, history: History) -> Params | None:
        """A random point, or the most promising draw."""
        import numpy as np

        rng = np.random.default_rng([self._problem.seed, history.proposals])
        ranked = [] if rng.random() < self._options.random_fraction else self._highest(history)
        own = self._promising(ranked, rng) if ranked else []
        tried = self._tried(history) if self._space.is_finite else set()
        fresh = next((params for params in own if not tried or identity(params) not in tried), None)
        return fresh if fresh is not None else untried(self._space, tried, lambda: self._space.sample(rng))

    def _highest(self, history: History) -> list[Trial]:
        """The trials of the highest rung with enough of them for two densities, best first; empty where none has."""
        broken = [t for t in history.trials if t.status is Status.FAILED and not t.curve]
        for rung in reversed(self._problem.rungs):
            table = standings(self._problem.rungs, rung, history.trials, self._problem.objectives)
            if len([score for score, _ in table if score < math.inf]) > self._least:
                return [*(history.trials[number] for _, number in table), *broken]
        return []

    def _promising(self, ranked: list[Trial], rng: np.random.Generator) -> list[Params]:
        import numpy as np

        from service.tuning.parzen import Density

        rows = np.array([self._space.to_unit(t.params) for t in ranked], dtype=float).reshape(len(ranked), -1)
        count = min(len(rows) - 1, max(self._least, math.floor(self._options.good_fraction * len(rows))))
        good, rest = rows[:count], rows[-max(self._least, len(rows) - count) :]
        if len(rest) > MAX_BAD:
            rest = rest[np.linspace(0, len(rest) - 1, MAX_BAD).round().astype(int)]
        better = Density(good, np.ones(count), self._dimensions)
        wider = Density(good, np.ones(count), self._dimensions, self._options.bandwidth_factor)
        worse = Density(rest, np.ones(len(rest)), self._dimensions)
        draws = [self._space.from_unit(u) for u in wider.sample(rng, self._options.n_candidates).tolist()]
        at = np.array([self._space.to_unit(params) for params in draws]).reshape(len(draws), -1)
        gain = better.log(at) - worse.log(at)
        return [draws[i] for i in np.argsort(-gain, kind="stable")]
