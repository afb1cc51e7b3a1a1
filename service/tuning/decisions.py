"""What a sweep does next: pure decisions over its history, with no clock, file, process or Ray in them.

Each method answers with events. Whoever calls commits them to the ledger, folds them into the history, and only then
acts. The same history gives the same events, so a sweep is rebuilt by replaying its ledger.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Final, Literal, TypeVar

import numpy as np

from service.spec.space import Space
from service.tuning.answers import Finished, Start, Wait
from service.tuning.events import (
    AttemptEnded,
    AttemptStarted,
    Checkpoint,
    CheckpointSaved,
    CheckpointsDropped,
    Event,
    HeldOutStarted,
    Params,
    Reported,
    SearchEnded,
    TrialEnded,
    TrialProposed,
)
from service.tuning.feasibility import certain_violation
from service.tuning.held_out import next_test
from service.tuning.history import History, Status, Trial
from service.tuning.limits import Limits, Over, headline, over
from service.tuning.racing import Race
from service.tuning.stopping import Outlook
from service.tuning.strategy import Drop, Resume, Scheduler, Searcher, Verdict

log: Final = logging.getLogger(__name__)
MAX_INTERRUPTIONS: Final = 20  # lost workers are not the trial's fault, but a trial that kills every worker must end
MAX_LOSSES_IN_A_ROW: Final = 5  # with no report between them: then it is the trial that ends its workers
ASKS: Final = 3  # a searcher or scheduler that raises is asked again: what made it raise may have passed
FailureKind = Literal["user", "hung", "fatal", "memory", "infrastructure", "interrupted", "checkpoint"]
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Arrival:
    """One epoch of an attempt as it comes in from a worker, before anything is decided on it."""

    trial: int
    attempt: int
    epoch: int
    metrics: dict[str, float]
    seconds: float
    checkpoint: Checkpoint | None
    diverged: bool = False


@dataclass(slots=True)
class Decider:
    """Searcher, scheduler and limits of one sweep, asked in turn. Holds no state of its own but caches."""

    searcher: Searcher
    scheduler: Scheduler
    limits: Limits
    history: History
    first_points: Sequence[tuple[str, Params]] = ()  # (source, params): defaults and start points, tried in this order
    space: Space | None = None  # what is proposed is held against it, and drawn from it where the searcher fails
    seed: int = 0
    warnings: list[str] = field(default_factory=list)
    is_suggestion: Callable[[History, Params], bool] | None = None  # whether an earlier sweep suggested a proposal
    outlook: Outlook = field(default_factory=Outlook)
    race: Race | None = None  # where a configuration may be trained on several folds or seeds
    tests: bool = False  # whether the winner is tested on held-out data
    _is_exhausted: bool = field(default=False, init=False)

    def start(self, elapsed_s: float) -> Start | Wait | Finished:
        """What an idle worker shall do; `elapsed_s` is the sweep's active time."""
        reason = self._over(elapsed_s)
        if reason is not None:
            return self._wind_down(*reason)
        waiting = next((t for t in self.history.unfinished() if t.status is Status.PENDING), None)
        if waiting is not None:
            return Start((self._attempt(waiting, waiting.params, waiting.latest_checkpoint, _retry_reason(waiting)),))
        events, resume = self._release()
        if resume is not None:
            return Start((*events, resume))
        fresh = self._further_fit() or (None if self._is_drained() else self._propose())
        if fresh is not None:
            return Start((*events, *fresh))
        return self._idle(events)

    def look_ahead(self) -> None:
        """Find out whether the search space is used up, as an idle worker does for whom nothing is paused."""
        if not self._is_drained() and self.history.configurations >= len(self.first_points):
            self._is_exhausted = self._search()[1] is None

    def report(self, arrival: Arrival, elapsed_s: float) -> list[Event]:
        """The events of one report, first the Reported with its verdict; none for an attempt that is not current."""
        trial = self.history.trials[arrival.trial]
        if trial.status is not Status.RUNNING or arrival.attempt != trial.attempt:
            return []
        if arrival.epoch <= trial.epoch:  # trained again after a restore: already on record
            return [CheckpointSaved(trial.number, trial.attempt, arrival.checkpoint)] if arrival.checkpoint else []
        self.history.observe(arrival.trial, arrival.epoch, arrival.metrics, arrival.seconds)
        verdict, over = self._judge(arrival, elapsed_s)
        report = Reported(
            arrival.trial, arrival.attempt, arrival.epoch, arrival.metrics, arrival.seconds, arrival.checkpoint,
            verdict.action, verdict.reason, arrival.diverged,
        )  # fmt: skip
        return [report, *self._after(report), *([] if over is None else self._told(over))]

    def attempt_over(self, number: int, attempt: int) -> list[Event]:
        """The events of a fit that ended by itself, before `max_epochs`."""
        trial = self.history.trials[number]
        if trial.status is not Status.RUNNING or attempt != trial.attempt:
            return []
        if not trial.curve:
            cause = "the fit ended without a single report: does it validate, and log the metric?"
            return [AttemptEnded(number, attempt, "user", cause), TrialEnded(number, "failed", cause)]
        cause = f"the fit ended by itself after epoch {trial.epoch}"
        return [AttemptEnded(number, attempt, "finished"), TrialEnded(number, "completed", cause)]

    def attempt_failed(self, number: int, attempt: int, kind: FailureKind, cause: str) -> list[Event]:
        """The events of an attempt that broke: the trial is tried again, or has failed."""
        trial = self.history.trials[number]
        if trial.status is not Status.RUNNING or attempt != trial.attempt:
            return []
        ended = AttemptEnded(number, attempt, kind, cause)
        if kind in ("user", "hung"):
            is_final = trial.restarts >= self.limits.max_restarts
        elif kind in ("infrastructure", "interrupted", "checkpoint"):
            is_final = trial.interruptions >= MAX_INTERRUPTIONS or trial.losses_in_a_row >= MAX_LOSSES_IN_A_ROW
        else:
            is_final = True
        return [ended, TrialEnded(number, "failed", cause)] if is_final else [ended]

    def checkpoint_lost(self, number: int, attempt: int, path: str, cause: str) -> list[Event]:
        """The events of an attempt that could not start from its checkpoint: set aside, the one before it is next."""
        failed = self.attempt_failed(number, attempt, "checkpoint", cause)
        return [CheckpointsDropped((path,)), *failed] if failed else []

    def _judge(self, arrival: Arrival, elapsed_s: float) -> tuple[Verdict, Over | None]:
        """The verdict on a report, and why the search is over where it is that."""
        if arrival.diverged:
            return Verdict("stop", "diverged"), None
        if arrival.epoch >= self.limits.max_epochs:
            return Verdict("stop", "trained to the end"), None
        over = self._over(elapsed_s)
        return (self._by_scheduler(arrival), None) if over is None else (Verdict("stop", over[1]), over)

    def _by_scheduler(self, arrival: Arrival) -> Verdict:
        if self.race is None:
            judge = partial(self.scheduler.judge, self.history, arrival.trial, arrival.epoch)
        else:
            judge = partial(self.race.judge, self.scheduler, self.history, arrival.trial, arrival.epoch)
        verdict = self._ask(judge, "scheduler") or Verdict("continue", "the scheduler failed")
        if verdict.action == "stop" or getattr(self.scheduler, "changes_params", False):
            return verdict  # with other parameters the trial may keep its limits yet
        broken = self._certain_violation(arrival)
        return verdict if broken is None else Verdict("stop", broken)

    def _certain_violation(self, arrival: Arrival) -> str | None:
        if self.race is None:
            return certain_violation(self.history, arrival.trial, arrival.epoch)
        if self.history.trials[arrival.trial].repeats is not None:
            return None  # trained to its end: what it breaks counts in its configuration's mean
        seen = self.race.first_fits(self.history)
        return certain_violation(seen, seen.place[arrival.trial], arrival.epoch)

    @property
    def _shown(self) -> History:
        """The history in which each configuration is one trial."""
        return self.history if self.race is None else self.race.first_fits(self.history)

    @property
    def _estimated(self) -> History:
        """The history as searchers see it."""
        return self.history if self.race is None else self.race.estimates(self.history)

    def expected_gain(self) -> float | None:
        """What the next trial is expected to improve the best by; None while unknown."""
        return self._ask(partial(self.outlook.latest, self._shown), "searcher")

    def _over(self, elapsed_s: float) -> Over | None:
        said = self.history.search_ended
        if said is not None:
            return said.ending, said.reason
        expected: tuple[float | None, ...] = ()
        if self.limits.min_expected_improvement is not None:
            expected = self._ask(partial(self.outlook.expected, self._shown), "searcher") or ()
        reason = over(self.history, self.limits, elapsed_s, expected, self._shown)
        target = None if reason is not None or self.race is None else self.race.over(self.history)
        return reason if target is None else ("completed", target)

    def _further_fit(self) -> tuple[Event, Event] | None:
        return None if self.race is None else self.race.next_fit(self.history, is_drained=self._is_drained())

    def _after(self, report: Reported) -> list[Event]:
        number, attempt = report.trial, report.attempt
        if report.action == "continue":
            return []
        if report.action == "pause":
            return [AttemptEnded(number, attempt, "paused", report.reason)]
        if report.diverged:
            cause = f"the objective was not finite at epoch {report.epoch}"
            return [AttemptEnded(number, attempt, "diverged", cause), TrialEnded(number, "diverged", cause)]
        if report.epoch >= self.limits.max_epochs:
            return [AttemptEnded(number, attempt, "finished"), TrialEnded(number, "completed")]
        return [AttemptEnded(number, attempt, "stopped"), TrialEnded(number, "stopped", report.reason)]

    def _is_drained(self) -> bool:
        limit = self.limits.max_trials
        return self._is_exhausted or (limit is not None and self.history.configurations >= limit)

    def _release(self) -> tuple[list[Event], AttemptStarted | None]:
        """What ends here, and the first paused trial that goes on. Asked once more when proposing has dried up."""
        events: list[Event] = []
        is_drained = self._is_drained()
        if self.race is None:
            release_all = partial(self.scheduler.release, self.history, is_drained=is_drained)
        else:
            release_all = partial(self.race.release, self.scheduler, self.history, is_drained=is_drained)
        for release in self._ask(release_all, "scheduler") or ():
            if isinstance(release, Drop):
                events.append(TrialEnded(release.trial, "stopped", release.reason))
            else:
                return events, self._resume(release)
        return events, None

    def _resume(self, release: Resume) -> AttemptStarted:
        donor = self.history.trials[release.donor]
        trial = self.history.trials[release.trial]
        return self._attempt(trial, release.params, donor.latest_checkpoint, release.reason)

    def _propose(self) -> tuple[Event, Event] | None:
        number, place = len(self.history.trials), self.history.configurations
        if place < len(self.first_points):
            source, params = self.first_points[place]
            proposed = TrialProposed(number, params, source)
        else:
            source, found = self._search()
            if found is None:
                self._is_exhausted = True
                return None
            if self.is_suggestion is not None and self.is_suggestion(self._estimated, found):
                proposed = TrialProposed(number, found, "warm_start")  # the searcher goes on where it was
            else:
                proposed = TrialProposed(number, found, source, self.history.proposals)
        return proposed, AttemptStarted(number, 1, proposed.params, None, "new")

    def _search(self) -> tuple[str, Params | None]:
        """(source, params) of a proposal, always inside the space; the params are None once the space is used up."""
        answered, found = False, None
        history = self._estimated
        for _ in range(ASKS):
            try:
                found, answered = self.searcher.propose(history), True
            except Exception as error:  # noqa: BLE001  # a searcher's fault must not end the sweep
                self._warn("searcher", error)
                continue
            problems = [] if found is None or self.space is None else self.space.problems(found)
            if not problems:
                return "searcher", found
            self._warn("searcher", ValueError(f"it proposed a point outside the search space: {problems[0]}"))
        if self.space is None:
            msg = f"the searcher {'left the search space' if answered else 'failed'} {ASKS} times in a row"
            raise RuntimeError(msg)
        return "random", self.space.sample(np.random.default_rng([self.seed, self.history.proposals, ASKS]))

    def _ask(self, question: Callable[[], T], whom: str) -> T | None:
        """The answer to `question`, or None where it raises again and again."""
        for _ in range(ASKS):
            try:
                return question()
            except Exception as error:  # noqa: BLE001  # a scheduler's fault must not end the sweep
                self._warn(whom, error)
        return None

    def _warn(self, whom: str, error: Exception) -> None:
        text = f"the {whom} failed: {type(error).__name__}: {error}"
        log.warning(text, exc_info=error)
        if text not in self.warnings:
            self.warnings.append(text)

    def _attempt(self, trial: Trial, params: Params, checkpoint: Checkpoint | None, reason: str) -> AttemptStarted:
        return AttemptStarted(trial.number, trial.attempt + 1, params, checkpoint, reason)

    def _idle(self, events: list[Event]) -> Start | Wait | Finished:
        if events and self._is_drained():
            return Wait(tuple(events))
        if self._is_drained():  # proposing may have dried up just now: what waits for others goes on
            events, resume = self._release()
            if resume is not None:
                return Start((*events, resume))
            last = self._last_fit()
            if last is not None:
                return Start((*events, *last))
        ending = {e.trial for e in events if isinstance(e, TrialEnded)}
        alive = [t for t in self.history.unfinished() if t.number not in ending]
        if any(t.status is Status.RUNNING for t in alive) or not self._is_drained():
            return Wait(tuple(events))
        events += [TrialEnded(t.number, "stopped", "never promoted") for t in alive]
        limit = self.limits.max_trials
        reason = "the search space is used up" if self._is_exhausted else f"all {limit} trials are done"
        if self.tests:
            return Wait((*events, SearchEnded("completed", reason)))
        return Finished("completed", reason, tuple(events))

    def _last_fit(self) -> tuple[Event, Event] | None:
        """What is still worth training when no new configuration comes: further fits, then those on fresh seeds."""
        if self.race is None:
            return None
        return self._further_fit() or self.race.next_final(self.history)

    def _wind_down(self, ending: Literal["completed", "failed"], reason: str) -> Start | Wait | Finished:
        idle = [t for t in self.history.unfinished() if t.status is not Status.RUNNING]
        ended = [TrialEnded(t.number, "stopped", reason) for t in idle]
        events: tuple[Event, ...] = (*self._told((ending, reason)), *ended)
        if self.history.counts[Status.RUNNING]:
            return Wait(events)
        if not self.tests or ending == "failed":
            return Finished(ending, reason, events)
        return Wait(events) if events else self._test(reason)

    def _told(self, over: Over) -> list[SearchEnded]:
        """The word that the search is over, once, so that no later report takes it back."""
        return [] if self.history.search_ended else [SearchEnded(*over)]

    def _test(self, reason: str) -> Start | Wait | Finished:
        """The search is over: what is left is the winner's test."""
        event = next_test(self.history)
        if isinstance(event, HeldOutStarted):
            return Start((event,))
        if event is None and not self.history.tests.is_running:
            return Finished("completed", reason)
        return Wait(() if event is None else (event,))


def _retry_reason(trial: Trial) -> str:
    if trial.attempt == 0:
        return "new"
    return f"retry {trial.attempt} after: {headline(trial.cause)}"
