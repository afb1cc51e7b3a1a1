"""Brings every sweep of the service to where it is wanted: looks at jobs, asks the queue, carries out what is due.

One pass after the other; each works from the store, the cluster and the folders alone. A controller that is killed
between two steps leaves nothing that the next one would not find: what is due follows from a sweep's record, and doing
it twice does no harm.
"""

from __future__ import annotations

import logging
import threading
import time
from contextlib import suppress
from subprocess import SubprocessError
from typing import Final

from cluster.backend import JobError, PlaceLostError
from service.control.ending import Endings
from service.control.hands import Hands, Kind
from service.control.leadership import Leadership, NotLeadingError
from service.control.placement import FormerDriverError, Placement, RefusedError
from service.control.sighting import look, without_words
from service.control.standing import Standing
from service.errors import SweepNotFoundError
from service.queueing import lifecycle
from service.queueing.lifecycle import (
    Allow,
    Command,
    Delayed,
    Event,
    Placed,
    Preempted,
    Rebalanced,
    Remove,
    Stop,
    Submit,
    SubmitFailed,
    Unrunnable,
)
from service.queueing.queue import Capacity, allot
from service.queueing.rooms import Settling
from service.records import State, SweepRecord
from service.store import Store
from service.store.database import StoreUnavailableError
from service.store.leases import LeaseLostError
from service.sweeps.once_log import OnceLog

log: Final = logging.getLogger(__name__)
PERIOD_S: Final = 1.0
REST_S, REST = 0.2, 5.0  # between two passes: so long, and so many times what the last one took
MOST_DELAY_S: Final = 60.0  # between two tries to start a driver while the place, or its disk, is in trouble
CLOSE_S: Final = 20.0  # for what is being carried out when the service is told to stop
TIDY_EVERY_S: Final = 3600.0
PACKAGE_GRACE_S: Final = 7 * 86_400.0  # after which code that was sent, and that no sweep is about, is removed
RECORD_KEPT_S: Final = 30 * 86_400.0  # deliveries to webhooks that are over, and Idempotency-Keys
JOB_KEPT_S: Final = 86_400.0  # after a sweep's end: so long its job, and the job's output, can be looked at on Ray
BY: Final = "controller"
_OF_ALL: Final = (NotLeadingError, LeaseLostError, StoreUnavailableError)  # what is no single sweep's trouble


