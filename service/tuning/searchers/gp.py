"""Searcher `gp`: Bayesian optimisation with a Gaussian process on what whole trials are worth.

Log expected improvement (Ament et al., NeurIPS 2023) under a Matérn-5/2 process; trials under way count as if they had
shown what the process expects of them (Ginsbourger et al. 2010, kriging believer). One number per trial: completed
trials have their loss; one that was stopped has what its place among them is worth, never its early value.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from pydantic import Field

from service.spec.space import Params, identity
from service.tuning.evidence import Evidence, EvidenceReader
from service.tuning.history import History, Status
from service.tuning.points import SobolPoints, Tried, untried
from service.tuning.strategy import Problem, Searcher, StrictOptions

if TYPE_CHECKING:
    import numpy as np

    from service.tuning.gaussian_process import GaussianProcess

MAX_POINTS: Final = 120  # of the process, the better half of them the best: its cost grows with their cube
MAX_PENDING: Final = 60
STARTS: Final = 5  # points around which candidates are drawn
ROUNDS: Final = (0.1, 0.03, 0.01)  # how far candidates lie from the best so far, in parts of the range


class Options(StrictOptions):
    """Options of the searcher `gp`."""

    n_startup: int = Field(default=10, ge=2)
    """Points of a Sobol sequence are proposed until this many trials have shown a result."""
    n_candidates: int = Field(default=256, ge=8)
    """How many points compete for each proposal before the best are refined."""
    random_every: int = Field(default=20, ge=2)
    """Each such proposal is a random one, so that no part of the search space is left out for good."""


def build(options: Options, problem: Problem) -> Searcher:
    """Bayesian optimisation over the problem's space."""
    return Gp(options, problem)


class Gp:
    """Proposes the point that improves most on the best so far, in expectation."""

    def __init__(self, options: Options, problem: Problem) -> None:
        from service.tuning.gaussian_process import Codes

        self._options = options
        self._space = problem.space
        self._objectives = problem.objectives
        self._seed = problem.seed
        self._reader = EvidenceReader(problem.space, problem.objectives)
        self._startup = SobolPoints(problem.space, problem.seed)
        self._tried = Tried()
        self._codes = Codes(problem.space)
        self._is_conditional = any(parameter.when for _, parameter in problem.space.items())

    def propose(self, history: History) -> Params | None:
        """A start-up point, a random one, or the most promising candidate; never one that was tried."""
        import numpy as np

        from service.tuning.gaussian_process import one_thread

        rng = np.random.default_rng([self._seed, history.proposals])
        evidence = self._reader.read(history)
        shown = len(evidence.ranked) - evidence.broken
        if len(evidence.ranked) < self._options.n_startup or shown == 0 or not self._space.dimension:
            own = [self._startup.at(history.proposals)]
        elif history.proposals % self._options.random_every == self._options.random_every - 1:
            own = []
        else:
            with one_thread():
                own = self._promising(history, evidence, rng)
        tried = self._tried(history)
        fresh = next((params for params in own if identity(params) not in tried), None)
        return fresh if fresh is not None else untried(self._space, tried, lambda: self._space.sample(rng))

    def _promising(self, history: History, evidence: Evidence, rng: np.random.Generator) -> list[Params]:
        """Candidates, the most promising first: many, then some around the best of them, nearer each time."""
        import numpy as np

        from service.tuning.forecast.choice import log_expected_improvement

        process = self._process(history, evidence, rng)
        best = float(process.predict(self._codes.of(evidence.ranked[:MAX_POINTS])).mean.min())
        count = self._options.n_candidates
        rows = np.concatenate([
            rng.random((count // 2, self._space.dimension)),
            self._around(evidence.ranked[:STARTS], count - count // 2, 0.2, rng),
        ])  # fmt: skip
        found = np.empty((0, self._space.dimension))
        gains = np.empty(0)
        for width in (*ROUNDS, 0.0):
            rows = self._snapped(rows)
            gain = log_expected_improvement(process.predict(self._codes.of(rows)), best)
            found, gains = np.concatenate([found, rows]), np.append(gains, gain)
            order = np.argsort(-np.round(gains, 9), kind="stable")
            found, gains = found[order], gains[order]
            if width:
                rows = self._around(found[:STARTS], count // 4, width, rng)
        return [self._space.from_unit(np.nan_to_num(row, nan=0.5).tolist()) for row in found]

    def _process(self, history: History, evidence: Evidence, rng: np.random.Generator) -> GaussianProcess:
        import numpy as np

        from service.tuning.gaussian_process import GaussianProcess

        targets, rows = self._targets(history, evidence), evidence.ranked
        if len(rows) > MAX_POINTS:
            half = MAX_POINTS // 2
            rest = np.linspace(half, len(rows) - 1, MAX_POINTS - half).round().astype(int)
            rows, targets = rows[[*range(half), *rest]], targets[[*range(half), *rest]]
        process = GaussianProcess.fit(self._codes.of(rows), targets, self._codes.is_category)
        pending = evidence.pending
        if len(pending) > MAX_PENDING:
            pending = pending[rng.choice(len(pending), MAX_PENDING, replace=False)]
        return process.believing(self._codes.of(pending))

    def _targets(self, history: History, evidence: Evidence) -> np.ndarray:
        """What each ranked trial is worth, lower is better, on one scale.

        The better half keeps its losses; the rest is drawn in to a normal distribution (Song et al. 2024), so that what
        is bad, or broke, does not hide the differences between what is good. Several objectives count by place only.
        """
        import numpy as np
        from scipy.special import ndtri

        count = len(evidence.ranked)
        normal = np.asarray(ndtri((np.arange(count) + 0.5) / count))
        if len(self._objectives.objectives) > 1 or self._objectives.constraints:
            return normal
        trials = [history.trials[number] for number in evidence.numbers[: count - evidence.broken]]
        whole = [i for i, trial in enumerate(trials) if trial.status is Status.COMPLETED]
        if len(whole) < 2:  # noqa: PLR2004  # one loss alone has no scale
            return normal
        losses = np.maximum.accumulate([trials[i].curve[trials[i].best_epoch].losses[0] for i in whole])
        values = np.interp(np.arange(count), whole, losses)
        middle = float(np.median(values))
        good = values < middle
        spread = float(np.sqrt(np.mean((values[good] - middle) ** 2))) if good.any() else 0.0
        return np.asarray(np.where(good, (values - middle) / spread, np.maximum(normal, 0.0))) if spread else normal

    def _around(self, rows: np.ndarray, count: int, width: float, rng: np.random.Generator) -> np.ndarray:
        """Points near `rows`: some of their numbers moved, now and then another value of a choice."""
        import numpy as np

        near = rows[rng.integers(len(rows), size=count)]
        drawn = rng.random(near.shape)
        moved = np.clip(near + rng.normal(0.0, width, near.shape), 0.0, 1.0)
        jump = np.isnan(near) | self._codes.is_category
        chance = max(0.3, min(1.0, 2.0 / near.shape[1]))
        changes = rng.random(near.shape) < np.where(self._codes.is_category, 0.5 * chance, chance)
        return np.where(changes | np.isnan(near), np.where(jump, drawn, moved), near)

    def _snapped(self, rows: np.ndarray) -> np.ndarray:
        """`rows` with NaN where their other values leave a parameter inactive."""
        import numpy as np

        if not self._is_conditional:
            return rows
        return np.array([self._space.to_unit(self._space.from_unit(row)) for row in rows.tolist()], dtype=float)
