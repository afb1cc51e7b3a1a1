"""The tracker: a process beside the driver that follows the ledger and keeps MLflow the same, whatever MLflow does.

`python -m service.tuning.tracking STORAGE --home HOME [--parent-pid N] [--grace-s S]` ends with 0 when everything is in
MLflow, and with 3 when something is still owed; `tuneyard sync` and the next driver begin where it stopped.
"""

from __future__ import annotations

import argparse
import contextlib
import logging
import logging.handlers
import os
import random
import shutil
import signal
import sys
import tempfile
import time
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from service.errors import TrackingError
from service.tuning.events import Record
from service.tuning.ledger import LedgerTail
from service.tuning.storage_place import Place, place_of, storage_at, work_folder
from service.tuning.tracking_cursor import Cursor, only_tracker, read_cursor, scratch_of, write_cursor
from service.tuning.tracking_delivery import Carrier, LostRunsError
from service.tuning.tracking_outbox import Outbox
from service.tuning.tracking_server import artifact_root, prepare_store, store_uri, without_password
from service.tuning.tracking_store import MlflowStore, UnavailableError

log = logging.getLogger(__name__)
DELIVERED: Final = 0
UNDELIVERED: Final = 3
FLUSH_S: Final = 0.5
GRACE_S: Final = 60.0
ORPHAN_GRACE_S: Final = 5.0  # a driver that takes over waits for its predecessor's tracker
_SLICE: Final = 2000  # records folded between two flushes: bounds what is held in memory
_SHORTEST_WAIT_S: Final = 0.5
_LONGEST_WAIT_S: Final = 30.0
_CHANCE: Final = random.SystemRandom()  # leaves the numbers alone that others have seeded
_QUIET_S: Final = 10.0


def open_store(home: Path, uri: str | None) -> MlflowStore:
    """The store at `uri`, or else the embedded one under `home`. UnavailableError where that cannot be made yet."""
    if uri is not None:
        return MlflowStore(uri, None)
    try:
        prepare_store(home)
    except Exception as error:  # a full disk, or whatever MLflow's database layers raise: it may mend itself
        msg = f"the store in {home} cannot be made: {error}"
        raise UnavailableError(msg) from error
    return MlflowStore(store_uri(home), artifact_root(home))


@dataclass(frozen=True, slots=True)
class World:
    """What a tracker has to do with beside its ledger; simulations bring their own."""

    open_store: Callable[[Path, str | None], MlflowStore] = open_store
    clock: Callable[[], float] = time.monotonic
    is_driver_alive: Callable[[], bool] | None = None  # None: watch the parent process


