"""The simulated machine: clock, workers, disk, MLflow, the real driver and the real tracker, one event at a time.

Everything follows from the seed, so a failing one is replayed by running it again.
"""

from __future__ import annotations

import contextlib
import heapq
import itertools
import random
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import patch

from service.errors import CheckpointError, SweepRunningError, TrackingError
from service.spec.sweep_spec import SweepSpec
from service.tuning.assignment import Assignment, Report
from service.tuning.conductor import Conductor
from service.tuning.decisions import Arrival
from service.tuning.events import Begun
from service.tuning.lease import Holder, Senses, take
from service.tuning.patience import patiently
from service.tuning.storage import FolderStorage
from service.tuning.sweep_driver import Driver
from service.tuning.sweep_folder import Job, write_job
from service.tuning.tracking import DELIVERED, Tracker
from service.tuning.tracking import World as TrackerWorld
from service.tuning.tracking_delivery import LATE_S
from tests.simulation.disk import Disk, Killed
from tests.simulation.mlflow import Client, Server
from tests.simulation.training import Attempt, Broken, Misbehaviour, Training, seconds

START = 1_790_000_000.0
RESTART_S = 3.0
TRACK_S = 5.0
RENEW_S = 8.0
MAX_STEPS = 8_000
SWEEP_ID = "simulated"


