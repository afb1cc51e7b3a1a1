"""Gives a sweep to one driver at a time: numbered leases in its storage, of which only the highest counts.

A lease is a file that only one driver can create, so that of two that want the same number one gets it. Its holder
renews it every few seconds. Whoever wants to take it over judges by what it sees with its own clock: a lease that was
given back, whose process is gone, or that has not been renewed for `EXPIRES_S`. A driver that was only asleep finds a
higher number before and after each commit, and leaves (a fencing token, Kleppmann 2016).
"""

from __future__ import annotations

import contextlib
import errno
import json
import logging
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
from typing import Final

from service.errors import SweepRunningError
from service.tuning.process_identity import is_stopped, started_at, this_machine, this_process
from service.tuning.storage import Storage

log: Final = logging.getLogger(__name__)
FOLDER: Final = "lease"
RENEW_S: Final = 4.0
EXPIRES_S: Final = 20.0
_POLL_S: Final = 0.2


@dataclass(frozen=True, slots=True)
class Holder:
    """What a lease says of the driver that has it; `beat` grows with each renewal."""

    machine: str
    pid: int
    started_at: str | None
    beat: int = 0
    is_released: bool = False


class Lease:
    """The right to drive a sweep, for as long as nobody has a higher `epoch`."""

    def __init__(self, storage: Storage, epoch: int, holder: Holder) -> None:
        self._storage, self.epoch, self.holder = storage, epoch, holder

    def check(self) -> None:
        """SweepRunningError if another driver has taken the sweep over. OSError if storage cannot tell."""
        newest = _newest(self._storage)
        if newest > self.epoch:
            msg = f"another driver has taken this sweep over (lease {newest}, this one's is {self.epoch})"
            raise SweepRunningError(msg)
        if newest < self.epoch:
            raise OSError(errno.EIO, "the lease is not there", FOLDER)  # as while a mount is gone

    def renew(self) -> None:
        """Show that the holder is alive."""
        self.check()
        self.holder = replace(self.holder, beat=self.holder.beat + 1)
        self._storage.replace(_name(self.epoch), _pack(self.holder))

    def release(self) -> None:
        """Give the sweep back: the next driver need not wait."""
        with contextlib.suppress(OSError, SweepRunningError):  # then it expires, or somebody has it already
            self.check()
            self._storage.replace(_name(self.epoch), _pack(replace(self.holder, is_released=True)))

    @contextlib.contextmanager
    def kept(self, on_loss: Callable[[SweepRunningError], None]) -> Iterator[None]:
        """Renew the lease in the background; `on_loss` hears it, once, if another driver has taken the sweep over."""
        over = threading.Event()

        def renew_until_over() -> None:
            while not over.wait(RENEW_S):
                try:
                    self.renew()
                except SweepRunningError as error:
                    on_loss(error)
                    return
                except OSError as error:  # storage is away: for whoever would take over, too
                    log.warning("the lease cannot be renewed: %s", error)

        thread = threading.Thread(target=renew_until_over, name="lease", daemon=True)
        thread.start()
        try:
            yield
        finally:
            over.set()
            thread.join()


def is_at_work(holder: Holder) -> bool | None:
    """Whether the holder's process is there and running; None where that cannot be seen from here."""
    if holder.machine != this_machine():
        return None
    if started_at(holder.pid) != holder.started_at:
        return False
    return None if is_stopped(holder.pid) else True


@dataclass(frozen=True, slots=True)
class Senses:
    """How a driver that wants a lease looks at the world; simulations bring their own."""

    clock: Callable[[], float] = time.monotonic
    sleep: Callable[[float], None] = time.sleep
    is_at_work: Callable[[Holder], bool | None] = is_at_work


def take(storage: Storage, me: Holder | None = None, senses: Senses = Senses()) -> Lease:  # frozen
    """The lease on the sweep in `storage`; SweepRunningError if a driver is at work on it.

    Waits for up to `EXPIRES_S` where it cannot know at once: a holder on another machine, or one that is stopped.
    """
    newest = _newest(storage)
    holder = me or Holder(*this_process())
    if newest:
        seen = _read(storage, newest)
        if seen is not None and replace(seen, beat=0) == holder:
            return Lease(storage, newest, holder)  # an earlier try did it all but could not say so
        _await_end(storage, newest, senses)
    try:
        storage.create(_name(newest + 1), _pack(holder))
    except FileExistsError as error:
        msg = "another driver has just started on this sweep; watch it with `tuneyard watch`"
        raise SweepRunningError(msg) from error
    lease = Lease(storage, newest + 1, holder)
    lease.check()
    for epoch in _epochs(storage):
        if epoch < lease.epoch:
            storage.delete(_name(epoch))
    return lease


def _await_end(storage: Storage, epoch: int, senses: Senses) -> None:
    """Return once the lease `epoch` is nobody's any more; SweepRunningError as soon as its holder is seen alive."""
    until = senses.clock() + EXPIRES_S
    seen = _read(storage, epoch)
    while seen is not None and not seen.is_released:
        is_alive = senses.is_at_work(seen)
        if is_alive is False:
            return
        now = _read(storage, epoch)
        if is_alive or (now is not None and now.beat != seen.beat):
            host = seen.machine.partition("/")[0]
            msg = f"another driver (process {seen.pid} on {host}) runs this sweep; watch it with `tuneyard watch`"
            raise SweepRunningError(msg)
        if senses.clock() >= until:
            log.warning("the driver of lease %d has not renewed it for %g s: taking over", epoch, EXPIRES_S)
            return
        senses.sleep(_POLL_S)
        seen = now


def _name(epoch: int) -> str:
    return f"{FOLDER}/{epoch:08d}.json"


def _epochs(storage: Storage) -> list[int]:
    return [int(name.partition(".")[0]) for name in storage.names(FOLDER)]


def _newest(storage: Storage) -> int:
    return max(_epochs(storage), default=0)


def _pack(holder: Holder) -> bytes:
    return json.dumps(asdict(holder)).encode()


def _read(storage: Storage, epoch: int) -> Holder | None:
    """What the lease says; None where it is gone or cannot be understood, which is nobody's."""
    try:
        return Holder(**json.loads(storage.read(_name(epoch))))
    except (FileNotFoundError, ValueError, TypeError):
        return None
