"""One sweep from its storage to its end, or to a pause: what the driver's process carries out."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import threading
from collections.abc import Iterator
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, Final

from service.errors import Fault, SweepRunningError, TuneyardError
from service.spec.sweep_spec import SweepSpec
from service.tuning import assigning, ray_environment
from service.tuning.assembly import Parts, build, first_points, history_of, tests_winner
from service.tuning.clock import steady_clock
from service.tuning.conductor import Conductor
from service.tuning.control import Control, read_control
from service.tuning.events import Begun, SweepExtended, SweepStarted
from service.tuning.extension import widened
from service.tuning.history import History
from service.tuning.knowledge import read_past
from service.tuning.lease import Lease
from service.tuning.ledger import Ledger
from service.tuning.outcome import leave_report
from service.tuning.patience import patiently
from service.tuning.progress import snapshot
from service.tuning.rounds import rounds
from service.tuning.signature_request import request_of
from service.tuning.steering import Steering
from service.tuning.storage_place import Place, storage_at
from service.tuning.sweep_folder import DRAIN_FILE, FOLDERS, PROGRESS_FILE, WARM_UP, Job, read_job, write_job
from service.tuning.taking_over import driver_started, take_over
from service.tuning.tracker_process import TrackerProcess
from service.tuning.watchdog import Watchdog

log: Final = logging.getLogger(__name__)
PROGRESS_PERIOD_S: Final = 0.5
MAX_LOST_WARM_UPS: Final = 2  # before any worker was warm: then something is wrong with what they import
MAX_LOST_LATER: Final = 20  # one after the other, in a sweep that had warm workers
LEAVE_LOCK_S: Final = 3.0
OVER, FAILED, UNRUNNABLE, PAUSED, TAKEN = range(5)  # exit codes


class Driver:
    """One sweep from its storage to its end, or to a pause."""

    def __init__(self, place: Place, home: Path, lease: Lease, ray_address: str | None = None) -> None:
        self.place, self.home, self.lease, self.ray_address = place, home, lease, ray_address
        self.storage = storage_at(place)
        asked = read_control(place) or Control()
        self.job: Job = self._widen(read_job(place), asked.max_trials)
        self.spec = SweepSpec.from_dict(self.job.spec)
        self._tidy()
        clock = steady_clock()
        ledger = Ledger(self.storage, clock, lease.check)
        self.parts: Parts = self._assemble(history_of(self.spec, take_over(ledger, place, lease, self.job.spec)))
        self.conductor = Conductor(self.parts.decider, ledger, self.storage, self.parts.retention, clock)
        self.conductor.limit = asked.max_concurrent_trials
        self.steering = Steering(place, self.conductor, self.extend, self.pause)
        self.warnings = self.parts.decider.warnings
        self.watchdog = Watchdog(self.spec.failure.report_timeout_s, is_excused=self._storage_refuses)
        self.pause_reason: str | None = None
        self.state = "starting"
        self.faults: list[dict[str, Any]] = []
        self.signals = 0
        self._lost_warm_ups, self._has_warmed = 0, False
        self._code: int | None = None
        self._tracker: TrackerProcess | None = None
        self.is_final = False  # nothing of what the user asked for is left to do
        self.tracking: dict[str, Any] = {"delivered": None, "lag": None}

    @property
    def history(self) -> History:
        """The sweep so far."""
        return self.conductor.history

    def warm_up(self, slot: int) -> dict[str, Any]:
        """The first task of a worker: the first worker of a sweep that has not begun checks its signatures, too."""
        is_first = slot == 0 and not self.conductor.is_open
        checks = is_first and self.history.sequence == 0 and self.job.checks_signatures
        spec = self.spec
        request = request_of(
            spec.fit, spec.parameters, max_epochs=spec.max_epochs, code_root=None, evaluation=spec.evaluation
        )
        return {WARM_UP: request if checks else None, "is_first": is_first}

    def ready(self, message: dict[str, Any]) -> bool:
        """A worker says that it is warm; whether it is. What the first one found begins the sweep, or refuses it."""
        if message["faults"]:
            cause = str(message["faults"][0]["message"])
            if self.conductor.is_open and self.worker_lost(cause):
                log.warning("a worker that came later cannot import what it has to train: %s", cause)
                return False
            self.faults = self.faults or message["faults"]
            self.conductor.give_up()
            return True
        log.info("a worker is warm")
        self._lost_warm_ups, self._has_warmed = 0, True
        if message["is_first"]:
            if message["defaults"] or message.get("untestable") is not None:
                self._learn(message)
            self._begin()
            self.state, self.conductor.is_open = "running", True
        return True

    def _learn(self, message: dict[str, Any]) -> None:
        """Heed what the first worker has found in the classes of the sweep."""
        self.job = replace(self.job, defaults=message["defaults"], untestable=message.get("untestable"))
        patiently(lambda: write_job(self.place, self.job), "writing the job")
        points, warnings = first_points(self.spec, self.job.defaults)
        self.parts.decider.first_points = points
        self.parts.decider.tests = tests_winner(self.spec, self.job.untestable)
        self.warnings[:] = [w for w in self.warnings if w not in self.parts.point_warnings] + list(warnings)

    def worker_lost(self, cause: str) -> bool:
        """A worker was lost before it was warm; whether to try once more. Again and again, that is no accident."""
        self._lost_warm_ups += 1
        if self._lost_warm_ups <= (MAX_LOST_LATER if self._has_warmed else MAX_LOST_WARM_UPS):
            return True
        fault = Fault("workers break while they import what they have to train", "fit", given=cause)
        self.faults = self.faults or [asdict(fault)]
        self.conductor.give_up()
        return False

    def _begin(self) -> None:
        """Put on record that the sweep has begun, or that nothing of an earlier driver runs any more."""
        patiently(self.lease.check, "asking for the lease")  # it may have slept for longer than the lease lasts
        if self.history.sequence == 0:
            self.conductor.commit([SweepStarted(self.job.sweep_id, self.job.spec, self.job.facts)])
            self.conductor.commit([driver_started(self.lease)])
        self.conductor.interrupt_running("the driver before was lost")
        self.conductor.sweep_up()
        self.steering.tidy()
        patiently(lambda: self.storage.delete(DRAIN_FILE), "removing the drain mark")

    def _assemble(self, history: History) -> Parts:
        parts = build(self.spec, history, self.job.defaults, read_past(self.place, self.job.facts))
        parts.decider.tests = tests_winner(self.spec, self.job.untestable)
        return parts

    def _widen(self, job: Job, max_trials: int | None) -> Job:
        """`job` with room for so many trials, in its file before it counts; the same where it has that already."""
        wider = widened(job, max_trials)
        if wider is not job:
            patiently(lambda: write_job(self.place, wider), "writing the job")
        return wider

    def extend(self, max_trials: int) -> None:
        """Let the running sweep try up to `max_trials` configurations; nothing happens where it may already."""
        with self.conductor.lock:
            if self.conductor.finished is not None or (job := self._widen(self.job, max_trials)) is self.job:
                return
            self.job, self.spec = job, SweepSpec.from_dict(job.spec)
            if self.history.sequence:
                self.conductor.commit([SweepExtended(max_trials)])
            self.parts = self._assemble(self.history)
            self.parts.decider.warnings = self.warnings  # one list, which others hold
            self.conductor.follow(self.parts.decider)

    def _storage_refuses(self) -> bool:
        """Whether workers that are silent may be waiting for storage, rather than hang."""
        sizes = [checkpoint.size_bytes for trial in self.history.unfinished() for checkpoint in trial.checkpoints]
        return not self.storage.takes(2 * max(sizes, default=0))

    def lose(self, error: SweepRunningError) -> None:
        """Another driver has the sweep: end at once, and write nothing more."""
        log.warning("%s", error)
        self.conductor.give_up(error)

    @property
    def has_lost(self) -> bool:
        """Whether another driver has taken the sweep over."""
        return isinstance(self.conductor.error, SweepRunningError)

    def pause(self, reason: str) -> None:
        """Let every running attempt save with its next report, and start no other."""
        if self.has_lost or self.history.ended is not None:
            return
        self.pause_reason = self.pause_reason or reason
        with contextlib.suppress(OSError):  # then running attempts save at their next checkpoint epoch only
            self.storage.replace(DRAIN_FILE, reason.encode())
        self.conductor.is_draining = True

    def leave(self) -> None:
        """End this process at once, with the record closed if that can be done in seconds."""
        if self.conductor.lock.acquire(timeout=LEAVE_LOCK_S):
            self.conductor.give_up()  # storage that is away is not waited for
            with contextlib.suppress(OSError, TuneyardError):
                if self.history.ended is not None:
                    self.state, self.is_final = self.history.ended.ending, True
                    self.write_progress()
                    os._exit(OVER if self.state == "completed" else FAILED)
                reason = self.pause_reason or "told to leave"
                self.conductor.interrupt_running(reason)
                self.conductor.end(reason)
                self.state = "paused"
                self.write_progress()
            self.lease.release()
        os._exit(PAUSED)

    def finish_again(self) -> int:
        """The sweep is over, but the driver before may not have come to tell: deliver, say so, and end."""
        ended = self.history.ended
        ending = "failed" if ended is None else ended.ending
        self.state = ending
        self.conductor.sweep_up()
        self._tidy()
        with TrackerProcess(self.place, self.home) as tracker:
            tracker.finish(self.history.sequence, self._note_tracking)
        self.is_final = True
        self._say()
        return OVER if ending == "completed" else FAILED

    def assign(self, started: Begun) -> dict[str, Any]:
        """What a worker needs to run `started`, beside what all attempts share (`shared`)."""
        return assigning.own(self.spec, self.history, started, keeps_fits=self.parts.decider.tests)

    def shared(self) -> dict[str, Any]:
        """What all attempts of the sweep share."""
        return assigning.shared(self.spec, self.job, self.place, self.parts.checkpoint_epochs)

    def write_progress(self) -> None:
        """Leave a snapshot for whoever watches, unless the sweep is another driver's by now."""
        if self.has_lost:
            return
        with self.conductor.lock:
            decider, elapsed_s = self.parts.decider, self.conductor.elapsed_s
            shot = snapshot(self.history, self.parts.rungs, decider.limits, elapsed_s, decider.expected_gain())
        reason = self.history.ended.reason if self.history.ended else self.pause_reason or ""
        about = {
            "sweep_id": self.job.sweep_id,
            "name": self.spec.name,
            "state": self.state,
            "reason": reason,
            "tracking": self.tracking,
            "pid": os.getpid(),
            "warnings": self.warnings,
            "faults": self.faults,
            "is_final": self.is_final,
        }
        self.storage.replace(PROGRESS_FILE, json.dumps({**shot, **about}).encode())

    def _say(self) -> None:
        """Leave a snapshot that matters: storage that is full or away is waited for."""
        patiently(self.write_progress, "writing the progress", until=lambda: self.has_lost)

    def run(self) -> int:
        """Run the sweep to its end or pause; the process's exit code."""
        log.info("starting Ray")
        ray_environment.prepare(is_own=self.ray_address is None)
        from service.tuning.ray_session import run_attempts  # ray takes seconds to import

        self.conductor.is_open = False
        with TrackerProcess(self.place, self.home) as tracker, self._progress(tracker):
            self._tracker = tracker
            self.conclude(run_attempts(self.conductor, self))
            log.info("Ray is gone")
        self._say()
        if self.has_lost:
            raise self.conductor.error  # type: ignore[misc]  # has_lost says what it is
        return UNRUNNABLE if self._code is None else self._code

    def conclude(self, error: BaseException | None) -> None:
        """Close the record, have the rest delivered, and say so, once: nobody has to wait until Ray is gone, too."""
        if self._code is not None:
            return
        if self.has_lost:
            self._code = TAKEN
            return
        self._code = self._close(error)
        if self.history.sequence and self._tracker is not None:
            self._tracker.finish(self.history.sequence, self._note_tracking)
        self.is_final = self.history.ended is not None
        self._say()

    def _tidy(self) -> None:
        """Remove what was left half-written, by those who were cut off or by a disk that would not let go of it."""
        with contextlib.suppress(OSError):
            for name in ("", *FOLDERS):
                self.storage.tidy(name)

    def _close(self, error: BaseException | None) -> int:
        """Settle what is still open, leave the report, and close the record."""
        if self.faults and self.history.sequence == 0:
            self.state = "refused"
            return UNRUNNABLE
        if self.faults:
            self.pause_reason = f"the sweep could not go on: {self.faults[0]['message']}"
        if error is not None:
            self.pause_reason = f"the sweep could not {'go on' if self.history.sequence else 'begin'}: {error}"
        if self.conductor.finished is None:
            self.pause_reason = self.pause_reason or "the driver was told to end"
            self.conductor.interrupt_running(self.pause_reason)
            self.conductor.end(self.pause_reason)
            self.state = "paused"
            return PAUSED if error is None and not self.faults else UNRUNNABLE
        finished = self.conductor.finished
        self.pause_reason = None
        self.warnings += leave_report(self.conductor, self.spec, self.place, self.warnings)
        if self.history.ended is None:
            self.conductor.end(None)
        self.conductor.sweep_up()
        self._tidy()
        self.state = finished.ending
        return OVER if finished.ending == "completed" else FAILED

    def _obey(self) -> None:
        """Do what is asked from outside, unless the sweep is another driver's by now."""
        try:
            if not self.has_lost:
                self.steering.obey()
        except SweepRunningError as error:
            self.lose(error)

    def _note_tracking(self, is_delivered: bool) -> None:  # noqa: FBT001  # one answer, named at the call
        self.tracking = {"delivered": is_delivered, "lag": 0 if is_delivered else None}

    @contextlib.contextmanager
    def _progress(self, tracker: TrackerProcess) -> Iterator[None]:
        """Keep the snapshot fresh in the background."""
        over = threading.Event()

        def once() -> None:
            tracker.revive()
            if self.tracking["delivered"] is None:
                self.tracking = {"delivered": None, "lag": tracker.lag(self.history.sequence)}
            self.write_progress()
            self._obey()

        self._say()
        thread = threading.Thread(
            target=rounds, args=(once, over, max(PROGRESS_PERIOD_S, self.storage.pace_s)), name="progress", daemon=True
        )
        thread.start()
        try:
            yield
        finally:
            over.set()
            thread.join()
