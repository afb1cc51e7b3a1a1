"""Carries out decisions: asks the decider, commits its events to the ledger, folds them in, and says what to do.

Knows nothing of Ray: the driver drives it with real workers, tests and simulations with simulated ones.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterable
from dataclasses import replace
from functools import partial
from typing import Final

from service.tuning.answers import Finished, Start, Wait
from service.tuning.decisions import Arrival, Decider, FailureKind
from service.tuning.events import (
    Artifacts,
    AttemptEnded,
    Begun,
    Checkpoint,
    CheckpointSaved,
    CheckpointsDropped,
    Event,
    HeldOutEnded,
    Reported,
    SweepEnded,
    SweepPaused,
    TrialEnded,
)
from service.tuning.held_out import ended as test_ended
from service.tuning.history import History, Status, Trial
from service.tuning.ledger import Ledger
from service.tuning.patience import patiently
from service.tuning.retention import RetentionPolicy, expendable
from service.tuning.storage import Storage
from service.tuning.sweep_folder import TRIAL_CONFIG

CHECKPOINTS: Final = "checkpoints"


class Conductor:
    """One sweep's loop of decide, commit, fold, act. Safe to call from several threads."""

    def __init__(
        self,
        decider: Decider,
        ledger: Ledger,
        storage: Storage,
        retention: RetentionPolicy,
        clock: Callable[[], float],
    ) -> None:
        self._decider, self._ledger, self._storage, self._retention = decider, ledger, storage, retention
        self._clock, self._started_at = clock, clock()
        self._active_before_s = decider.history.active_s
        self._in_use: dict[int, str] = {}  # trial -> path of the checkpoint that its attempt started from
        self._told: dict[tuple[int, int], float] = {}  # when attempts first reported since they were to save
        self.lock = threading.RLock()
        self.finished: Finished | None = None
        self.is_draining = False
        self.is_giving_up = False  # told to end at once: storage that is away is not waited for any more
        self.error: BaseException | None = None  # what made that necessary
        self.is_open = True  # while it is not, nothing starts
        self.limit: int | None = None  # how many attempts may run at once

    @property
    def history(self) -> History:
        """The sweep so far."""
        return self._decider.history

    def follow(self, decider: Decider) -> None:
        """Have `decider`, which reads the same history, decide from here on."""
        with self.lock:
            self._decider = decider

    @property
    def elapsed_s(self) -> float:
        """How long drivers have been at work on this sweep."""
        return self._active_before_s + self._clock() - self._started_at

    def commit(self, events: Iterable[Event]) -> None:
        """Put `events` on record durably, then into the history; waits for storage that is full or away."""
        batch = list(events)
        if batch:
            append = partial(self._ledger.append, batch, at=self._clock())  # a second try writes the same bytes
            for record in patiently(append, "writing the ledger", until=lambda: self.is_giving_up):
                self.history.apply(record)

    def start(self) -> Begun | None:
        """The attempt or test that an idle worker shall run, already on record; None when there is none now.

        Sets `finished` once there will never be one again. While draining nothing starts.
        """
        with self.lock:
            if self.finished is not None or self.is_draining or not self.is_open or self._is_at_limit():
                return None
            answer = self._ask()
            while isinstance(answer, Wait) and answer.events:
                answer = self._ask()
            if not isinstance(answer, Start):
                return None
            started = answer.events[-1]
            if not isinstance(started, Begun):
                msg = f"a start must end with what begins, not {started!r}"
                raise TypeError(msg)
            if started.checkpoint is not None:
                self._in_use[started.trial] = started.checkpoint.path
            return started

    def _ask(self) -> Start | Wait | Finished:
        """The decider's answer, with its events on record."""
        answer = self._decider.start(self.elapsed_s)
        if isinstance(answer, Finished):
            self.finished = answer
        self.commit(self._with_configs(answer.events))
        if any(isinstance(e, TrialEnded) for e in answer.events):
            self._drop(self._expendable(*answer.events))
        return answer

    def report(self, arrival: Arrival) -> bool:
        """Record one epoch and decide on it; whether the attempt goes on. False for one that is not current."""
        with self.lock:
            events = self._decider.report(arrival, self.elapsed_s)
            if not events:
                return self._is_current(arrival.trial, arrival.attempt)
            goes_on = all(isinstance(e, Reported | CheckpointSaved) for e in events)
            goes_on = goes_on and not any(isinstance(e, Reported) and e.action != "continue" for e in events)
            if goes_on and (cause := self._taken_back(arrival)) is not None:
                events.append(AttemptEnded(arrival.trial, arrival.attempt, "interrupted", cause))
                goes_on = False
            self._settle(arrival.trial, events)
            return goes_on

    def attempt_over(self, trial: int, attempt: int) -> None:
        """The fit ended by itself."""
        with self.lock:
            events = self._decider.attempt_over(trial, attempt)
            self._settle(trial, events or self._test_ended(trial, attempt, "user", "the test ended without a result"))

    def attempt_failed(self, trial: int, attempt: int, kind: FailureKind, cause: str) -> None:
        """The attempt broke."""
        with self.lock:
            events = self._decider.attempt_failed(trial, attempt, kind, cause)
            self._settle(trial, events or self._test_ended(trial, attempt, kind, cause))

    def tested(self, trial: int, attempt: int, metrics: dict[str, float]) -> None:
        """A held-out test is over; what comes of one that is not current is nobody's."""
        with self.lock:
            self._settle(trial, list(test_ended(self.history, trial, attempt, "finished", "", metrics)))

    def _test_ended(self, trial: int, attempt: int, kind: str, cause: str) -> list[Event]:
        return list(test_ended(self.history, trial, attempt, kind, cause))

    def checkpoint_lost(self, trial: int, attempt: int, cause: str) -> None:
        """The attempt could not start, because its checkpoint is damaged or gone."""
        with self.lock:
            path = self._in_use.get(trial)
            if path is not None:
                events = self._decider.checkpoint_lost(trial, attempt, path, cause)
                self._settle(trial, events or self._test_ended(trial, attempt, "checkpoint", cause))

    def give_up(self, error: BaseException | None = None) -> None:
        """End as soon as can be; the first `error` is kept."""
        self.error, self.is_giving_up = self.error or error, True

    def interrupt_running(self, cause: str) -> None:
        """Put on record that whatever seemed to run does not: at the start of a driver, and at its early end."""
        with self.lock:
            running = [t for t in self.history.unfinished() if t.status is Status.RUNNING]
            tests = [t for t in self.history.tests.values() if t.is_running]
            self.commit(AttemptEnded(t.number, t.attempt, "interrupted", cause) for t in running)
            self.commit(HeldOutEnded(t.trial, t.attempt, "interrupted", cause=cause) for t in tests)

    def sweep_up(self) -> None:
        """Delete checkpoint files that the record does not name: left by a driver or workers that were cut off."""
        with self.lock, contextlib.suppress(OSError):  # what cannot be taken away now is so at the sweep's end
            there = set(self._storage.names(CHECKPOINTS))
            for trial in self.history.trials:
                if str(trial.number) in there:
                    with contextlib.suppress(OSError):
                        self._sweep_up_after(trial)

    def _sweep_up_after(self, trial: Trial) -> None:
        folder = f"{CHECKPOINTS}/{trial.number}"
        known = {checkpoint.path for checkpoint in (*trial.checkpoints, *trial.superseded)}
        stray = [path for name in self._storage.names(folder) if (path := f"{folder}/{name}") not in known]
        self._ledger.check_lease()  # a driver that has slept would take its successor's checkpoints away
        self._storage.tidy(folder)
        for path in stray:
            self._ledger.check_lease()
            self._storage.delete(path)

    def end(self, pause_reason: str | None) -> None:
        """Close the record: the sweep is paused for `pause_reason`, or over as `finished` says."""
        with self.lock:
            if self.history.sequence == 0 or self.history.paused is not None:
                return  # it never began, or has been closed already: there is nothing to close
            if pause_reason is not None or self.finished is None:
                self.commit([SweepPaused(pause_reason or "the driver ended early")])
            else:
                self._drop(expendable(self.history, replace(self._retention, runners_up=0)))
                self.commit([SweepEnded(self.finished.ending, self.finished.reason)])

    def surplus(self) -> list[int]:
        """The newest of the running trials beyond the limit: they end with their next checkpoint, and go on later."""
        with self.lock:
            running = [t.number for t in self.history.unfinished() if t.status is Status.RUNNING]
            return [] if self.limit is None else sorted(running)[self.limit :]

    def _is_at_limit(self) -> bool:
        return self.limit is not None and self.history.counts[Status.RUNNING] >= self.limit

    def _taken_back(self, arrival: Arrival) -> str | None:
        """Why the attempt ends here though its trial goes on; None where it does not."""
        if self.is_draining:
            return "the sweep was paused" if self._may_end(arrival) else None
        if arrival.trial in self.surplus() and self._may_end(arrival):
            return "fewer trials run at once from here on"
        return None

    def _may_end(self, arrival: Arrival) -> bool:
        """Whether a draining attempt has saved, or had its chance to: one report may have left before it was told.

        On an object store workers look for marks at the store's pace only.
        """
        key, now = (arrival.trial, arrival.attempt), self._clock()
        had_its_chance = key in self._told and now - self._told[key] >= self._storage.pace_s
        self._told.setdefault(key, now)
        return arrival.checkpoint is not None or had_its_chance

    def _is_current(self, trial: int, attempt: int) -> bool:
        known = self.history.trials[trial]
        return known.status is Status.RUNNING and known.attempt == attempt

    def _settle(self, trial: int, events: list[Event]) -> None:
        """Commit what came of an attempt; then delete the checkpoint files that it made expendable."""
        self.commit(self._with_configs(events))
        if any(isinstance(e, AttemptEnded | HeldOutEnded) for e in events):
            self._in_use.pop(trial, None)
        has_news = any(isinstance(e, TrialEnded | CheckpointSaved) for e in events)
        if has_news or any(isinstance(e, Reported) and e.checkpoint for e in events):
            self._drop(self._expendable())

    def _expendable(self, *about: Event) -> list[Checkpoint]:
        starts = [e.checkpoint.path for e in about if isinstance(e, Begun) and e.checkpoint is not None]
        policy = replace(self._retention, keeps_fits=self._decider.tests)
        return expendable(self.history, policy, frozenset([*self._in_use.values(), *starts]))

    def _drop(self, checkpoints: list[Checkpoint]) -> None:
        paths = tuple(c.path for c in checkpoints)
        if not paths:
            return
        self.commit([CheckpointsDropped(paths)])
        for path in paths:
            with contextlib.suppress(OSError):  # the record says that it is gone; the next driver sweeps up
                self._storage.delete(path)

    def _with_configs(self, events: Iterable[Event]) -> list[Event]:
        """`events`, with the resolved config of each trial that ends here handed to tracking."""
        batch = list(events)
        ended = [e.trial for e in batch if isinstance(e, TrialEnded)]
        names = {trial: TRIAL_CONFIG.format(trial=trial) for trial in ended}
        present = [t for t in ended if self.history.trials[t].curve or self.history.trials[t].attempt]
        return [*batch, *(Artifacts(trial, (names[trial],)) for trial in present)]
