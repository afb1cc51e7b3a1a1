"""The state of the forecast at one point of a history: fitted now and then, conditioned anew whenever it is asked."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final
from weakref import WeakKeyDictionary

import numpy as np
from numpy.typing import NDArray

from service.tuning.forecast.curves import Reader, Table
from service.tuning.forecast.features import Features, Floats
from service.tuning.forecast.kernel import Points
from service.tuning.forecast.process import Belief, Process, chosen, fit, sampled
from service.tuning.forecast.scale import Scale, joined
from service.tuning.history import History, Trial
from service.tuning.strategy import Problem

FEWEST_TRIALS: Final = 3
FIRST_FIT: Final = 8  # observations
FIT_GROWTH: Final = 1.2  # of their number, from one fit to the next
MAX_FIT_POINTS: Final = 200
MAX_POINTS: Final = 500  # the cost of a decision stays bounded; which are left out, `process.chosen` says
BELIEVED_EPOCHS: Final = 3.0  # a believed value counts as the mean of so many epochs


@dataclass(frozen=True, slots=True)
class State:
    """A forecast: `process` over the trials of `table` in the order of `table.numbers`, in units of `scale`."""

    table: Table
    scale: Scale
    target: Floats
    process: Process
    places: dict[int, int]  # trial number -> row of the process's features
    end: float  # the time of the last epoch

    def expected_finals(self) -> Floats:
        """The means of what all trials would show at the end."""
        rows = np.arange(len(self.table.numbers))
        return self.process.means_of_trials(rows, np.full(len(rows), self.end))

    def finals(self, numbers: list[int]) -> Belief:
        """What these trials would show at the end."""
        rows = np.array([self.places[n] for n in numbers], dtype=np.intp)
        return self.process.of_trials(rows, np.full(len(rows), self.end))


class Forecaster:
    """Forecasts for one problem; a pure function of each history, with what was computed last kept."""

    def __init__(self, problem: Problem) -> None:
        self._problem = problem
        self.features = Features(problem.space)
        self.max_epochs = problem.rungs[-1]
        self._reader = Reader(problem.space, problem.objectives, self.max_epochs)
        self._objectives = len(problem.objectives.objectives)
        self._fitted: tuple[int, list[Floats]] | None = None

    def state(self, history: History, weights: Floats | None = None) -> State | None:
        """The forecast at `history`; None while too few trials have shown anything. `weights`: of the objectives."""
        table = self._reader.read(history)
        if len(table.numbers) < FEWEST_TRIALS or len(history.observed) < FIRST_FIT:
            return None
        theta = self._theta(history)
        points, losses = self._points(table), self._losses(table, weights)
        scale = Scale(losses)
        target = scale(losses)
        kept = chosen(points, target, MAX_POINTS)
        process = Process(theta, self.features.groups, points.take(kept), target[kept])
        places = {number: i for i, number in enumerate(table.numbers)}
        return State(table, scale, target, process, places, float(self.times(np.array([self.max_epochs]))[0]))

    def times(self, epochs: Floats) -> Floats:
        """Epochs as the process measures them: their logarithms, up to 1 for the last."""
        return np.asarray(np.log(epochs) / math.log(max(2, self.max_epochs)))

    def believing(self, state: State, running: list[Trial]) -> Process:
        """The process, given that each of the running trials comes out as expected (Ginsbourger et al., 2010)."""
        if not running:
            return state.process
        known = state.process.points.features
        fresh = self.features.of(self._reader.units([t for t in running if t.number not in state.places]))
        after = iter(range(len(known), len(known) + len(fresh)))
        rows = np.array([state.places[t.number] if t.number in state.places else next(after) for t in running])
        features = np.concatenate([known, fresh])
        ends = np.full(len(rows), state.end)
        added = Points(features, rows.astype(np.intp), ends, np.full(len(rows), BELIEVED_EPOCHS))
        is_fresh = rows >= len(known)
        means = np.empty(len(rows))
        if is_fresh.any():
            means[is_fresh] = state.process.means_of_new(features[rows[is_fresh]], state.end)
        if not is_fresh.all():
            means[~is_fresh] = state.process.of_trials(rows[~is_fresh], ends[~is_fresh]).mean
        return state.process.extended(added, means)

    def _theta(self, history: History) -> Floats:
        """Hyperparameters drawn when the number of observations last reached a step of the schedule; each in turn.

        One setting would make all decisions wrong alike until there is enough to tell it from others.
        """
        due = FIRST_FIT
        while (later := max(due + 1, int(due * FIT_GROWTH))) <= len(history.observed):
            due = later
        if self._fitted is None or self._fitted[0] != due:
            table = self._reader.read_first(history, due)
            losses = self._losses(table, None)
            points, target = self._points(table), Scale(losses)(losses)
            some = _varied(points, target, MAX_FIT_POINTS, due)
            known, values, groups = points.take(some).compact(), target[some], self.features.groups
            self._fitted = due, sampled(fit(known, values, groups), known, values, groups, due)
        samples = self._fitted[1]
        return samples[(len(history.observed) + len(history.trials)) % len(samples)]

    def _points(self, table: Table) -> Points:
        time = table.log_epoch / math.log(max(2, self.max_epochs))
        return Points(self.features.of(table.units), table.trial, time, table.count)

    def _losses(self, table: Table, weights: Floats | None) -> Floats:
        even = np.full(self._objectives, 1.0 / self._objectives)
        return joined(table.losses, even if weights is None else weights)


def _varied(points: Points, target: Floats, count: int, seed: int) -> NDArray[np.intp]:
    """Places of whole trials, at most `count` in all: the best ones and random ones in turn."""
    if len(points) <= count:
        return np.arange(len(points))
    trials = len(points.features)
    best = np.full(trials, np.inf)
    np.minimum.at(best, points.trial, target)
    good = np.argsort(best, kind="stable")[: max(1, trials // 4)]
    others = np.random.default_rng(seed).permutation(np.setdiff1d(np.arange(trials), good))
    sizes = np.bincount(points.trial, minlength=trials)
    order = np.empty(trials, dtype=np.intp)
    turns = np.concatenate([np.arange(len(good)) * 2.0, np.arange(len(others)) * 2.0 + 1.0])
    order[:] = np.concatenate([good, others])[np.argsort(turns, kind="stable")]
    taken = order[np.cumsum(sizes[order]) <= count]
    return np.flatnonzero(np.isin(points.trial, taken))


_forecasters: WeakKeyDictionary[History, Forecaster] = WeakKeyDictionary()


def forecaster(problem: Problem, history: History) -> Forecaster:
    """The forecaster that a sweep's searcher and scheduler share, so that what one computed serves the other."""
    found = _forecasters.get(history)
    if found is None or found._problem is not problem:  # noqa: SLF001  # the same file
        found = _forecasters[history] = Forecaster(problem)
    return found
