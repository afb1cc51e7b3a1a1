"""Asks every question of a recorded sweep again and holds the answers against the record: can it be trusted?

The ledger holds what was decided, not what was asked; but each decision shows its question. So the records are folded
in one after the other, and wherever one of them is an answer, a fresh decider is asked at the very history that the
driver had. Searchers and schedulers are pure, so the answers are the same, bit for bit, or something is wrong: other
code, other versions, or a record that was changed. Two things are no decision and are taken from the record: what came
from outside (results, failures, drivers that came and went), and whether the wall clock's budget was used up by then.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final, cast

from service.errors import LedgerError
from service.spec.budget import spec_with
from service.spec.sweep_spec import SweepSpec
from service.tuning.answers import Finished
from service.tuning.assembly import build, history_of, tests_winner
from service.tuning.decisions import Arrival, Decider, FailureKind
from service.tuning.events import (
    AttemptEnded,
    AttemptStarted,
    CheckpointsDropped,
    DriverStarted,
    Event,
    HeldOutStarted,
    Record,
    Reported,
    SearchEnded,
    SweepEnded,
    SweepExtended,
    TrialEnded,
    TrialProposed,
    encode,
)
from service.tuning.extension import spec_on_record
from service.tuning.history import History
from service.tuning.knowledge import read_past
from service.tuning.ledger import read_ledger
from service.tuning.limits import Limits, over
from service.tuning.sweep_folder import read_job

NOTHING: Final = "nothing"


@dataclass(frozen=True, slots=True)
class Difference:
    """The first answer that is not the recorded one. `sequence` is the place in the ledger."""

    sequence: int
    recorded: str
    decided: str


@dataclass(frozen=True, slots=True)
class Replayed:
    """How a replay went: how many answers were the same, up to the first `difference` if there is one.

    `by_the_clock` of the decisions hold because the wall clock's budget was used up, which is taken from the record.
    """

    records: int
    proposals: int
    decisions: int
    by_the_clock: int
    difference: Difference | None


def replay_folder(folder: Path) -> Replayed:
    """Replay the sweep stored in `folder`, as far as it has come. LedgerError where nothing is on record yet."""
    records, job = read_ledger(folder), read_job(folder)
    first, past = recorded_spec(records[:1]), read_past(folder, job.facts)
    history = history_of(first, ())

    def decider(spec: SweepSpec) -> Decider:
        found = build(spec, history, job.defaults, past).decider
        found.tests = tests_winner(spec, job.untestable)
        return found

    def extended(max_trials: int) -> Decider:
        return decider(SweepSpec.from_dict(spec_with(first.to_dict(), max_trials)))

    return replay(records, decider(first), extended)


def recorded_spec(records: Sequence[Record]) -> SweepSpec:
    """The sweep file as it stands in the records, extensions included. LedgerError where there is none."""
    spec = spec_on_record(records)
    if spec is None:
        msg = "nothing of this sweep is on record yet, so there is nothing to replay"
        raise LedgerError(msg)
    return SweepSpec.from_dict(spec)


def replay(records: Sequence[Record], decider: Decider, extended: Callable[[int], Decider] | None = None) -> Replayed:
    """Ask `decider`, which has an empty history, everything that `records` answer; up to the first difference.

    `extended` makes a decider of the same history with another `max_trials`, for sweeps that were extended.
    """
    return _Replay(records, decider, extended).run()


class _DifferentError(Exception):
    def __init__(self, difference: Difference) -> None:
        super().__init__(difference)
        self.difference = difference


class _Replay:
    """One walk through the records. `_at` is the place of the next record that is not folded in."""

    def __init__(
        self, records: Sequence[Record], decider: Decider, extended: Callable[[int], Decider] | None = None
    ) -> None:
        self._extended = extended
        self._records, self._decider, self._history = records, decider, decider.history
        self._at, self._proposals, self._decisions, self._by_the_clock = 0, 0, 0, 0
        limits = decider.limits
        alone = Limits(limits.max_epochs, wall_clock_s=limits.wall_clock_s)
        spent = over(History(self._history.objectives), alone, math.inf)
        self._clock_text = None if spent is None else spent[1]

    def run(self) -> Replayed:
        difference = None
        try:
            while self._at < len(self._records):
                self._step()
        except _DifferentError as error:
            difference = error.difference
        return Replayed(len(self._records), self._proposals, self._decisions, self._by_the_clock, difference)

    def _step(self) -> None:
        """Fold in the next record, or all records of the answer that it begins."""
        event = self._records[self._at].event
        match event:
            case DriverStarted():
                self._decider = replace(self._decider)  # a new driver has yet to find out what the one before knew
                self._take(1)
            case SweepExtended() if self._extended is not None:
                self._decider = self._extended(event.max_trials)
                self._take(1)
            case TrialProposed() | AttemptStarted() | TrialEnded() | SearchEnded() | HeldOutStarted():
                self._started(event)
            case Reported():
                self._reported(event)
            case AttemptEnded():
                self._ended(event)
            case CheckpointsDropped() if self._loses_a_checkpoint():
                self._lost(event)
            case SweepEnded():
                self._over(event)
            case _:
                self._take(1)

    def _take(self, count: int) -> None:
        for record in self._records[self._at : self._at + count]:
            self._history.apply(record)
        self._at += count

    def _started(self, event: Event) -> None:
        """What an idle worker was given, or what ended while there was nothing for it."""
        reason = event.cause if isinstance(event, TrialEnded) else ""
        elapsed_s = self._elapsed_s(event.reason if isinstance(event, SearchEnded) else reason)
        answer = self._decider.start(elapsed_s)
        if not self._is_recorded(answer.events) and not any(isinstance(e, TrialProposed) for e in answer.events):
            # The driver may have asked before, when nothing came of it but that the search space is used up.
            self._decider.look_ahead()
            answer = self._decider.start(elapsed_s)
        self._agree(answer.events)

    def _reported(self, event: Reported) -> None:
        arrival = Arrival(
            event.trial, event.attempt, event.epoch, event.metrics, event.seconds, event.checkpoint, event.diverged
        )
        self._agree(self._decider.report(arrival, self._elapsed_s(event.reason)))

    def _ended(self, event: AttemptEnded) -> None:
        """An attempt that broke, or ended by itself; one that the driver itself ended is nobody's decision."""
        kind = cast("FailureKind", event.kind)
        failed = self._decider.attempt_failed(event.trial, event.attempt, kind, event.cause)
        by_itself = self._decider.attempt_over(event.trial, event.attempt)
        if event.kind == "interrupted" and not self._is_recorded(failed):
            self._take(1)
        else:
            self._agree(by_itself if self._is_recorded(by_itself) else failed)

    def _loses_a_checkpoint(self) -> bool:
        """Whether what was dropped could not be read; all else that is dropped is only housekeeping."""
        after = self._records[self._at + 1].event if self._at + 1 < len(self._records) else None
        return isinstance(after, AttemptEnded) and after.kind == "checkpoint"

    def _lost(self, event: CheckpointsDropped) -> None:
        ended = cast("AttemptEnded", self._records[self._at + 1].event)
        self._agree(self._decider.checkpoint_lost(ended.trial, ended.attempt, event.paths[0], ended.cause))

    def _over(self, event: SweepEnded) -> None:
        elapsed_s = self._elapsed_s(event.reason)
        answer = self._decider.start(elapsed_s)
        if not isinstance(answer, Finished):
            answer = self._decider.start(elapsed_s)  # as in `_started`
        ended = [SweepEnded(answer.ending, answer.reason)] if isinstance(answer, Finished) else []
        self._agree([*answer.events, *ended])

    def _elapsed_s(self, reason: str) -> float:
        """The sweep's active time when the next record was decided on, on that side of the budget that it tells of."""
        at, limit_s = self._records[self._at].at, self._decider.limits.wall_clock_s
        estimate_s = self._history.active_s + (max(0.0, at - self._history.at) if self._history.at else 0.0)
        if limit_s is None:
            return estimate_s
        if reason == self._clock_text:
            self._by_the_clock += 1
            return max(estimate_s, limit_s)
        return min(estimate_s, math.nextafter(limit_s, 0.0))

    def _is_recorded(self, events: Sequence[Event]) -> bool:
        return bool(events) and self._first_difference(events) is None

    def _agree(self, events: Sequence[Event]) -> None:
        """Fold in the records that `events` reproduce, at least one; raises where they are not the same."""
        difference = self._first_difference(events or [None])
        if difference is not None:
            raise _DifferentError(difference)
        proposals = sum(isinstance(event, TrialProposed) for event in events)
        self._proposals += proposals
        self._decisions += not proposals
        self._take(len(events))

    def _first_difference(self, events: Sequence[Event | None]) -> Difference | None:
        for i, event in enumerate(events, self._at):
            recorded = self._records[i].event if i < len(self._records) else None
            if _text(event) != _text(recorded):
                return Difference(i, _text(recorded), _text(event))
        return None


def _text(event: Event | None) -> str:
    """An event as the ledger would hold it, so that what is equal is so to the last bit."""
    if event is None:
        return NOTHING
    data = encode(Record(0, 0.0, event))
    return json.dumps({key: value for key, value in data.items() if key not in ("sequence", "at")})
