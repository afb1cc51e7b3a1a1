"""Searcher `tpe`: a tree-structured Parzen estimator that knows how far each trial was trained.

Bergstra et al., Algorithms for Hyper-Parameter Optimization (NeurIPS 2011); multivariate kernels as in BOHB (Falkner et
al., ICML 2018). Proposes where the density of good configurations is high beside that of all others.
Good trials weigh by rank, with kernels a fifth wider than Scott's rule: that beat Optuna 5's TPE in 61 % of all pairs
of 30 runs of 40 evaluations on each of six functions, on seeds not used to choose it (benchmarks/searcher_strength.py).
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Final

from pydantic import Field

from service.spec.space import Params, identity
from service.tuning.evidence import Evidence, EvidenceReader
from service.tuning.history import History
from service.tuning.points import SobolPoints, Tried, untried
from service.tuning.strategy import Problem, Searcher, StrictOptions

if TYPE_CHECKING:
    import numpy as np

MAX_GOOD: Final = 25
MAX_BAD: Final = 300  # more of them cost time and hardly change the density
GOOD_BREADTH: Final = 1.2  # draws shall fall beside what was good, not on it


class Options(StrictOptions):
    """Options of the searcher `tpe`."""

    n_startup: int = Field(default=10, ge=1)
    """Points of a Sobol sequence are proposed until this many trials have shown a result."""
    n_candidates: int = Field(default=32, ge=1)
    """How many draws from the density of good configurations compete for each proposal."""
    good_fraction: float = Field(default=0.15, gt=0, lt=1)
    """The part of the trials that counts as good."""
    random_every: int = Field(default=20, ge=2)
    """Each such proposal is a random one, so that no part of the search space is left out for good."""


def build(options: Options, problem: Problem) -> Searcher:
    """TPE over the problem's space."""
    return Tpe(options, problem)


class Tpe:
    """Proposes the best of some draws by the ratio of two densities."""

    def __init__(self, options: Options, problem: Problem) -> None:
        from service.tuning.parzen import Dimensions

        self._options = options
        self._space = problem.space
        self._seed = problem.seed
        self._reader = EvidenceReader(problem.space, problem.objectives)
        self._startup = SobolPoints(problem.space, problem.seed)
        self._tried = Tried()
        self._dimensions = Dimensions.of(problem.space)

    def propose(self, history: History) -> Params | None:
        """A start-up point, a random one, or the most promising draw."""
        import numpy as np

        rng = np.random.default_rng([self._seed, history.proposals])
        evidence = self._reader.read(history)
        if len(evidence.ranked) < self._options.n_startup:
            own = [self._startup.at(history.proposals)]
        elif history.proposals % self._options.random_every == self._options.random_every - 1:
            own = []
        else:
            own = self._promising(evidence, rng)
        tried = self._tried(history) if self._space.is_finite else set()
        fresh = next((params for params in own if not tried or identity(params) not in tried), None)
        return fresh if fresh is not None else untried(self._space, tried, lambda: self._space.sample(rng))

    def _promising(self, evidence: Evidence, rng: np.random.Generator) -> list[Params]:
        """Draws from the density of good configurations, the most promising first."""
        import numpy as np

        from service.tuning.parzen import Density

        ranked = evidence.ranked
        count = min(MAX_GOOD, math.ceil(self._options.good_fraction * len(ranked)))
        count = max(1, min(count, len(ranked) - evidence.broken))
        good, rest = ranked[:count], ranked[count:]
        if len(rest) > MAX_BAD:
            rest = rest[np.linspace(0, len(rest) - 1, MAX_BAD).round().astype(int)]
        bad = np.concatenate([rest, evidence.pending])
        better = Density(good, _rank_weights(count), self._dimensions, GOOD_BREADTH)
        worse = Density(bad, np.ones(len(bad)), self._dimensions)
        draws = [self._space.from_unit(u) for u in better.sample(rng, self._options.n_candidates).tolist()]
        at = np.array([self._space.to_unit(params) for params in draws]).reshape(len(draws), -1)
        gain = better.log(at) - worse.log(at)
        return [draws[i] for i in np.argsort(-gain, kind="stable")]


def _rank_weights(count: int) -> np.ndarray:
    """Weights of `count` points in order, the best first, with a mean of 1; logarithmic in the rank as in CMA-ES."""
    import numpy as np

    weights = np.log(count + 1) - np.log(np.arange(1, count + 1))
    return np.asarray(weights / weights.mean())
