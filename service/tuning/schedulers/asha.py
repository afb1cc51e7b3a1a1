"""Scheduler `asha`: asynchronous successive halving, which stops (or never promotes) all but the best at each rung.

Li et al., A System for Massively Parallel Hyperparameter Tuning (MLSys 2020), with the stopping variant that Ray Tune,
Determined and Optuna use. Both variants decide on the whole rung: every value that was reported there so far.
"""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field, model_validator

from service.spec.objective import Objectives
from service.tuning.history import History, Trial
from service.tuning.rungs import diverged, ladder, paused, rung_crossed, rung_reached, standings
from service.tuning.strategy import Drop, Problem, Resume, RungOptions, Scheduler, Verdict

GOLDEN = 0.6180339887498949  # its multiples fill the unit interval evenly, however many are drawn
PLASTIC = 0.7548776662466927  # likewise, and unrelated to the golden ratio


class Options(RungOptions):
    """Options of the scheduler `asha`."""

    reduction_factor: int = Field(default=3, ge=2)
    """One of this many trials goes on at each rung, and each rung is this many times as far as the one before."""
    brackets: int = Field(default=1, ge=1)
    """Trials are spread over this many brackets; each skips one more of the first rungs than the one before."""
    variant: Literal["stopping", "promotion"] = "stopping"
    """`stopping` ends a trial at the rung where it falls behind; `promotion` pauses every trial at each rung and
    resumes those that turn out to be among the best, which spends less on trials that only came early."""

    @model_validator(mode="after")
    def _check_brackets(self) -> Self:
        most = len(rungs(self))
        if self.brackets > most:
            msg = f"brackets ({self.brackets}) must be at most {most}, the number of rungs {rungs(self)}"
            raise ValueError(msg)
        return self


def rungs(options: Options) -> tuple[int, ...]:
    """`grace_epochs` times the powers of `reduction_factor`, then `max_epochs`."""
    return ladder(options.grace_epochs, options.reduction_factor, options.max_epochs)


def reach(options: Options, trials: int) -> tuple[int, ...]:
    """Expected number of `trials` that reach each rung when they arrive in random order."""
    count = len(rungs(options))
    totals = [0] * count
    members = [0] * options.brackets
    for number in range(trials):
        members[_bracket(options, 0, number)] += 1
    for bracket, size in enumerate(members):
        going = size
        for i in range(count):
            totals[i] += going
            going = _survivors(going, options.reduction_factor) if i >= bracket else going
    return tuple(totals)