class Machine:
    """One sweep on it, from its first driver to its end. `step_hook` is called before each event."""

    def __init__(self, folder: Path, spec: SweepSpec, workers: int, seed: int, wrong: dict[int, Misbehaviour]) -> None:
        self.folder, self.spec, self.workers = folder, spec, workers
        self.rng = random.Random(seed)
        self.now, self.wall_offset, self.steps = 0.0, 0.0, 0
        self.disk = Disk(folder, random.Random(seed + 1))
        self.server = Server(random.Random(seed + 2))
        self.server.later = self._do_late
        self.training = Training(wrong)
        self.driver: Driver | None = None
        self.running: dict[tuple[int, int], Attempt] = {}
        self.tracker: Tracker | None = None
        self.is_over = False
        self.zombies: dict[int, Driver] = {}  # by lease epoch: drivers that another has taken over from
        self.damaged: set[str] = set()  # checkpoints
        self.exploiting: set[int] = set()  # trials that went on from another one's checkpoint
        self.saves: tuple[int, ...] = ()  # epochs after which every trial saves
        self.complaints: list[str] = []  # invariants that an event itself has seen broken
        self.log: list[str] = []
        self.step_hook: Callable[[], None] = lambda: None
        self._calls_left, self._dies_after = 0, False  # until the tracker is killed; 0: never
        self._alive: set[int] = set()  # process numbers of drivers
        self._pids = itertools.count(100)
        self._order = itertools.count()
        self._queue: list[tuple[float, int, Callable[[], None]]] = []

    def note(self, text: str) -> None:
        """A line of the trace that a failing seed is read from."""
        self.log.append(f"{self.now:9.2f} {text}".replace(str(self.folder), ""))

    def at(self, delay_s: float, act: Callable[[], None]) -> None:
        """Let `act` happen later."""
        heapq.heappush(self._queue, (self.now + delay_s, next(self._order), act))

    def _do_late(self, act: Callable[[], object]) -> None:
        """A server carries out what its client no longer waits for."""

        def carry_out() -> None:
            with contextlib.suppress(TrackingError):  # nobody hears the refusal
                act()

        self.at(self.rng.uniform(0.0, LATE_S - 1.0), carry_out)

    def sleep(self, wait_s: float) -> None:
        """Somebody waits."""
        self.now += wait_s

    @contextlib.contextmanager
    def attached(self) -> Iterator[None]:
        """What the product reads of its surroundings comes from here."""
        with ExitStack() as stack:
            stack.enter_context(patch("service.tuning.sweep_driver.steady_clock", self._steady_clock))
            stack.enter_context(patch("service.tuning.sweep_driver.leave_report", lambda *_: []))
            stack.enter_context(patch("service.tuning.patience.time", SimpleNamespace(sleep=self.sleep)))
            stack.enter_context(patch("service.tuning.tracking.random", self.rng))
            stack.enter_context(patch("service.tuning.ledger.READ_AGAIN_S", 0.0))
            stack.enter_context(patch("service.tuning.ledger.MERGE_AFTER", 60))  # so that merging is seen, too
            stack.enter_context(self.disk.attached())
            yield

    def _steady_clock(self) -> Callable[[], float]:
        offset = START + self.wall_offset  # a clock that was set meanwhile shows when the next driver starts
        return lambda: offset + self.now

    def run(self) -> None:
        """To the end of the sweep, and until MLflow has everything."""
        self.folder.mkdir(parents=True)
        with self.attached():
            write_job(self.folder, Job(SWEEP_ID, self.spec.to_dict(), checks_signatures=False))
        self.go_on()

    def go_on(self) -> None:
        """The same, from what is there."""
        self.is_over, self.tracker, self.steps = False, None, 0
        with self.attached():
            self.at(0.0, self.start_driver)
            self.at(TRACK_S, self.track)
            self.at(RENEW_S, self.renew)
            while self._queue:
                self.steps += 1
                if self.steps > MAX_STEPS:
                    msg = f"the sweep hangs at {self.now:.0f} s with {sorted(self.running)} running"
                    raise RuntimeError(msg)
                when, _, act = heapq.heappop(self._queue)
                self.now = max(self.now, when)
                self.step_hook()
                act()

    # --- the driver ---

    def start_driver(self) -> None:
        """A new driver takes the sweep over, unless one has it."""
        if self.driver is None and not self.is_over:
            with self.mortal():
                self._start_driver()

    def _start_driver(self) -> None:
        pid = next(self._pids)
        self._alive.add(pid)
        driver = self.new_driver(pid)
        self.driver, self.saves = driver, driver.parts.checkpoint_epochs
        self.note(f"driver {driver.lease.epoch} starts after {driver.history.sequence} records")
        if driver.history.ended is not None:
            self._finish()
            return
        driver.conductor.is_open = False
        driver.ready({"faults": [], "defaults": {}, "is_first": True})
        self.fill()

    def new_driver(self, pid: int) -> Driver:
        """As `driver.main` makes one."""
        me = Holder("here", pid, str(pid))
        senses = Senses(lambda: self.now, self.sleep, self._is_at_work)
        lease = patiently(lambda: take(FolderStorage(self.folder), me, senses), "taking the sweep")
        return patiently(lambda: Driver(self.folder, self.folder.parent, lease), "opening the sweep")

    def _is_at_work(self, holder: Holder) -> bool | None:
        if holder.pid not in self._alive:
            return False
        return True if self.driver is not None and self._pid(self.driver) == holder.pid else None

    @staticmethod
    def _pid(driver: Driver) -> int:
        return driver.lease.holder.pid

    @contextlib.contextmanager
    def mortal(self, acting: Driver | None = None) -> Iterator[None]:
        """The driver (or a zombie) may be killed inside, or find that another one has the sweep by now."""
        before = acting or self.driver
        try:
            yield
        except Killed:
            self.disk.disarm()
            self.lose_driver("killed while it wrote")
        except SweepRunningError as error:
            if before is not self.driver or before in self.zombies.values():
                self.note(f"a driver leaves: {error}")
                self.running = {key: a for key, a in self.running.items() if a.owner not in self.zombies}
                self.at(0.0, self.settle)
                return
            self.complaints.append(f"the only driver was refused: {error}")
            self.lose_driver("refused")

    def lose_driver(self, how: str) -> None:
        """The driver is gone, with its Ray and its workers; another one comes."""
        self.note(f"driver lost: {how}")
        self._alive.clear()
        self.driver = None
        self.running.clear()
        if not self.is_over:
            self.at(RESTART_S, self.start_driver)

    def fill(self) -> None:
        """Give idle workers something to do; end the sweep when there is nothing left."""
        driver = self.driver
        while driver is not None and len(self.running) < self.workers:
            started = driver.conductor.start()
            if started is None:
                break
            self._launch(driver, started)
        if driver is not None and not self.running and (driver.conductor.finished or driver.conductor.is_draining):
            self._finish()

    def _launch(self, driver: Driver, started: Begun) -> None:
        if started.checkpoint is not None and not started.checkpoint.path.startswith(f"checkpoints/{started.trial}/"):
            self.exploiting.add(started.trial)
        assignment = Assignment.from_dict({**driver.shared(), **driver.assign(started)})
        try:
            attempt = self.training.begin(assignment, driver.lease.epoch)
        except CheckpointError as error:
            driver.conductor.checkpoint_lost(started.trial, started.attempt, str(error))
            return
        why = "held-out test" if assignment.is_test else getattr(started, "reason", "")
        self.note(f"trial {started.trial} attempt {started.attempt} from epoch {attempt.epoch}: {why}")
        self.running[attempt.key] = attempt
        self._schedule(attempt)

    def _schedule(self, attempt: Attempt) -> None:
        takes = seconds(attempt.assignment.params, attempt.epoch + 1)
        attempt.ticket += 1
        ticket = attempt.ticket
        self.at(takes, lambda: self.epoch_over(attempt) if attempt.ticket == ticket else None)

    def epoch_over(self, attempt: Attempt) -> None:
        """A worker has trained an epoch: it saves, and reports."""
        if self.running.get(attempt.key) is not attempt or self.driver is None:
            return  # lost meanwhile
        try:
            report = self.training.train(attempt)
        except Killed:  # while it saved
            self.disk.disarm()
            self.lose_worker(attempt, "infrastructure")
            return
        except Broken as error:
            self.lose_worker(attempt, error.kind)
            return
        except FileNotFoundError:
            if attempt.owner not in self.zombies:
                raise
            return  # what it was writing has been tidied away: it is the worker of a driver that has lost the sweep
        acting = self.zombies.get(attempt.owner, self.driver)
        with self.mortal(acting):
            self.deliver(acting, attempt, report)
            self.fill()

    def deliver(self, driver: Driver, attempt: Attempt, report: Report) -> None:
        """The driver hears a report and answers it."""
        if attempt.assignment.is_test:
            driver.conductor.tested(*attempt.key, report.metrics)
            self.running.pop(attempt.key, None)
            return
        goes_on = driver.conductor.report(arrival_of(attempt, report))
        self.training.truth.acknowledged.setdefault((attempt.key[0], report.epoch), report.metrics["loss"])
        if goes_on:
            self._schedule(attempt)
            return
        self.running.pop(attempt.key, None)

    def lose_worker(self, attempt: Attempt, kind: Any) -> None:
        """An attempt breaks."""
        self.running.pop(attempt.key, None)
        self.note(f"trial {attempt.key[0]} attempt {attempt.key[1]} broke: {kind}")
        if self.driver is not None:
            with self.mortal():
                self.driver.conductor.attempt_failed(*attempt.key, kind, f"{kind} failure")
                self.fill()

    def _finish(self) -> None:
        """As `Driver.run` and `main` end."""
        assert self.driver is not None
        driver = self.driver
        if driver.history.ended is None:
            driver.conclude(None)
        driver.lease.release()
        if self.driver is not driver:
            return  # it slept in its last write, and another one has the sweep
        self.note(f"driver {driver.lease.epoch} ends: {driver.state}")
        self.is_over = driver.history.ended is not None
        self.driver = None
        self._alive.clear()
        if not self.is_over:
            self.at(RESTART_S, self.start_driver)

    def settle(self) -> None:
        """Look whether there is something to start, or all is over."""
        with self.mortal():
            self.fill()

    def deliver_stale(self, conductor: Conductor, attempt: Attempt, report: Report) -> None:
        """A report that nobody waits for any more."""
        if conductor.report(arrival_of(attempt, report)):
            self.complaints.append(f"an attempt that was given up may go on: {attempt.key}")

    def renew(self) -> None:
        """The heartbeat, and the snapshot beside it."""
        driver = self.driver
        if driver is not None:
            with self.mortal(), contextlib.suppress(OSError):
                driver.lease.renew()
                driver.write_progress()
        if not self.is_over:
            self.at(RENEW_S, self.renew)

    # --- the tracker ---

    def track(self) -> None:
        """One step of the tracker; one that was killed is followed by another."""
        if self.tracker is None:
            self.note("a tracker starts")
            client: Any = Client(
                self.server, lambda: self._call_of_tracker(after=False), lambda: self._call_of_tracker(after=True)
            )
            world = TrackerWorld(lambda *_: client, lambda: self.now, lambda: not self.is_over)
            self.tracker = Tracker(self.folder, self.folder.parent, world=world)
        try:
            code = self.tracker.step()
        except Killed:
            self.note("tracker killed")
            self.tracker, code = None, None
            self.disk.disarm()
        if code == DELIVERED and self.is_over:
            FolderStorage(self.folder).tidy("")  # as the tracker's process does when it ends
            return
        if code is not None:
            self.tracker = None
        self.at(TRACK_S, self.track)

    def _call_of_tracker(self, *, after: bool) -> None:
        if after is not self._dies_after or self._calls_left == 0:
            return
        self._calls_left -= 1
        if self._calls_left == 0:
            raise Killed

    def arm_tracker(self, calls: int, *, after: bool) -> None:
        """Kill the tracker at one of its next calls to MLflow: before it is sent, or after it was answered."""
        self._calls_left, self._dies_after = calls, after


def arrival_of(attempt: Attempt, report: Report) -> Arrival:
    """What the driver is told of a report."""
    trial, number = attempt.key
    return Arrival(trial, number, report.epoch, report.metrics, report.seconds, report.checkpoint, report.diverged)
