"""What searchers and schedulers see of a sweep with folds or seeds: a history in which a configuration is a trial.

Its curve is that of its first fit, so that a scheduler compares within one fold. For searchers the luck of that fit can
be taken out: the whole curve is shifted to where the configuration's own mean would be in that fold.
"""

from __future__ import annotations

import bisect
import itertools
from collections.abc import Mapping

from service.spec.objective import Observation
from service.tuning.history import History, Trial

OF_THE_SWEEP = (
    "sequence", "lease_epoch", "spec", "sweep_id", "started_at", "at", "active_s", "ended", "paused", "proposals",
    "epochs_trained", "train_seconds", "search_ended",
)  # fmt: skip


class FirstFits(History):
    """Kept up by `catch_up`; a function of the history that it follows, however often it was called in between.

    `shifts` are added to the losses of the configurations given by the number of their first fit; they must be over.
    """

    def __init__(self, history: History, shifts: Mapping[int, float] | None = None) -> None:
        super().__init__(history.objectives)
        self.of_history, self._shifts = history, dict(shifts or {})
        self.numbers: list[int] = []  # the first fit of each configuration, in the history
        self.place: dict[int, int] = {}  # the inverse
        self._places_observed: list[int] = []  # of what is observed here, among what the history has
        self._read = self._seen = self._over = self._tried = 0

    def catch_up(self) -> FirstFits:
        """Take over what has happened since the last time."""
        history = self.of_history
        for name in OF_THE_SWEEP:
            setattr(self, name, getattr(history, name))
        for fit in history.trials[self._read :]:
            if fit.repeats is None:
                self._add(fit)
        self._read = len(history.trials)
        for place in list(self._alive):
            self._copy(history.trials[self.numbers[place]], self.trials[place])
        for i, (number, epoch) in enumerate(history.observed[self._seen :], self._seen):
            if number in self.place:
                self._places_observed.append(i)
                place = self.place[number]
                self.observed.append((place, epoch))
                self._by_epoch.setdefault(epoch, {})[place] = self.trials[place].curve[epoch]
        self._seen = len(history.observed)
        self.endings += [self.place[n] for n in history.endings[self._over :] if n in self.place]
        self._over = len(history.endings)
        for number, seen in itertools.islice(history.tried.items(), self._tried, None):
            if number in self.place:
                self.tried[self.place[number]] = bisect.bisect_left(self._places_observed, seen)
        self._tried = len(history.tried)
        return self

    def _add(self, fit: Trial) -> None:
        trial = Trial(len(self.trials), fit.params, fit.source, fit.proposal)
        self.place[fit.number] = trial.number
        self.numbers.append(fit.number)
        self.trials.append(trial)
        self._alive[trial.number] = trial
        self.counts[trial.status] += 1

    def _copy(self, fit: Trial, trial: Trial) -> None:
        place, before = trial.number, trial.status
        for name in Trial.__slots__:
            setattr(trial, name, getattr(fit, name))
        trial.number, trial.status = place, before
        shift = self._shifts.get(fit.number)
        if shift is not None:
            trial.curve = {epoch: _shifted(seen, shift) for epoch, seen in fit.curve.items()}
        self._move(trial, fit.status)
        if fit.status.is_over:
            del self._alive[place]


def _shifted(seen: Observation, shift: float) -> Observation:
    return Observation((seen.losses[0] + shift, *seen.losses[1:]), seen.violation)


def configurations_of(history: History) -> History:
    """The history with each configuration as one trial; `history` itself where it is so already."""
    return FirstFits(history).catch_up() if history.repeats else history