class Tracker:
    """Follows one sweep until it is over, or paused, or its driver is gone; see `run`."""

    def __init__(
        self,
        place: Place,
        home: Path,
        *,
        parent_pid: int | None = None,
        grace_s: float = GRACE_S,
        world: World | None = None,
    ) -> None:
        self._place, self._home, self._parent_pid, self._grace_s = place, home, parent_pid, grace_s
        self._world = world or World()
        self._is_alive = self._world.is_driver_alive or _watch(parent_pid)
        self._tail, self._backlog = LedgerTail(place), deque[Record]()
        self._rest_s = max(FLUSH_S, storage_at(place).pace_s)
        self._outbox = Outbox()
        self._start = read_cursor(place)
        self._carrier: Carrier | None = None
        self._uri = ""
        self._error: str | None = None
        self._written: Cursor | None = None
        self._failures, self._answered = 0, 0
        self._last_record_at = self._world.clock()
        self.pause_s = 0.0  # how long to wait before the next step
        self._idle_since: float | None = None
        self._is_blind = False  # the ledger could not be read just now
        self.is_told_to_stop = False

    def run(self) -> int:
        """Deliver until nothing more is expected; DELIVERED or UNDELIVERED."""
        while (code := self.step()) is None:
            self._sleep(self.pause_s)
        return code

    def step(self) -> int | None:
        """Read, deliver and remember what is there now; the exit code once nothing more is expected."""
        self._read()
        is_last = self._is_last()
        pause = self._attempt(is_last=is_last)
        self._save()
        if is_last and (self._is_delivered() or self._is_out_of_time()) and not self._read():
            return DELIVERED if self._is_delivered() else UNDELIVERED
        self.pause_s = 0.0 if self._backlog and not self._failures else pause
        return None

    def _read(self) -> bool:
        """Fold the next slice of the ledger; whether there was any."""
        if not self._backlog:
            try:
                self._backlog.extend(self._tail.read_new())
                self._is_blind = False
            except OSError as error:  # storage is away: nobody knows what is owed until it is back
                self._is_blind, self._error = True, f"the ledger cannot be read: {error}"
        if not self._backlog:
            return False
        self._last_record_at = self._world.clock()
        for _ in range(min(_SLICE, len(self._backlog))):
            record = self._backlog.popleft()
            self._outbox.apply(record)
            if record.sequence < self._start.sequence:
                self._outbox.forget()
        return True

    def _is_last(self) -> bool:
        """Whether nothing more is expected to come."""
        if self._backlog:
            return False
        quiet = self._world.clock() - self._last_record_at >= _QUIET_S
        is_ours = self._outbox.driver_pid == self._parent_pid or quiet  # else an older driver's pause stands last
        is_idle = self._outbox.is_over or (self._outbox.is_paused and is_ours)
        is_last = is_idle or self.is_told_to_stop or not self._is_alive()
        if is_last and self._idle_since is None:
            self._idle_since = self._world.clock()
        if not is_last:
            self._idle_since = None
        return is_last

    def _is_delivered(self) -> bool:
        """Whether nothing is owed, and the cursor says so; an empty ledger owes nothing."""
        if self._is_blind:
            return False
        return self._outbox.subject is None or (self._written is not None and self._written.is_delivered)

    def _is_out_of_time(self) -> bool:
        is_orphan = self._parent_pid is not None and (self.is_told_to_stop or not self._is_alive())
        grace = min(self._grace_s, ORPHAN_GRACE_S) if is_orphan else self._grace_s
        return self._idle_since is not None and self._world.clock() - self._idle_since >= grace

    def _attempt(self, *, is_last: bool) -> float:
        """One flush; the seconds to wait before the next."""
        if self._outbox.subject is None:
            return self._rest_s
        try:
            self._connect().flush(is_last=is_last)
            if is_last:
                self._connect().finish()
        except LostRunsError as error:
            log.warning("%s; delivering everything again", error)
            self._start_over()
            return 0.0
        except (UnavailableError, TrackingError, OSError) as error:  # OSError: a full disk, say
            wait = self._backoff()
            log.warning("MLflow: %s; trying again in %.0f s", error, wait)
            self._error = without_password(str(error))
            return wait
        if self._failures:
            log.info("MLflow answers again")
        self._failures, self._error = 0, None
        return self._rest_s

    def _backoff(self) -> float:
        """The next wait: doubled with each failure in a row, short again once MLflow has answered anything."""
        answered = self._carrier.store.answered if self._carrier else 0
        self._failures = self._failures + 1 if answered == self._answered else 1
        self._answered = answered
        wait = _SHORTEST_WAIT_S * 2.0 ** min(self._failures - 1, 10)
        return min(_LONGEST_WAIT_S, wait) * _CHANCE.uniform(0.8, 1.2)

    def _start_over(self) -> None:
        self._tail, self._outbox, self._start, self._carrier = LedgerTail(self._place), Outbox(), Cursor(), None
        self._backlog.clear()

    def _connect(self) -> Carrier:
        if self._carrier is None:
            uri = self._outbox.known.uri
            self._uri = uri or store_uri(self._home)
            store = self._world.open_store(self._home, uri)
            self._save()  # so that a tracker after this one knows that it is not the first
            if self._written is None:
                msg = "tracking.json cannot be written yet"
                raise UnavailableError(msg)
            self._carrier = Carrier(store, self._outbox, self._place, self._start, self._world.clock)
        return self._carrier

    def _save(self) -> None:
        """Write the cursor where it changed; a full disk only delays it."""
        outbox, carrier = self._outbox, self._carrier
        replayed = min(outbox.cursor, outbox.sequence)
        seen = outbox.sequence + len(self._backlog)
        cursor = Cursor(
            sequence=max(replayed, min(self._start.sequence, seen)),
            seen=seen,
            is_delivered=replayed == seen and not self._failures,
            uri=without_password(self._uri),
            experiment_id=carrier.store.experiment_id if carrier else "",
            run_id=carrier.run_id if carrier else "",
            error=self._error,
            calls=carrier.store.calls if carrier else 0,
            refused=carrier.refused if carrier else 0,
        )
        if outbox.subject is None or cursor == self._written:
            return
        try:
            write_cursor(self._place, cursor)
            self._written = cursor
        except OSError as error:
            log.warning("tracking.json cannot be written: %s", error)

    def _sleep(self, seconds: float) -> None:
        """Wait, but no longer than until the driver ends or somebody asks to stop."""
        end, before = time.monotonic() + seconds, (self.is_told_to_stop, self._is_alive())
        while before == (self.is_told_to_stop, self._is_alive()) and (left := end - time.monotonic()) > 0:
            time.sleep(min(0.1, left))