def _survivors(entries: int, factor: int) -> int:
    """The n-th to arrive is among the best `max(1, n // factor)` of n with that part of the probability."""
    return round(sum(max(1, n // factor) / n for n in range(1, entries + 1)))


def _bracket(options: Options, seed: int, trial: int) -> int:
    if options.brackets == 1:
        return 0
    top = len(rungs(options)) - 1
    sizes = [-(-(top + 1) * options.reduction_factor ** (top - b) // (top + 1 - b)) for b in range(options.brackets)]
    place = (trial * GOLDEN + seed * PLASTIC) % 1.0 * sum(sizes)
    return next((b for b in range(options.brackets) if place < sum(sizes[: b + 1])), options.brackets - 1)


def build(options: Options, problem: Problem) -> Scheduler:
    """ASHA in the variant that `options` names."""
    variant = Stopping if options.variant == "stopping" else Promotion
    return variant(options, problem.objectives, problem.seed)


class Asha:
    """What both variants share: which trials compete with each other, and their order on a rung."""

    def __init__(self, options: Options, objectives: Objectives, seed: int) -> None:
        self.rungs = rungs(options)
        self._options = options
        self._objectives = objectives
        self._seed = seed

    def _standings(
        self, history: History, bracket: int, rung: int, *, by_layer: bool = False
    ) -> list[tuple[float, int]]:
        trials = history.trials
        if self._options.brackets > 1:
            trials = [t for t in trials if self._bracket(t.number) == bracket]
        return standings(self.rungs[bracket:], rung, trials, self._objectives, by_layer=by_layer)

    def _bracket(self, number: int) -> int:
        return _bracket(self._options, self._seed, number)

    def _crossed(self, trial: Trial, epoch: int) -> int | None:
        return rung_crossed(self.rungs[self._bracket(trial.number) :], trial, epoch)


class Stopping(Asha):
    """Decides once per rung, when a trial arrives there: it goes on when among the top 1/reduction_factor so far.

    The best so far goes on also where fewer than reduction_factor came (with several objectives, whatever no other
    dominates), and so do those that tie with the last kept.
    """

    def judge(self, history: History, trial: int, epoch: int) -> Verdict:
        """Stop at a rung when behind."""
        own = history.trials[trial]
        if diverged(own, epoch):
            return Verdict("stop", "diverged")
        rung = self._crossed(own, epoch)
        if rung is None or rung >= self.rungs[-1]:
            return Verdict("continue", "")
        table = self._standings(history, self._bracket(trial), rung)
        if len(table) < self._options.reduction_factor:  # too few to spread over a front: all of the first one go on
            table = self._standings(history, self._bracket(trial), rung, by_layer=True)
        kept = max(1, len(table) // self._options.reduction_factor)
        score = next(score for score, number in table if number == trial)
        place = 1 + sum(other < score for other, _ in table)
        reason = f"rung {rung}: place {place} of {len(table)}, {kept} go on"
        return Verdict("continue" if score <= table[kept - 1][0] else "stop", reason)

    def release(self, history: History, *, is_drained: bool) -> list[Resume | Drop]:  # noqa: ARG002  # never waits
        """Whatever else paused a trial, it goes on at once."""
        return [Resume(t.number, t.number, t.params, "nothing to wait for") for t in paused(history)]


class Promotion(Asha):
    """Pauses trials at every rung; the best 1/reduction_factor of a rung go on, highest rung first.

    Once no new trial comes and nothing runs, the best of each rung goes on even where it is alone, so that one trial
    at least is trained to the end; what is left then is dropped.
    """

    def judge(self, history: History, trial: int, epoch: int) -> Verdict:
        """Pause at a rung, unless this very trial would be the next to be resumed."""
        own = history.trials[trial]
        if diverged(own, epoch):
            return Verdict("stop", "diverged")
        rung = self._crossed(own, epoch)
        if rung is None or rung >= self.rungs[-1]:
            return Verdict("continue", "")
        waiting = [*paused(history), own]
        first = next(iter(self._promotable(history, waiting, least=0)), None)
        if first is not None and first[1] == trial:
            return Verdict("continue", f"rung {rung}: promoted at once")
        return Verdict("pause", f"rung {rung}: waits for promotion")

    def release(self, history: History, *, is_drained: bool) -> list[Resume | Drop]:
        """Promote what is among the best of its rung by now."""
        waiting = paused(history)
        is_last = is_drained and len(waiting) == len(history.unfinished())
        found = self._promotable(history, waiting, least=0)
        if not found and is_last:
            found = self._promotable(history, waiting, least=1)
        if not found and is_last:
            return [Drop(t.number, f"rung {self._rung(t)}: never promoted") for t in waiting]
        return [
            Resume(number, number, history.trials[number].params, f"rung {rung}: among the best {kept} of {size}")
            for rung, number, kept, size in found
        ]

    def _rung(self, trial: Trial) -> int:
        return rung_reached(self.rungs[self._bracket(trial.number) :], trial.epoch) or 0

    def _promotable(self, history: History, waiting: list[Trial], *, least: int) -> list[tuple[int, int, int, int]]:
        """(rung, trial, promoted, size) of the `waiting` trials that may go on, most urgent first."""
        found = []
        ready = {t.number: self._rung(t) for t in waiting}
        places = {(rung, self._bracket(number)) for number, rung in ready.items()}
        for rung, bracket in sorted(places, key=lambda place: (-place[0], place[1])):
            table = self._standings(history, bracket, rung)
            kept = max(least, len(table) // self._options.reduction_factor)
            found += [(rung, number, kept, len(table)) for _, number in table[:kept] if ready.get(number) == rung]
        return found
