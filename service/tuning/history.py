"""A sweep's state as a fold over its ledger: what searchers, schedulers, tracking and reports read."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Final

from service.spec.objective import Objectives, Observation
from service.tuning.configurations import raced_ranking, standings_of
from service.tuning.events import (
    AttemptEnded,
    AttemptStarted,
    Checkpoint,
    CheckpointSaved,
    CheckpointsDropped,
    DriverStarted,
    Event,
    HeldOutEnded,
    HeldOutStarted,
    Params,
    Record,
    Reported,
    SearchEnded,
    SweepEnded,
    SweepExtended,
    SweepPaused,
    SweepStarted,
    TrialEnded,
    TrialProposed,
)
from service.tuning.held_out import HeldOutTests
from service.tuning.race_model import Standing

EPOCH_TOLERANCE: Final = 0.1  # between epochs of one trial, a loss that moves by less than this share is mostly noise


class Status(StrEnum):
    """Where a trial stands; the last four are its endings."""

    PENDING = "pending"
    RUNNING = "running"
    PAUSED = "paused"
    COMPLETED = "completed"
    STOPPED = "stopped"
    DIVERGED = "diverged"
    FAILED = "failed"

    @property
    def is_over(self) -> bool:
        """Whether the trial will never train again."""
        return self not in (Status.PENDING, Status.RUNNING, Status.PAUSED)


@dataclass(slots=True)
class Trial:
    """One configuration being trained, as far as the ledger tells. Only `History` writes to it.

    With folds or seeds it is one fit of a configuration: `repeats` is the number of the first one, None for that.
    """

    number: int
    params: Params
    source: str
    proposal: int
    repeats: int | None = None
    fold: int = 0
    seed_index: int = 0
    status: Status = Status.PENDING
    attempt: int = 0  # attempts started so far
    restarts: int = 0  # attempts that ended by the user's own exception, or hung
    interruptions: int = 0  # attempts that ended by something that is not the trial's fault
    losses_in_a_row: int = 0  # workers lost since the last sign of life
    epoch: int = 0  # the last one that was reported; 0 before the first
    curve: dict[int, Observation] = field(default_factory=dict)
    metrics: dict[int, dict[str, float]] = field(default_factory=dict)
    seconds: float = 0.0
    started_at: float | None = None
    ended_at: float | None = None
    checkpoints: list[Checkpoint] = field(default_factory=list)
    superseded: list[Checkpoint] = field(default_factory=list)  # replaced by others of the same epoch
    best_epoch: int = 0  # the epoch that counts for the trial, see `best_epoch_of`; 0 before the first report
    cause: str = ""
    phases: list[tuple[int, Params]] = field(default_factory=list)  # (epoch after which, params used from there on)

    @property
    def latest_checkpoint(self) -> Checkpoint | None:
        """The checkpoint of the highest epoch, or None."""
        return max(self.checkpoints, key=lambda c: c.epoch, default=None)

    def keep(self, checkpoint: Checkpoint) -> None:
        """Remember `checkpoint` in place of any other of its epoch."""
        same = [c for c in self.checkpoints if c.epoch == checkpoint.epoch]
        self.superseded += [c for c in same if c.path != checkpoint.path]
        self.checkpoints = [c for c in self.checkpoints if c.epoch != checkpoint.epoch] + [checkpoint]


def best_epoch_of(objectives: Objectives, curve: Mapping[int, Observation], epoch: int, best_epoch: int) -> int:
    """The epoch of `curve` that counts, now that `epoch` came to it and `best_epoch` (0: none) counted before.

    The best one, the earlier of equals; with several objectives the compromise among the trial's own epochs.
    """
    if best_epoch == 0:
        return epoch
    if objectives.is_single:
        return epoch if curve[epoch].dominates(curve[best_epoch]) else best_epoch
    if curve[best_epoch].dominates(curve[epoch]):
        return best_epoch
    epochs = sorted(curve)
    return epochs[objectives.compromise([curve[e] for e in epochs], EPOCH_TOLERANCE)]


class History:
    """All trials of a sweep in the order of their numbers, kept up by `apply`; everything else only reads it."""

    def __init__(self, objectives: Objectives) -> None:
        self.objectives = objectives
        self.trials: list[Trial] = []
        self.sequence = 0  # how many records have been applied
        self.lease_epoch = 0
        self.spec: dict[str, Any] | None = None
        self.sweep_id = ""
        self.started_at = 0.0
        self.at = 0.0  # time of the newest record
        self.active_s = 0.0  # time with a driver at work: pauses between drivers do not count
        self.search_ended: SearchEnded | None = None
        self.tests = HeldOutTests()  # of the winner, once the search is over
        self.ended: SweepEnded | None = None
        self.paused: SweepPaused | None = None
        self.proposals = 0  # how often the searcher itself has proposed
        self.epochs_trained = 0
        self.train_seconds = 0.0  # summed over all trials
        self.counts: dict[Status, int] = dict.fromkeys(Status, 0)
        self.endings: list[int] = []  # the trials that are over, in the order in which they ended
        self.tried: dict[int, int] = {}  # trial -> length of `observed` when it first paused or ended without failing
        self.target_reached_by: int | None = None
        self._alive: dict[int, Trial] = {}
        self._by_epoch: dict[int, dict[int, Observation]] = {}
        self.observed: list[tuple[int, int]] = []  # (trial, epoch), each once, in the order in which they came
        self.repeats = 0  # how many trials train a configuration once more
        self._repeats_of: dict[int, list[Trial]] = {}
        self._standings: tuple[int, list[Standing]] = (-1, [])  # with how many trials were over by then

    @classmethod
    def of(cls, objectives: Objectives, records: Iterable[Record]) -> History:
        """The state after `records`."""
        history = cls(objectives)
        for record in records:
            history.apply(record)
        return history

    def apply(self, record: Record) -> None:
        """Fold one record in."""
        if not isinstance(record.event, DriverStarted | SweepStarted) and self.at:
            self.active_s += max(0.0, record.at - self.at)
        self.sequence, self.at = record.sequence + 1, record.at
        self._apply(record.event, record.at)

    def _apply(self, event: Event, at: float) -> None:
        match event:
            case SweepStarted():
                self.spec, self.sweep_id, self.started_at = event.spec, event.sweep_id, at
            case DriverStarted():
                self.lease_epoch, self.paused = event.lease_epoch, None
            case SweepPaused():
                self.paused = event
            case SearchEnded():
                self.search_ended = event
            case HeldOutStarted() | HeldOutEnded():
                self.tests.apply(event, self.trials[event.trial])
            case SweepEnded():
                self.ended = event
            case SweepExtended():
                self.ended = self.search_ended = None
            case _:
                self._apply_to_trial(event, at)

    def _apply_to_trial(self, event: Event, at: float) -> None:
        match event:
            case TrialProposed():
                self._propose(event)
            case AttemptStarted():
                self._start(event, at)
            case Reported():
                self._report(event)
            case CheckpointSaved():
                self.trials[event.trial].keep(event.checkpoint)
                self.trials[event.trial].losses_in_a_row = 0
            case CheckpointsDropped():
                self._drop(frozenset(event.paths))
            case AttemptEnded():
                self._end_attempt(event)
            case TrialEnded():
                self._end_trial(event, at)
            case _:
                pass

    def observe(self, number: int, epoch: int, metrics: dict[str, float], seconds: float) -> None:
        """Note what `epoch` of trial `number` showed; folding in its Reported record does the same again."""
        trial, observation = self.trials[number], self.objectives.observe(metrics)
        self.train_seconds += max(0.0, seconds - trial.seconds)
        trial.seconds = seconds
        if epoch not in trial.curve:
            self.observed.append((number, epoch))
        trial.curve[epoch], trial.metrics[epoch] = observation, metrics
        trial.epoch = max(trial.epoch, epoch)
        trial.best_epoch = best_epoch_of(self.objectives, trial.curve, epoch, trial.best_epoch)
        self._by_epoch.setdefault(epoch, {})[number] = observation
        if self.target_reached_by is None and self.objectives.reached(metrics):
            self.target_reached_by = number

    def _propose(self, event: TrialProposed) -> None:
        trial = Trial(event.trial, event.params, event.source, event.proposal, event.repeats, event.fold)
        trial.seed_index = event.seed_index
        if event.repeats is not None:
            self.repeats += 1
            self._repeats_of.setdefault(event.repeats, []).append(trial)
        self.trials.append(trial)
        self._alive[trial.number] = trial
        self.counts[trial.status] += 1
        self.proposals += event.proposal >= 0

    def _start(self, event: AttemptStarted, at: float) -> None:
        trial = self.trials[event.trial]
        self._move(trial, Status.RUNNING)
        trial.attempt, trial.params = event.attempt, event.params
        if not trial.phases or trial.phases[-1][1] != event.params:
            trial.phases.append((event.checkpoint.epoch if event.checkpoint else 0, event.params))
        trial.started_at = trial.started_at or at
        if event.checkpoint is not None:  # another trial's, where it exploits that one: a retry starts there, too
            trial.keep(event.checkpoint)

    def _report(self, event: Reported) -> None:
        trial = self.trials[event.trial]
        self.observe(event.trial, event.epoch, event.metrics, event.seconds)
        self.epochs_trained += 1
        trial.losses_in_a_row = 0
        if event.checkpoint is not None:
            trial.keep(event.checkpoint)

    def _drop(self, paths: frozenset[str]) -> None:
        for trial in self.trials:
            trial.checkpoints = [c for c in trial.checkpoints if c.path not in paths]
            trial.superseded = [c for c in trial.superseded if c.path not in paths]

    def _end_attempt(self, event: AttemptEnded) -> None:
        trial = self.trials[event.trial]
        self._move(trial, Status.PAUSED if event.kind == "paused" else Status.PENDING)
        if event.kind == "paused":
            self.tried.setdefault(trial.number, len(self.observed))
        trial.cause = event.cause
        trial.restarts += event.kind in ("user", "hung")
        if event.kind in ("infrastructure", "checkpoint"):
            trial.interruptions += 1
            trial.losses_in_a_row += event.kind == "infrastructure"

    def _end_trial(self, event: TrialEnded, at: float) -> None:
        trial = self.trials[event.trial]
        self._move(trial, Status(event.ending))
        trial.cause, trial.ended_at = event.cause, at
        self.endings.append(trial.number)
        if event.ending != "failed":
            self.tried.setdefault(trial.number, len(self.observed))
        self._alive.pop(trial.number, None)

    def _move(self, trial: Trial, status: Status) -> None:
        self.counts[trial.status] -= 1
        self.counts[status] += 1
        trial.status = status

    def observations_at(self, epoch: int) -> dict[int, Observation]:
        """The observation of every trial that reported `epoch`, by trial number."""
        return dict(self._by_epoch.get(epoch, {}))

    def unfinished(self) -> list[Trial]:
        """Trials that may still train."""
        return list(self._alive.values())

    @property
    def configurations(self) -> int:
        """How many configurations were proposed; with folds or seeds each of them may be several trials."""
        return len(self.trials) - self.repeats

    def fits_of(self, number: int) -> list[Trial]:
        """All trials of the configuration whose first one is `number`."""
        return [self.trials[number], *self._repeats_of.get(number, ())]

    def standings(self) -> list[Standing]:
        """How the configurations stand by their complete fits, the best first."""
        over = sum(count for status, count in self.counts.items() if status.is_over)
        if self._standings[0] != over:
            self._standings = over, standings_of(self.trials)
        return self._standings[1]

    def ranking(self) -> list[tuple[int, int]]:
        """(trial, best epoch), the sweep's best first; diverged and failed trials are left out.

        With several objectives the chosen compromise leads, and the Pareto front comes before what it dominates.
        With folds or seeds the first trial of each configuration stands for all of them, and their mean decides.
        """
        if self.repeats:
            return raced_ranking(self.standings(), self.trials, self.objectives)
        entries = [t for t in self.trials if t.curve and t.status not in (Status.DIVERGED, Status.FAILED)]
        order = self.objectives.order([t.curve[t.best_epoch] for t in entries])
        return [(entries[i].number, entries[i].best_epoch) for i in order]

    def pareto(self) -> list[tuple[int, int]]:
        """(trial, best epoch) of the ranking that no other feasible one dominates; empty with one objective."""
        ranking = [] if self.objectives.is_single else self.ranking()
        return [ranking[i] for i in self.objectives.pareto([self.trials[n].curve[e] for n, e in ranking])]
