"""Scheduler `pb2`: population based training that chooses new values by a model of what has helped, and when.

Parker-Holder et al., Provably Efficient Online Hyperparameter Optimization with Population-Based Bandits (NeurIPS
2020): a Gaussian process over values and time tells how much an interval with them improves a trial, and the values
with the best upper bound are tried. Here improvements are compared within their interval only, time is one more input
of the same kernel, and choices mostly stay as the donor has them.
"""

from __future__ import annotations

import math
from itertools import pairwise
from typing import TYPE_CHECKING, Final

from pydantic import Field

from service.spec.objective import Objectives, Observation
from service.spec.space import Choice, Params
from service.tuning.history import History, Status, Trial
from service.tuning.population import Population, PopulationOptions, reach, rungs
from service.tuning.rungs import rung_reached, value_at
from service.tuning.strategy import Problem, Scheduler

if TYPE_CHECKING:
    import numpy as np

    from service.tuning.gaussian_process import GaussianProcess, Lengths

__all__ = ["Options", "build", "reach", "rungs"]

CHANGES_PARAMS: Final = True  # a trial may end with other parameters than it began with
LEAST_INTERVALS: Final = 4  # before that many are on record, values are drawn at random
MAX_INTERVALS: Final = 80  # of the model, the newest: what helped long ago says little
NEAR: Final = 0.1  # how far from the donor's values half of the candidates lie, in parts of the range


class Options(PopulationOptions):
    """Options of the scheduler `pb2`."""

    resample_probability: float = Field(default=0.25, ge=0, le=1)
    """How likely a choice takes another value than the donor's."""
    n_candidates: int = Field(default=64, ge=1)
    """How many sets of values compete for each exploration."""


def build(options: Options, problem: Problem) -> Scheduler:
    """PB2 over the problem's space."""
    return Population(options, problem, _Bandit(options, problem))