class Controller:
    """One replica's controller; of several, only the one that leads acts."""

    def __init__(self, store: Store, placement: Placement, leadership: Leadership, hands: Hands | None = None) -> None:
        self.store, self.placement, self.leadership = store, placement, leadership
        self._hands = hands or Hands()
        self._endings = Endings(placement)
        self._odd = OnceLog(log)
        self._delays: dict[str, tuple[int, float]] = {}  # by sweep: how often in a row, and until when on our own clock
        self._known: dict[str, SweepRecord] = {}  # by sweep, as read last: what a pass makes of it is read again
        self._settling = Settling()
        self._wake = threading.Event()
        self._tidy_at = 0.0
        self._now = 0.0  # by the database's clock, at the beginning of the pass
        self.trouble = ""  # with the cluster; empty where it answers
        self.standing = Standing()

    def wake(self) -> None:
        """There is something to do: do not wait for the next turn."""
        self._wake.set()

    def run(self, stop: threading.Event) -> None:
        """Pass after pass until `stop` is set; the pass that runs then is brought to its end."""
        self.leadership.hold()
        try:
            while not stop.is_set():
                began = time.monotonic()
                self._try()
                took_s = time.monotonic() - began
                stop.wait(max(REST_S, REST * took_s))  # a flood of submissions is not slowed down by passes
                self._wake.wait(PERIOD_S)
                self._wake.clear()
        finally:
            self.leadership.leave(is_idle=self._hands.close(CLOSE_S))

    def _try(self) -> None:
        try:
            self.reconcile()
        except (NotLeadingError, LeaseLostError) as error:  # which is another replica's turn, and no trouble
            log.info("%s", error)
        except Exception as error:  # noqa: BLE001  # no pass is the last one, whatever the database or the disk does
            self.standing.broke_off(error)
            self._odd.warn("a pass", f"a pass of the controller broke off: {error!r}", error)
        else:
            self._odd.forget("a pass")

    def reconcile(self) -> None:
        """One pass."""
        self.standing.leads = self.leadership.take()
        if self.standing.leads:
            self._pass()
        self.standing.passed()

    def _pass(self) -> None:
        self._now = self.store.now()
        self._known = {sweep.id: sweep for sweep in self.store.unfinished(self._known)}
        sweeps = dict(self._known)
        try:
            self._hear(sweeps)
            self._allot(sweeps)
            self._note_trouble("")
        except JobError as error:
            self._note_trouble(str(error))
        self._endings.forget_others(sweeps)
        for sweep_id in set(self._delays) - set(sweeps):
            self._delays.pop(sweep_id, None)
        for sweep in sweeps.values():
            try:
                for command in lifecycle.due(sweep):
                    self._carry_out(sweep, command)
            except NotLeadingError:  # nor may anything else be done
                raise
            except Exception as error:  # noqa: BLE001  # of this one alone; it stays due
                self._odd.warn(f"due {sweep.id}", f"{sweep.id} could not be given what is due: {error!r}", error)

        if self._now >= self._tidy_at:
            self._tidy_at = self._now + TIDY_EVERY_S
            self._hands.start("packages and records", self._tidy)
            if not self.trouble:
                self._hands.start("jobs of ended sweeps", self._forget_jobs)

    def _tidy(self) -> None:
        """Remove code that was sent, and that no sweep is about any more, and records that nobody needs any more."""
        before = self._now - PACKAGE_GRACE_S
        if self._leads():
            self.store.tidy(self._now - RECORD_KEPT_S)
            for digest in self.store.forget_packages(before):
                self.placement.remove_package(digest, before)

    def _forget_jobs(self) -> None:
        """Have the cluster forget the jobs of sweeps that were over long ago, or its list of them grows for ever."""
        if self._leads():
            self.placement.forget(self.store.ended(before=self._now - JOB_KEPT_S))

    def _note_trouble(self, trouble: str) -> None:
        if trouble != self.trouble:
            log.warning("the cluster is away: %s", trouble) if trouble else log.info("the cluster is back")
        self.trouble, self.standing.is_cluster_away = trouble, bool(trouble)

    def _hear(self, sweeps: dict[str, SweepRecord]) -> None:
        settled = [sweep for sweep in sweeps.values() if not self._hands.is_busy(sweep.id)]
        for sweep, event in look(self.placement.ground.root, self.placement.backend, settled):
            self._act(sweeps, sweep, event)

    def _allot(self, sweeps: dict[str, SweepRecord]) -> None:
        seen = Capacity.of(self.placement.backend.capacity(), self.placement.ground.driver_cpus)
        capacity = self._settling.judge(seen, self._now)
        plan = allot(list(sweeps.values()), capacity, self.store.quotas(), self.store.usage(), self._now)
        for sweep_id, reason in plan.preempt.items():
            self._act(sweeps, sweeps[sweep_id], Preempted(reason))
        # first those who shrink: not even between two writes is more given out than there is
        for sweep_id, concurrency in sorted(plan.grants.items(), key=lambda g: g[1] > sweeps[g[0]].concurrency):
            is_new = sweep_id in plan.place
            self._act(sweeps, sweeps[sweep_id], Placed(concurrency) if is_new else Rebalanced(concurrency))

    def _act(self, sweeps: dict[str, SweepRecord], sweep: SweepRecord, event: Event) -> None:
        """Write what `event` makes of the sweep, where it makes anything of it.

        Whatever goes wrong with one sweep, because of what its driver or its user's code has left, is its own trouble.
        """
        for heard in (event, without_words(event)):
            try:
                self._write(sweeps, sweep, heard)
            except _OF_ALL:
                raise
            except Exception as error:  # noqa: BLE001  # of this one alone
                self._odd.warn(sweep.id, f"{sweep.id} cannot take in what was seen of it: {error!r}", error)
            else:
                return

    def _write(self, sweeps: dict[str, SweepRecord], sweep: SweepRecord, event: Event) -> None:
        after, _ = lifecycle.step(sweep, event, self._now)
        if after.version != sweep.version:
            with suppress(SweepNotFoundError):  # deleted just now
                sweeps[sweep.id] = self.store.act(sweep.id, None, event, by=BY, lease=self.leadership.lease())

    def _carry_out(self, sweep: SweepRecord, command: Command) -> None:
        self.leadership.lease()
        match command:
            case Submit():
                if time.monotonic() >= self._delays.get(sweep.id, (0, 0.0))[1]:
                    learns = (sweep.spec.get("search") or {}).get("warm_start")
                    kind = Kind.LEARNING if learns else Kind.STARTING
                    self._hands.start(sweep.id, lambda: self._submit(sweep), kind)
            case Allow():
                self._tell(sweep)
            case Stop(wait_s):
                if not self._endings.is_pausing(sweep, wait_s):
                    self._hands.start(f"stop {sweep.id}", lambda: self._stop(sweep, wait_s))
            case Remove():
                self._hands.start(sweep.id, lambda: self._remove(sweep))

    def _submit(self, seen: SweepRecord) -> None:
        """Have the driver started that is due; what the cluster or the sweep itself says against it is noted."""

        def is_due() -> bool:
            """Asked last of all, since making a folder may have taken minutes: whether it is still for us to do."""
            now = self.store.sweep(seen.id, None)
            return self._leads() and (now.attempt, now.state) == (seen.attempt, State.STARTING)

        self.leadership.lease()
        sweep = self.store.sweep(seen.id, None)
        try:
            self.placement.submit(sweep, is_due)
        except RefusedError as error:
            self._note(sweep, Unrunnable(str(error)))
        except (PlaceLostError, FormerDriverError, OSError) as error:
            if not self.trouble:  # else it stays due until the cluster is back
                self._delay(sweep, str(error))
        except (JobError, SubprocessError) as error:
            self._note(sweep, SubmitFailed(sweep.attempt, str(error)))
        else:
            self._delays.pop(sweep.id, None)

    def _delay(self, sweep: SweepRecord, why: str) -> None:
        """Try again after a while, longer each time; it counts for nothing, as the sweep can do nothing about it."""
        times = self._delays.get(sweep.id, (0, 0.0))[0] + 1
        self._delays[sweep.id] = times, time.monotonic() + min(MOST_DELAY_S, lifecycle.backoff_s(min(times, 9)))
        self._odd.warn(f"submit {sweep.id}", f"{sweep.id} cannot be started yet: {why}")
        self.store.act(sweep.id, None, Delayed(sweep.attempt, why), by=BY, lease=self.leadership.lease())

    def _leads(self) -> bool:
        """By this machine's clock and by the database's."""
        return self.store.holds(self.leadership.lease())

    def _note(self, sweep: SweepRecord, event: Event) -> None:
        log.warning("%s: %s", sweep.id, event)
        self.store.act(sweep.id, None, event, by=BY, lease=self.leadership.lease())

    def _tell(self, sweep: SweepRecord) -> None:
        try:
            self.placement.tell(sweep)
        except OSError as error:
            self._odd.warn(f"tell {sweep.id}", f"{sweep.id} could not be told its share: {error}")

    def _stop(self, seen: SweepRecord, wait_s: float) -> None:
        sweep = self.store.sweep(seen.id, None)
        if self._leads() and (sweep.attempt, sweep.state) == (seen.attempt, State.STOPPING):
            self._endings.end(sweep, wait_s)

    def _remove(self, sweep: SweepRecord) -> None:
        """Remove a deleted sweep: a driver that may still be at work first, then its job, the folder, then the row."""
        self.leadership.lease()
        try:
            self.placement.stop(sweep.id, 0.0)
            self.placement.backend.forget(sweep.id)
        except PlaceLostError:
            if sweep.reason != lifecycle.GIVEN_UP:
                raise
        self.placement.remove(sweep.id)
        self.store.forget_sweep(sweep.id)
