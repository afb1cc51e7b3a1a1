"""Races: which configuration is trained on a further fold or seed, and which are clearly worse and are not.

A configuration whose first fit is complete goes on to its next fold unless it is clearly behind the best one, by a
paired test (see `race_model.py`). Nothing is final: as folds come in, one may turn out to be in the race again.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Final

from service.spec.objective import Objectives
from service.tuning.configurations import FINAL, standings_of
from service.tuning.events import AttemptStarted, Event, TrialProposed
from service.tuning.first_fits import FirstFits
from service.tuning.history import History, Status, Trial
from service.tuning.race_model import Cell, Standing
from service.tuning.strategy import Drop, Resume, Scheduler, Verdict

REPEAT: Final = "repeat"  # the source of a further fit
SCOUTS: Final = 2  # configurations that go on while the noise is not known: it takes two to know it


@dataclass(frozen=True, slots=True)
class RacePlan:
    """How often a configuration may be trained. `level`: a p-value below it is clearly worse.

    `final_seeds` fresh seeds are given to each of the best `finalists` that are not clearly worse, once nothing else is
    left. While new configurations still come, further fits are at most `share` of all first fits that are complete.
    """

    folds: int = 1
    seeds: int = 1
    final_seeds: int = 0
    finalists: int = 3
    level: float = 0.1
    share: float = 0.3

    @property
    def cells(self) -> list[Cell]:
        """(fold, seed index) of a configuration's fits, in their order."""
        return [(fold, seed) for seed in range(self.seeds) for fold in range(self.folds)]

    @property
    def final_cells(self) -> list[Cell]:
        """Those of a finalist's fits on fresh seeds."""
        seeds = range(self.seeds, self.seeds + self.final_seeds)
        return [(fold, seed) for seed in seeds for fold in range(self.folds)]


@dataclass(slots=True)
class Race:
    """The race of one sweep: a pure function of its history, with caches. `objectives` have the sweep's target."""

    plan: RacePlan
    objectives: Objectives
    _paired: FirstFits | None = field(default=None, init=False)
    _estimated: FirstFits | None = field(default=None, init=False)
    _shifts: dict[int, float] = field(default_factory=dict, init=False)

    def first_fits(self, history: History) -> FirstFits:
        """The history as schedulers see it: what first fits have shown, all in the same fold."""
        if self._paired is None or self._paired.of_history is not history:
            self._paired = FirstFits(history)
        return self._paired.catch_up()

    def estimates(self, history: History) -> History:
        """The history as searchers see it: with the luck of first fits taken out where further fits tell."""
        shifts = {s.configuration: s.shift for s in history.standings() if s.fits > 1}
        if not shifts:
            return self.first_fits(history)  # so that a searcher and a scheduler with one model share it
        if self._estimated is None or self._estimated.of_history is not history or shifts != self._shifts:
            self._estimated, self._shifts = FirstFits(history, shifts), shifts
        return self._estimated.catch_up()

    def judge(self, scheduler: Scheduler, history: History, number: int, epoch: int) -> Verdict:
        """The scheduler's verdict on a first fit; a further one is trained to its end."""
        if history.trials[number].repeats is not None:
            return Verdict("continue", "")
        seen = self.first_fits(history)
        return scheduler.judge(seen, seen.place[number], epoch)

    def release(self, scheduler: Scheduler, history: History, *, is_drained: bool) -> list[Resume | Drop]:
        """The scheduler's releases, by the numbers of fits."""
        seen = self.first_fits(history)
        return [_renumbered(release, seen.numbers) for release in scheduler.release(seen, is_drained=is_drained)]

    def next_fit(self, history: History, *, is_drained: bool) -> tuple[Event, Event] | None:
        """The further fit that is worth most now, begun; None where none is."""
        found = history.standings()
        if not is_drained and history.repeats >= self.plan.share * sum(s.fits > 0 for s in found):
            return None
        for standing in self._contenders(found):
            fits = history.fits_of(standing.configuration)
            if standing is not found[0] and any(not t.status.is_over for t in fits):
                continue  # what is under way may say that it is out
            cell = _missing(self.plan.cells, fits)
            if cell is not None:
                return _begun(history, fits[0], cell, REPEAT)
        return None

    def next_final(self, history: History) -> tuple[Event, Event] | None:
        """The next fit of a finalist on a fresh seed; None before all else is done, and after the last one."""
        if not self.plan.final_seeds:
            return None
        regular = [t for t in history.trials if t.source != FINAL]
        if any(t.status in (Status.RUNNING, Status.PENDING) for t in regular):
            return None
        finalists = [s.configuration for s in self._contenders(standings_of(regular))][: self.plan.finalists]
        for cell in self.plan.final_cells:
            for number in finalists:
                fits = history.fits_of(number)
                if all((t.fold, t.seed_index) != cell for t in fits):
                    return _begun(history, fits[0], cell, FINAL)
        return None

    def over(self, history: History) -> str | None:
        """Why the sweep has reached its target: by the mean over all folds and seeds, never by one lucky fit."""
        objective = self.objectives.objectives[0]
        for standing in history.standings() if objective.target is not None else ():
            is_whole = standing.fits >= len(self.plan.cells) and standing.violation == 0
            if is_whole and objective.reached(objective.value(standing.mean)):
                return f"trial {standing.configuration} reached the target by its mean over {standing.fits} fits"
        return None

    def _contenders(self, found: list[Standing]) -> Iterator[Standing]:
        for i, standing in enumerate(s for s in found if s.violation == 0):
            if (i < SCOUTS) if standing.behind is None else standing.behind >= self.plan.level:
                yield standing


def without_target(objectives: Objectives) -> Objectives:
    """The same, reached by nothing: what one fit shows must not end a sweep with several per configuration."""
    return replace(objectives, objectives=tuple(replace(o, target=None) for o in objectives.objectives))


def _missing(cells: list[Cell], fits: list[Trial]) -> Cell | None:
    had = {(t.fold, t.seed_index) for t in fits}
    return next((cell for cell in cells if cell not in had), None)


def _begun(history: History, first: Trial, cell: Cell, source: str) -> tuple[Event, Event]:
    number, (fold, seed) = len(history.trials), cell
    proposed = TrialProposed(number, first.params, source, repeats=first.number, fold=fold, seed_index=seed)
    return proposed, AttemptStarted(number, 1, first.params, None, f"fold {fold}, seed {seed} of trial {first.number}")


def _renumbered(release: Resume | Drop, numbers: list[int]) -> Resume | Drop:
    if isinstance(release, Drop):
        return replace(release, trial=numbers[release.trial])
    return replace(release, trial=numbers[release.trial], donor=numbers[release.donor])
