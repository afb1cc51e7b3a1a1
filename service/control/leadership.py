"""Which of several replicas acts on sweeps: the one that holds the controller's lease, for as long as it renews it."""

from __future__ import annotations

import logging
import threading
import time
from typing import Final, Protocol

from service.errors import TuneyardError
from service.records import Lease

log: Final = logging.getLogger(__name__)
LEASE: Final = "controller"
LEASE_S: Final = 12.0


class NotLeadingError(TuneyardError):
    """Another replica acts, or may by now."""


class LeaseStore(Protocol):
    """The part of the store that leases live in."""

    def lease(self, name: str, holder: str, seconds: float) -> Lease | None:
        """The lease, taken or renewed; None while another holds it."""

    def release(self, lease: Lease) -> None:
        """Give it back."""


class Leadership:
    """The lease of this replica. `hold` keeps it fresh while a pass takes longer than it would last."""

    def __init__(self, store: LeaseStore, holder: str, seconds: float = LEASE_S) -> None:
        self._store, self._holder, self._seconds = store, holder, seconds
        self._lock = threading.Lock()
        self._lease: Lease | None = None
        self._asked_at = 0.0  # on this machine's own clock, before the question: never later than the database's view
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None

    def take(self) -> bool:
        """Take or renew the lease; whether this replica leads."""
        with self._lock:
            asked_at = time.monotonic()
            lease = self._store.lease(LEASE, self._holder, self._seconds)
            if (lease is None) != (self._lease is None):
                log.info("this replica %s", "follows" if lease is None else "leads")
            self._lease, self._asked_at = lease, asked_at
            return lease is not None

    def lease(self) -> Lease:
        """The lease, which still lasts by this machine's clock. NotLeadingError otherwise: then nothing may be done."""
        found = self._lease
        if found is None or time.monotonic() - self._asked_at >= self._seconds:
            msg = "another replica may be acting by now"
            raise NotLeadingError(msg)
        return found

    def hold(self) -> None:
        """Keep the lease fresh in the background from now on."""
        self._thread = threading.Thread(target=self._keep, name="lease", daemon=True)
        self._thread.start()

    def leave(self, *, is_idle: bool = True) -> None:
        """Stop renewing, and let another replica act: at once where nothing goes on here, else once the lease ends."""
        self._stop.set()
        if self._thread is not None:
            self._thread.join()
        with self._lock:
            if self._lease is not None and is_idle:
                self._store.release(self._lease)
                self._lease = None

    def _keep(self) -> None:
        while not self._stop.wait(self._seconds / 4):
            if self._lease is None:
                continue  # the next pass asks
            try:
                self.take()
            except Exception:  # whatever the database raises: `lease` tells the time that is left
                log.exception("the lease could not be renewed")
