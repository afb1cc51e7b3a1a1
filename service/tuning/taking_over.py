"""How a driver takes a sweep over: it closes the record to whoever drove the sweep before."""

from __future__ import annotations

import os
import socket
from collections.abc import Mapping, Sequence
from typing import Any

from service.errors import LedgerDamagedError, SweepRunningError
from service.tuning.events import DriverStarted, Event, Record, SweepEnded, SweepExtended
from service.tuning.extension import extension
from service.tuning.lease import Lease
from service.tuning.ledger import Ledger
from service.tuning.patience import patiently
from service.tuning.storage_place import Place
from service.tuning.tracking_cursor import read_cursor


def driver_started(lease: Lease) -> DriverStarted:
    """The record of a driver's first act."""
    return DriverStarted(lease.epoch, socket.gethostname(), os.getpid())


def take_over(ledger: Ledger, place: Place, lease: Lease, spec: Mapping[str, Any]) -> list[Record]:
    """The records of the sweep so far, closed by this driver's own first one: whoever came before can add no more.

    Where `spec` allows more trials than they do, that goes on record, too. Nothing is added to a sweep that is over.
    LedgerDamagedError where they cannot be trusted; none for a sweep that has not begun.
    """
    while True:
        records = ledger.open()
        seen = read_cursor(place).seen
        if seen > len(records):
            msg = f"MLflow has heard of {seen} records, but only {len(records)} can be read; the others are lost. "
            raise LedgerDamagedError(msg + "The sweep does not go on: restore the ledger folder from a backup")
        extended = extension(records, spec)
        if not records or (_is_over(records) and not extended):
            return records
        events: list[Event] = [driver_started(lease), *extended]
        try:
            return records + patiently(lambda: ledger.append(events), "writing the ledger")  # noqa: B023  # called now
        except SweepRunningError:
            lease.check()  # still ours: a driver that was only asleep has just written its last record


def _is_over(records: Sequence[Record]) -> bool:
    last = [r.event for r in records if isinstance(r.event, SweepEnded | SweepExtended)][-1:]
    return any(isinstance(event, SweepEnded) for event in last)
