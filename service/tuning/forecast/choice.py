"""What an idle worker shall train next: the paused trial to resume, or the new configuration, that promises most.

Each choice draws a horizon, how many epochs further to look, and takes what is expected to improve most on the best
loss so far at that horizon, for each epoch that it takes to get there. Looking near exploits what is known, looking far
explores, and drawing the horizon anew each time needs no knob between them, as in Rakotoarison et al., In-Context
Freeze-Thaw Bayesian Optimization for Hyperparameter Optimization (ICML 2024).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final
from weakref import WeakKeyDictionary

import numpy as np
from numpy.typing import NDArray

from service.spec.space import Params
from service.tuning.forecast.features import Floats
from service.tuning.forecast.forecast import Forecaster, State, forecaster
from service.tuning.forecast.process import Belief, Process
from service.tuning.gaussian_process import one_thread
from service.tuning.history import History, Status, Trial
from service.tuning.strategy import Problem

UNIFORM, NEAR, CENTRES = 200, 200, 8  # candidates anywhere and near the trials that are expected to end best
SCREENED: Final = 96  # of them go on by their mean, and half as many by chance
ROUNDS, KEPT, REFINED, JUMPS = 5, 3, 160, 40  # then the best are varied, ever more finely
RANDOM_SHARE: Final = 0.05  # of the proposals, so that no part of the space is left out for good
BEHIND, LEAST_BETTER = 0.5, 3  # of the trials at the same epoch
NEW_COST: Final = 3.0  # a new configuration has to promise so many times as much: the forecast is keen on novelty
PAUSE_COST: Final = 2.0  # what goes on anyway needs no checkpoint to be read and no worker to be changed
DIGITS: Final = 9  # to which two points of the unit cube are the same
HOPELESS: Final = 4.0  # standard deviations between what a trial would come to and the best so far
FAR: Final = 1e3  # standard deviations from which the tail is told by its first term
NODES: Final = 16  # of the Gauss-Hermite rule


@dataclass(frozen=True, slots=True)
class Arm:
    """A paused trial that may go on, the loss it is expected to come to, and its chance to beat the best by then."""

    trial: int
    expected_loss: float
    chance: float


@dataclass(frozen=True, slots=True)
class Next:
    """The most promising new configuration (None where no more are wanted), and the paused trial that beats it."""

    params: Params | None
    resume: Arm | None


@dataclass(frozen=True, slots=True)
class _View:
    """Everything that one choice looks at."""

    source: Forecaster
    state: State
    process: Process  # which believes in what running trials are expected to come to
    rng: np.random.Generator
    horizon: int

    @property
    def best(self) -> float:
        """The best so far, on the scale."""
        return float(self.state.target.min())

    def promise(self, belief: Belief, epochs: Floats | float) -> Floats:
        """Log of the expected improvement on the best for each of the `epochs` that it takes."""
        return np.asarray(log_expected_improvement(belief, self.best) - np.log(epochs))


class Chooser:
    """Chooses for one problem; a pure function of each history, with the last answer kept."""

    def __init__(self, problem: Problem) -> None:
        self.problem = problem
        self._known: tuple[tuple[object, ...], Next | None] | None = None

    def choose(self, history: History, judged: int | None = None, *, is_drained: bool = False) -> Next | None:
        """What to train next; None while too little is known.

        The trial `judged` counts as paused; `is_drained` says that no new configuration will come.
        """
        alive = history.unfinished()
        running = [t for t in alive if t.status in (Status.RUNNING, Status.PENDING) and t.number != judged]
        arms = [t for t in alive if t.status is Status.PAUSED or t.number == judged]
        is_drained = is_drained or len(history.trials) >= (self.problem.max_trials or math.inf)
        seen = len(history.observed), len(history.trials), is_drained
        key = (seen, tuple(t.number for t in running), tuple((t.number, t.status) for t in arms))
        if self._known is None or self._known[0] != key:
            with one_thread():
                self._known = key, self._choose(history, running, arms, is_drained=is_drained)
        return self._known[1]

    def _choose(self, history: History, running: list[Trial], arms: list[Trial], *, is_drained: bool) -> Next | None:
        seed = [self.problem.seed, len(history.observed), len(history.trials), len(running)]
        rng = np.random.default_rng(seed)
        source = forecaster(self.problem, history)
        state = source.state(history, self._weights(rng))
        if state is None:
            return None
        if not is_drained and rng.random() < RANDOM_SHARE:
            return Next(self.problem.space.sample(rng), None)
        horizon = int(rng.integers(1, source.max_epochs + 1)) if len(self.problem.rungs) > 1 else source.max_epochs
        view = _View(source, state, source.believing(state, running), rng, horizon)
        params, least = (None, -math.inf) if is_drained else _new(view)
        return Next(params, _best_arm(view, [t for t in arms if t.number in state.places], least))

    def _weights(self, rng: np.random.Generator) -> Floats | None:
        """Of the objectives, drawn anew each time, so that all of the Pareto front is searched (ParEGO)."""
        count = len(self.problem.objectives.objectives)
        return None if count == 1 else rng.dirichlet(np.ones(count))


def _best_arm(view: _View, arms: list[Trial], least: float) -> Arm | None:
    """The arm that promises most, if it promises at least so much."""
    from scipy.special import ndtr

    last = view.source.max_epochs
    arms = [t for t in arms if t.epoch < last]
    if not arms:
        return None
    rows = np.array([view.state.places[t.number] for t in arms], dtype=np.intp)
    epochs = np.array([t.epoch for t in arms], dtype=float)
    ahead = np.minimum(epochs + view.horizon, last)
    promises = view.promise(view.process.of_trials(rows, view.source.times(ahead)), ahead - epochs)
    promises += np.where([t.status is Status.RUNNING for t in arms], math.log(PAUSE_COST), 0.0)
    i = int(np.argmax(promises))
    if promises[i] < least:
        return None
    final = view.state.finals([arms[i].number])
    loss = float(view.state.scale.inverse(final.mean)[0])
    return Arm(arms[i].number, loss, float(ndtr((view.best - final.mean) / final.deviation)[0]))


def _new(view: _View) -> tuple[Params, float]:
    """The new configuration that promises most, and how much."""
    time = float(view.source.times(np.array([float(view.horizon)]))[0])
    units, beliefs = candidates(view.source, view.state, view.process, time, view.rng)
    promises = view.promise(beliefs, view.horizon * NEW_COST)
    promises = np.where(_is_known(view, units), -np.inf, promises)
    i = int(np.argmax(promises))
    return view.source.features.params(units[i]), float(promises[i])


def _is_known(view: _View, units: Floats) -> NDArray[np.bool_]:
    """Which of the points some trial has: there is nothing new to try there."""
    known = {row.tobytes() for row in view.process.points.features.round(DIGITS)}
    return np.array([row.tobytes() in known for row in view.source.features.of(units).round(DIGITS)], dtype=bool)


def candidates(
    source: Forecaster, state: State, process: Process, time: float, rng: np.random.Generator
) -> tuple[Floats, Belief]:
    """Points of the unit cube, refined towards what improves most on the best, and what they would show at `time`."""
    features, best = source.features, float(state.target.min())
    expected = state.expected_finals()
    centres = state.table.units[np.argsort(expected, kind="stable")[:CENTRES]]
    units = np.concatenate([rng.random((UNIFORM, centres.shape[1])), features.neighbours(centres, NEAR, rng)])
    units = features.canonical(units)
    means = process.means_of_new(features.of(units), time)
    units = units[_screened(means, rng)]
    belief = process.of_new(features.of(units), time)
    for turn in range(ROUNDS):
        kept = np.argsort(-log_expected_improvement(belief, best), kind="stable")[:KEPT]
        steps = features.steps(units[kept], REFINED, rng)
        near = features.canonical(np.concatenate([steps, features.neighbours(units[kept], JUMPS, rng, 0.5**turn)]))
        units = np.concatenate([units[kept], near])
        belief = belief.take(kept).joined(process.of_new(features.of(near), time))
    return units, belief


def _screened(means: Floats, rng: np.random.Generator) -> NDArray[np.intp]:
    some = rng.integers(len(means), size=SCREENED // 2)
    return np.union1d(np.argsort(means, kind="stable")[:SCREENED], some)


def log_expected_improvement(belief: Belief, best: float) -> Floats:
    """Logarithm of E[max(0, best - y)], exact far into the tail (Ament et al., 2023)."""
    from scipy.special import erfcx, ndtr

    gap = (best - belief.mean) / belief.deviation
    density = -0.5 * gap * gap - 0.5 * math.log(2 * math.pi)  # its logarithm
    left = np.minimum(gap, -1.0)  # where 1 and the product of the gap with Mills' ratio cancel
    within = np.maximum(left, -FAR)
    below = np.log1p(within * math.sqrt(math.pi / 2) * erfcx(-within / math.sqrt(2)))
    far = -2 * np.log(-left)
    right = np.maximum(gap, -1.0)
    above = np.log(right * ndtr(right) + np.exp(-0.5 * right * right) / math.sqrt(2 * math.pi))
    tail = density + np.where(gap > -FAR, below, far)
    return np.asarray(np.log(belief.deviation) + np.where(gap > -1.0, above, tail))


def expected_improvement(problem: Problem, history: History) -> float | None:
    """By how much the best new configuration, trained to the end, is expected to improve on the best loss so far.

    In units of the first objective; None while too little is known, or with several objectives.
    """
    if len(problem.objectives.objectives) > 1:
        return None
    with one_thread():
        source = forecaster(problem, history)
        state = source.state(history)
        if state is None:
            return None
        rng = np.random.default_rng([problem.seed, len(history.observed), len(history.trials)])
        end = float(source.times(np.array([float(source.max_epochs)]))[0])
        _, belief = candidates(source, state, state.process, end, rng)
        nodes, weights = np.polynomial.hermite_e.hermegauss(NODES)
        found = belief.mean[:, None] + belief.deviation[:, None] * nodes[None]
        gains = np.maximum(
            float(state.scale.inverse(np.array([state.target.min()]))[0]) - state.scale.inverse(found), 0
        )
        return float(np.max(gains @ weights) / math.sqrt(2 * math.pi))


def hopeless(problem: Problem, history: History, trials: list[Trial]) -> list[int]:
    """Those of `trials` that would, as sure as the forecast can be, not come to the best loss so far.

    Forecasts are surer of themselves than they should be, so one that is among the best at its own epoch is spared.
    """
    with one_thread():
        state = forecaster(problem, history).state(history)
        known = [] if state is None else [t.number for t in trials if t.number in state.places]
        if state is None or not known:
            return []
        final = state.finals(known)
        odds = (final.mean - state.target.min()) / final.deviation
        far = [number for number, gap in zip(known, odds, strict=True) if gap > HOPELESS]
    return [number for number in far if _is_behind(history, history.trials[number])]


def _is_behind(history: History, trial: Trial) -> bool:
    """Whether most of the trials that came as far as this one were better there."""
    others = history.observations_at(trial.epoch)
    own = others[trial.number]
    better = sum(other.dominates(own) for other in others.values())
    return better > max(LEAST_BETTER, BEHIND * len(others))


_choosers: WeakKeyDictionary[History, Chooser] = WeakKeyDictionary()


def chooser(problem: Problem, history: History) -> Chooser:
    """The chooser that a sweep's searcher and scheduler share, so that both mean the same choice."""
    found = _choosers.get(history)
    if found is None or found.problem is not problem:
        found = _choosers[history] = Chooser(problem)
    return found
