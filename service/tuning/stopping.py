"""Rules that end a sweep because going on no longer pays: a plateau, and an expected improvement that is too small.

Both look at one number per trial, lower is better: the loss of its best epoch; with several objectives its distance
from the chosen compromise, in spans of the Pareto front. Trials without a result that counts have +inf. A plateau
counts trials that pause, too; an expected improvement is estimated from those that are over.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final, cast

from service.spec.objective import Objectives, Observation
from service.tuning.events import AttemptStarted, Ending, Event, Record, Reported, TrialEnded, TrialProposed
from service.tuning.expected_gain import expected_gain
from service.tuning.history import History, Status, Trial, best_epoch_of
from service.tuning.strategy import Estimates

IN_A_ROW: Final = 5  # finished trials after each of which the estimate has to be too small: one estimate is noisy
_BROKEN: Final = (Status.DIVERGED, Status.FAILED)


def results(history: History) -> dict[int, float]:
    """One number per trial that has reported, lower is better; +inf for those that broke or keep no constraint."""
    trials = [t for t in history.trials if t.curve and t.status not in _BROKEN]
    found = _scores(history.objectives, [t.curve[t.best_epoch] for t in trials])
    return {t.number: score for t, score in zip(trials, found, strict=True)}


def _scores(objectives: Objectives, seen: list[Observation]) -> list[float]:
    return [s if o.violation == 0 else math.inf for s, o in zip(objectives.preference(seen), seen, strict=True)]


def plateau(history: History, trials: int, min_delta: float, full_epochs: int) -> str | None:
    """Why the sweep is on a plateau: the best has not become better by more than `min_delta` over so many trials.

    A trial counts once it has had its chance: when it first pauses at a rung, or ends without having failed. While the
    best trial may still go on, at least `full_epochs` epochs, a full training, have to have been reported, too: it
    could have been trained to its end meanwhile. `min_delta` is in the metric's own unit; with several objectives in
    spans of the front. None while it is not.
    """
    chances = list(history.tried.values())
    if len(chances) <= trials:
        return None
    now = {t.number: t.curve[t.best_epoch] for t in history.trials if t.curve and t.status not in _BROKEN}
    scores = dict(zip(now, _scores(history.objectives, list(now.values())), strict=True))
    leader = min(scores, key=scores.__getitem__, default=None)
    if leader is None:
        return None
    since = chances[-trials - 1]
    if not history.trials[leader].status.is_over:
        since = min(since, len(history.observed) - full_epochs)
    then = list(_best_by(history, since).values())
    found = _scores(history.objectives, [*then, *now.values()])
    before = min(found[: len(then)], default=math.inf)
    if not math.isfinite(before):
        return None  # nothing to improve on yet
    gain = before - min(found[len(then) :])
    if gain > min_delta:
        return None
    name = best_name(history.objectives)
    return (
        f"the best {name} became better by {gain:.4g} over the last {trials} trials, plateau.min_delta is {min_delta:g}"
    )


def _best_by(history: History, count: int) -> dict[int, Observation]:
    """What counted for each trial when so many epochs had been reported in all."""
    later = {number for number, _ in history.observed[max(count, 0) :]}
    curves: dict[int, dict[int, Observation]] = {}
    best: dict[int, int] = {}
    for number, epoch in history.observed[: max(count, 0)]:
        trial = history.trials[number]
        if trial.status in _BROKEN:
            continue
        if number not in later:
            best[number] = trial.best_epoch
            continue
        curve = curves.setdefault(number, {})
        curve[epoch] = trial.curve[epoch]
        best[number] = best_epoch_of(history.objectives, curve, epoch, best.get(number, 0))
    return {number: history.trials[number].curve[epoch] for number, epoch in best.items()}


def best_name(objectives: Objectives) -> str:
    """What the rules of this file call the thing that becomes better."""
    return objectives.objectives[0].name if objectives.is_single else "compromise (in spans of the front)"


def too_little(expected: tuple[float | None, ...], least: float, objectives: Objectives) -> str | None:
    """Why the next trial does not pay: `expected` after each of the last trials is below `least`; None while it may."""
    known = [gain for gain in expected if gain is not None]
    if len(known) < IN_A_ROW or any(gain >= least for gain in known):
        return None
    return (
        f"the next trial is expected to improve the best {best_name(objectives)} by {known[-1]:.4g}, and after each of "
        f"the last {len(known)} trials it was less than the {least:g} of min_expected_improvement"
    )


@dataclass(slots=True)
class Outlook:
    """What the next trial is expected to gain, after each of the last finished trials.

    By what the finished trials gained, and by the searcher's own `model` where it has one: the smaller of both, since
    a model that is asked for its most promising point is too hopeful of it. An estimate is made of the first n trials
    to end, each as a whole, so that it is the same whenever it is made. Holds nothing but caches.
    """

    model: Estimates | None = None
    _view: History | None = field(default=None, init=False)
    _source: History | None = field(default=None, init=False)
    _known: dict[int, float | None] = field(default_factory=dict, init=False)

    def expected(self, history: History) -> tuple[float | None, ...]:
        """The newest estimates, at most 5, the last one after all trials that are over; None where nothing is known."""
        counts = range(max(0, len(history.endings) - IN_A_ROW) + 1, len(history.endings) + 1)
        found, over = results(history), history.endings
        losses = [found.get(n, math.inf) for n in over]
        is_failed = [history.trials[n].status is Status.FAILED for n in over]
        tried = [[x for x, failed in zip(losses[:c], is_failed, strict=False) if not failed] for c in counts]
        gains = tuple(map(expected_gain, tried))
        if self.model is None or not history.objectives.is_single:
            return gains
        return tuple(_smaller(gain, self._by_model(history, c)) for gain, c in zip(gains, counts, strict=True))

    def latest(self, history: History) -> float | None:
        """The estimate after all trials that are over; None while nothing is known."""
        return next(reversed(self.expected(history)), None)

    def _by_model(self, history: History, count: int) -> float | None:
        if history is not self._source:
            self._source, self._view, self._known = history, None, {}
        if count not in self._known and self.model is not None:
            self._known[count] = self.model.expected_improvement(self._first(history, count))
        return self._known.get(count)

    def _first(self, history: History, count: int) -> History:
        """A history of the first `count` trials to end, as if each had been carried out by itself."""
        view = self._view
        if view is None or len(view.endings) > count:
            view = self._view = History(history.objectives)
        for number in history.endings[len(view.endings) : count]:
            for event in _life(history.trials[number], len(view.trials)):
                view.apply(Record(view.sequence, history.trials[number].ended_at or 0.0, event))
        return view


def _smaller(gain: float | None, other: float | None) -> float | None:
    return min(gain, other) if gain is not None and other is not None else gain if other is None else other


def _life(trial: Trial, number: int) -> Iterator[Event]:
    yield TrialProposed(number, trial.params, trial.source, trial.proposal)
    yield AttemptStarted(number, 1, trial.params, None, "new")
    epochs = sorted(trial.metrics)
    for epoch in epochs:
        seconds = trial.seconds * epoch / epochs[-1]
        yield Reported(number, 1, epoch, trial.metrics[epoch], seconds, None, "continue", "")
    yield TrialEnded(number, cast("Ending", str(trial.status)), trial.cause)
