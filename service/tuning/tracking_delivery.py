"""Carries what the outbox owes to MLflow so that any call may fail, hang or lose its reply: the result is the same."""

from __future__ import annotations

import logging
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from service.errors import TrackingError
from service.tuning.storage_place import Place, storage_at
from service.tuning.tracking_cursor import Cursor
from service.tuning.tracking_outbox import Outbox
from service.tuning.tracking_points import Delivery
from service.tuning.tracking_runs import FitKey, RunKey, order_of, parent_of
from service.tuning.tracking_store import MlflowStore, Run, UnavailableError

log = logging.getLogger(__name__)
PATIENCE_S: Final = 10.0  # how long a server may wait for a run's next points: each request carries many
ENOUGH: Final = 20  # results of one run that are worth a request at once
LATE_S: Final = 30.0  # a server may carry out so late what a client no longer waits for
_ARTIFACT_RETRY_S: Final = 15.0


class LostRunsError(Exception):
    """What an earlier tracker delivered has gone, as when the store was replaced: everything is owed again."""


class Carrier:
    """One connection's deliveries. `flush` raises UnavailableError while MLflow cannot be reached; call it again.

    `start` is how far an earlier tracker has come.
    """

    def __init__(
        self,
        store: MlflowStore,
        outbox: Outbox,
        place: Place,
        start: Cursor,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._clock = clock
        self.store, self._outbox, self._files = store, outbox, storage_at(place)
        self._has_delivered = start.sequence > 0
        self.refused = 0  # pieces that MLflow will never take
        self._runs: dict[RunKey, Run] = {}
        self._gone: set[RunKey] = set()  # runs that somebody deleted in MLflow: theirs to decide
        self._doubts: set[RunKey] = set()  # runs for which a reply was lost
        self._doubted_at = clock() if start.uri else None  # a tracker before this one may have been cut off
        self._first_seen: dict[RunKey, float] = {}
        self._artifacts_at: dict[RunKey, float] = {}  # when to try a run's artifacts again
        self._is_open = False

    def open(self) -> None:
        """Connect and find the runs that are there already; LostRunsError if earlier deliveries are not."""
        if self._is_open:
            return
        subject = self._outbox.known
        self.store.open(subject.experiment)
        for key, runs in self.store.runs(subject.sweep_id, is_all=True).items():
            self._runs[key] = self._keep_one(key, runs)
        if self._has_delivered and None not in self._runs:
            msg = "the sweep's run is not in MLflow (any more)"
            raise LostRunsError(msg)
        self._is_open = True

    def flush(self, *, is_last: bool = False) -> None:
        """Deliver what is due; with `is_last`, everything."""
        self.open()
        now = self._clock()
        broken: UnavailableError | None = None
        for key in sorted(self._outbox.due, key=order_of):
            delivery = self._outbox.due[key]
            age = now - self._first_seen.setdefault(key, now)
            self._ensure(key, delivery)
            if not (is_last or self.store.is_embedded or _is_due(delivery, age)):
                continue
            self._deliver(key, delivery)
            try:
                self._carry_files(key, delivery, is_last=is_last)
            except UnavailableError as error:  # an artifact store that is away must not keep results from arriving
                self._artifacts_at[key], broken = now + _ARTIFACT_RETRY_S, error
            if not (delivery.files or delivery.texts):
                self._outbox.settle(key)
                self._first_seen.pop(key, None)
        if broken is not None:
            raise broken

    def finish(self) -> None:
        """After the last flush: make good what a request that was carried out late may have done; name the winner."""
        if self._doubted_at is not None and not self.store.is_embedded:
            self._reconcile(self._doubted_at)
        self._register()

    def _reconcile(self, doubted_at: float) -> None:
        """Hold every run against the record: one for each trial, and each with the status that it should have.

        UnavailableError while a request that nobody has answered may still be under way.
        """
        if self._clock() < doubted_at + LATE_S:
            msg = "waiting for requests that may still be carried out"
            raise UnavailableError(msg)
        for key, runs in self.store.runs(self._outbox.known.sweep_id, is_all=True).items():
            ours, expected = self._runs.get(key), self._outbox.standing.get(key)
            for run in runs:
                if ours is None or run.run_id != ours.run_id:
                    self._remove(key, run)
                elif expected is not None and run.status != expected[0]:
                    self.store.set_status(run.run_id, *expected)
        self._doubts.clear()
        self._doubted_at = None

    @property
    def run_id(self) -> str:
        """The sweep's own run; empty before it was made."""
        return self._runs[None].run_id if None in self._runs else ""

    def _ensure(self, key: RunKey, delivery: Delivery) -> None:
        """Have a run to deliver to, unless somebody deleted it."""
        if key in self._runs or key in self._gone:
            return
        if not delivery.is_new or (key is not None and parent_of(key) not in self._runs):
            self._gone.add(key)
            return
        if key in self._doubts and (found := self.store.runs(self._outbox.known.sweep_id, key).get(key)):
            self._runs[key] = self._keep_one(key, found)
        else:
            self._create(key, delivery)

    def _create(self, key: RunKey, delivery: Delivery) -> None:
        tags = {**delivery.tags, **self._outbox.identity(key)}
        if key is not None:
            tags["mlflow.parentRunId"] = self._runs[parent_of(key)].run_id
        try:
            self._runs[key] = self.store.create(delivery.start_ms, tags)
        except UnavailableError:
            self._doubt(key)
            raise
        delivery.tags.clear()

    def _deliver(self, key: RunKey, delivery: Delivery) -> None:
        run = self._runs.get(key)
        if run is None:
            delivery.files.clear()
            delivery.texts.clear()
            return
        expected = None if delivery.status is None else (delivery.status, delivery.end_ms)
        try:
            self._log(key, run, delivery)
            if expected is not None and key not in self._gone:
                self._forgiving(lambda: self.store.set_status(run.run_id, *expected))
        except UnavailableError:
            self._doubt(key)
            raise
        delivery.status = None

    def _doubt(self, key: RunKey) -> None:
        self._doubts.add(key)
        self._doubted_at = self._clock()

    def _log(self, key: RunKey, run: Run, delivery: Delivery) -> None:
        try:
            self.store.log(run.run_id, delivery.points, delivery.params, delivery.tags)
        except TrackingError as error:
            log.warning("%s refuses a batch: %s", _name(key), error)
            self._salvage(key, run, delivery)
        delivery.points, delivery.params, delivery.tags = [], {}, {}
        delivery.results = 0

    def _salvage(self, key: RunKey, run: Run, delivery: Delivery) -> None:
        """Deliver each part of a refused batch by itself, unless the run was deleted."""
        if not self.store.runs(self._outbox.known.sweep_id, key).get(key):
            log.warning("%s was deleted in MLflow; nothing more is written for it", _name(key))
            self._gone.add(key)
            del self._runs[key]
            delivery.files.clear()
            delivery.texts.clear()
            return
        self._forgiving(lambda: self.store.log(run.run_id, delivery.points, {}, {}))
        self._forgiving(lambda: self.store.log(run.run_id, [], {}, delivery.tags))
        self._forgiving(lambda: self.store.log(run.run_id, [], delivery.params, {}))

    def _forgiving(self, call: Callable[[], None]) -> None:
        try:
            call()
        except TrackingError as error:
            self.refused += 1
            log.warning("MLflow refuses for good: %s", error)

    def _carry_files(self, key: RunKey, delivery: Delivery, *, is_last: bool) -> None:
        run = self._runs.get(key)
        if run is None or (not is_last and self._clock() < self._artifacts_at.get(key, 0.0)):
            return
        for place, text in list(delivery.texts.items()):
            self.store.write(run, text, place)
            del delivery.texts[place]
        for path, place in list(delivery.files.items()):
            with self._local(path) as file:
                if file is None:
                    log.debug("%s: %s is not there (any more)", _name(key), path)
                else:
                    self.store.upload(run, file, place)
            del delivery.files[path]

    @contextmanager
    def _local(self, path: str) -> Iterator[Path | None]:
        """A file of the sweep, where it can be read on this machine; None where it is not there (any more)."""
        with tempfile.TemporaryDirectory() as scratch:
            try:
                file = self._files.fetch(path, Path(scratch))
            except FileNotFoundError:
                file = None
            except OSError as error:
                msg = f"{path} cannot be read: {error}"
                raise UnavailableError(msg) from error
            yield file if file is not None and file.is_file() else None

    def _keep_one(self, key: RunKey, runs: list[Run]) -> Run:
        """The run that holds most; the others came from a request whose reply was lost, and go."""
        first, *others = sorted(runs, key=lambda r: (-r.metrics, r.run_id))
        for run in others:
            self._remove(key, run)
        return first

    def _remove(self, key: RunKey, run: Run) -> None:
        log.info("%s: removing run %s, a double", _name(key), run.run_id)
        self.store.set_status(run.run_id, "KILLED", int(time.time() * 1000))
        self.store.delete(run.run_id)

    def _register(self) -> None:
        target, best = self._outbox.known.register_best_as, self._outbox.crown.best
        key = None if best is None else self._outbox.key(best[0])
        if target is None or best is None or key not in self._runs:
            return
        trial = best[0]
        name, _, alias = target.partition("@")
        with self._local(self._outbox.checkpoints.get(trial, "")) as chosen:
            if chosen is None:
                log.warning("trial %s has no checkpoint to register as %s", trial, target)
                return
            run, place = self._runs[key], f"checkpoints/{chosen.name}"
            self.store.upload(run, chosen, place)
        tags = self._outbox.identity(key) | {"tuneyard.epoch": str(_epoch_of(chosen))}
        self._forgiving(
            lambda: log.info(
                "registered %s as version %s", target, self.store.register(name, alias or "candidate", run, place, tags)
            )
        )


def _is_due(delivery: Delivery, age: float) -> bool:
    return delivery.results >= ENOUGH or delivery.status is not None or age >= PATIENCE_S


def _epoch_of(path: Path) -> int:
    """The epoch in a checkpoint's name, `<attempt>-<epoch>.ckpt`."""
    return int(path.stem.rpartition("-")[2])


def _name(key: RunKey) -> str:
    return "the sweep" if key is None else f"trial {key.number if isinstance(key, FitKey) else key}"