class _Bandit:
    """Chooses the values whose next interval may help most."""

    def __init__(self, options: Options, problem: Problem) -> None:
        import numpy as np

        from service.tuning.gaussian_process import Codes

        self._options, self._space, self._objectives = options, problem.space, problem.objectives
        self._rungs = rungs(options)
        self._codes = Codes(problem.space)
        self._is_category = np.append(self._codes.is_category, False)  # time comes last
        kinds = [isinstance(problem.space[name], Choice) for name in problem.space.dimensions]
        self._is_choice = np.array(kinds, dtype=bool)
        self._is_conditional = any(parameter.when for _, parameter in problem.space.items())
        self._known: tuple[tuple[tuple[int, int], ...], Lengths] | None = None

    def explore(self, history: History, trial: Trial, donor: Trial, rng: np.random.Generator) -> Params:
        """The most promising of some candidates, half of them near the donor's values."""
        import numpy as np

        from service.tuning.gaussian_process import one_thread

        rows = self._candidates(donor, rng)
        place = self._rungs.index(rung_reached(self._rungs, trial.epoch) or self._rungs[0])
        intervals = _intervals(history, self._rungs, self._objectives)
        best = 0
        if len(intervals) >= LEAST_INTERVALS and self._space.dimension:
            with one_thread():
                process = self._process(intervals, place).believing(self._under_way(history, trial))
                belief = process.predict(self._inputs(rows, np.full(len(rows), place)))
            daring = math.sqrt(0.2 * math.log(max(2.0, 0.4 * len(intervals))))  # as in the authors' code
            best = int(np.argmin(np.round(belief.mean - daring * belief.deviation, 9)))
        return self._space.from_unit(np.nan_to_num(rows[best], nan=0.5).tolist())

    def _candidates(self, donor: Trial, rng: np.random.Generator) -> np.ndarray:
        """Rows of the unit cube: choices are mostly the donor's, numbers near it or anywhere; NaN where inactive."""
        import numpy as np

        base = np.array(self._space.to_unit(donor.params), dtype=float)
        shape = self._options.n_candidates, len(base)
        drawn, keeps = rng.random(shape), rng.random(shape) >= self._options.resample_probability
        near = np.clip(base + rng.normal(0.0, NEAR, shape), 0.0, 1.0)
        near[: shape[0] // 2] = drawn[: shape[0] // 2]
        found = np.where(np.isnan(base), drawn, np.where(self._is_choice, np.where(keeps, base, drawn), near))
        if not self._is_conditional:
            return np.asarray(found)
        rows = [self._space.to_unit(self._space.from_unit(row)) for row in found.tolist()]
        return np.array(rows, dtype=float)

    def _inputs(self, rows: np.ndarray, places: np.ndarray) -> np.ndarray:
        """Codes of values, and time as the last column: the part of all intervals that is over."""
        import numpy as np

        return np.column_stack([self._codes.of(rows), places / len(self._rungs)])

    def _process(self, intervals: list[_Interval], place: int) -> GaussianProcess:
        """The model, its lengths those of the intervals before the newest: they stay the same for a while."""
        from service.tuning.gaussian_process import GaussianProcess, most_probable

        targets = _normal_scores(intervals)
        order = sorted(range(len(intervals)), key=lambda i: (-intervals[i].place, intervals[i].trial))
        newest, before = order[:MAX_INTERVALS], [i for i in order if intervals[i].place < place][:MAX_INTERVALS]
        fitted = before if len(before) >= LEAST_INTERVALS else newest
        key = tuple((intervals[i].trial, intervals[i].place) for i in fitted)
        if self._known is None or self._known[0] != key:
            codes = self._codes_of([intervals[i] for i in fitted])
            self._known = key, most_probable(codes, targets[fitted], self._is_category)
        codes = self._codes_of([intervals[i] for i in newest])
        return GaussianProcess.given(codes, targets[newest], self._is_category, self._known[1])

    def _codes_of(self, intervals: list[_Interval]) -> np.ndarray:
        import numpy as np

        rows = np.array([self._space.to_unit(interval.params) for interval in intervals], dtype=float)
        return self._inputs(rows, np.array([interval.place for interval in intervals], dtype=float))

    def _under_way(self, history: History, trial: Trial) -> np.ndarray:
        """What other trials have gone on with and not yet shown."""
        import numpy as np

        others = [t for t in history.unfinished() if t.number != trial.number and t.status is Status.RUNNING]
        rows = np.array([self._space.to_unit(t.params) for t in others], dtype=float)
        rows = rows.reshape(len(others), self._space.dimension)
        places = [self._rungs.index(rung_reached(self._rungs, t.epoch) or self._rungs[0]) for t in others]
        return self._inputs(rows, np.array(places, dtype=float))


class _Interval:
    """One trial from one rung to the next: with which values, and how much its loss changed (lower is better)."""

    __slots__ = ("change", "params", "place", "trial")

    def __init__(self, trial: int, place: int, params: Params, change: float) -> None:
        self.trial, self.place, self.params, self.change = trial, place, params, change


def _intervals(history: History, rungs: tuple[int, ...], objectives: Objectives) -> list[_Interval]:
    """The newest intervals on record, enough for the model; `place` is that of the rung at which one began."""
    found: list[_Interval] = []
    for place, (begin, end) in reversed(list(enumerate(pairwise(rungs)))):
        if len(found) >= 2 * MAX_INTERVALS:
            break
        there = [trial for trial in history.trials if trial.epoch >= end]
        shown = [(trial, value_at(trial, begin), value_at(trial, end)) for trial in there]
        pairs = [(t, before, after) for t, before, after in shown if before is not None and after is not None]
        changes = _changes([(before, after) for _, before, after in pairs], objectives)
        for (trial, _, _), change in zip(pairs, changes, strict=True):
            params = next((p for epoch, p in reversed(trial.phases) if epoch <= begin), trial.params)
            found.append(_Interval(trial.number, place, params, change))
    return found


def _changes(pairs: list[tuple[Observation, Observation]], objectives: Objectives) -> list[float]:
    """How much each loss changed; with several objectives, or limits, the place that was reached."""
    if len(objectives.objectives) > 1 or objectives.constraints:
        return objectives.scores([after for _, after in pairs])
    return [after.losses[0] - before.losses[0] if after.is_finite else math.inf for before, after in pairs]


def _normal_scores(intervals: list[_Interval]) -> np.ndarray:
    """Each change by its place among those of its interval, as a normal deviate; the best are lowest."""
    import numpy as np
    from scipy.special import ndtri

    places = np.array([interval.place for interval in intervals])
    changes = np.array([interval.change for interval in intervals])
    found = np.zeros(len(intervals))
    for place in np.unique(places):
        own = changes[places == place]
        ordered = np.sort(own)
        below, upto = (np.searchsorted(ordered, own, side=side) for side in ("left", "right"))
        found[places == place] = ndtri((below + upto) / (2 * len(own)))  # what is equal shares its places
    return found