def _watch(parent_pid: int | None) -> Callable[[], bool]:
    """Whether the driver is still there; without one, nothing is waited for."""
    if parent_pid is None:
        return lambda: False
    if os.getppid() == parent_pid:
        return lambda: os.getppid() == parent_pid
    return lambda: Path(f"/proc/{parent_pid}").exists()


@contextlib.contextmanager
def _scratch(place: Place) -> Iterator[None]:
    """Have all temporary files, MLflow's too, in a place where the next tracker finds those of one that was killed."""
    folder = scratch_of(place)
    shutil.rmtree(folder, ignore_errors=True)
    with contextlib.suppress(OSError):  # a full disk; then they go where they always go
        folder.mkdir()
        tempfile.tempdir = str(folder)
    try:
        yield
    finally:
        tempfile.tempdir = None
        shutil.rmtree(folder, ignore_errors=True)
        with contextlib.suppress(OSError):
            storage_at(place).tidy("")  # half a cursor, of a tracker that was killed


def _log_to(folder: Path) -> None:
    (folder / "logs").mkdir(exist_ok=True)
    handler = logging.handlers.RotatingFileHandler(folder / "logs" / "tracking.log", maxBytes=5_000_000, backupCount=1)
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    logging.basicConfig(level=logging.INFO, handlers=[handler], force=True)
    logging.captureWarnings(capture=True)
    for noisy in ("alembic", "mlflow", "urllib3"):
        logging.getLogger(noisy).setLevel(logging.ERROR)


def track(place: Place, home: Path, *, parent_pid: int | None = None, grace_s: float = GRACE_S) -> int:
    """Bring MLflow up to the ledger in `place`, and follow it while process `parent_pid` lives; the exit code."""
    tracker = Tracker(place, home, parent_pid=parent_pid, grace_s=grace_s)
    give_up = time.monotonic() + grace_s

    def keep_waiting() -> bool:
        return tracker.is_told_to_stop is False and (time.monotonic() < give_up or _watch(parent_pid)())

    def stop(_signal: int, _frame: object) -> None:
        tracker.is_told_to_stop = True

    signal.signal(signal.SIGTERM, stop)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole terminal; the driver decides what ends
    with only_tracker(place, keep_waiting) as is_held:
        if is_held:
            with _scratch(place):
                code = tracker.run()
        else:
            code = UNDELIVERED
    if code == UNDELIVERED:
        sys.stderr.write(
            "MLflow does not have everything of this sweep yet (see logs/tracking.log in its folder). Nothing is lost: "
            "`tuneyard sync` delivers the rest once MLflow answers, and so does `tuneyard resume`.\n",
        )
    return code


def main(arguments: list[str] | None = None) -> int:
    """The process's entry."""
    parser = argparse.ArgumentParser(prog="python -m service.tuning.tracking", description=__doc__)
    parser.add_argument("storage", type=place_of, help="the sweep's storage: a folder, or a URL")
    parser.add_argument("--home", type=Path, required=True, help="the data folder with the embedded store")
    parser.add_argument("--parent-pid", type=int, help="follow the ledger while this process lives")
    parser.add_argument("--grace-s", type=float, default=GRACE_S, help="how long to go on once the sweep is over")
    given = parser.parse_args(arguments)
    _log_to(work_folder(given.storage))
    return track(given.storage, given.home, parent_pid=given.parent_pid, grace_s=given.grace_s)


if __name__ == "__main__":
    sys.exit(main())
