"""How a driver takes a sweep over: it closes the record to whoever drove the sweep before."""

from __future__ import annotations

import os
import socket
from pathlib import Path

from service.errors import LedgerDamagedError, SweepRunningError
from service.tuning.events import DriverStarted, Record, SweepEnded
from service.tuning.lease import Lease
from service.tuning.ledger import Ledger
from service.tuning.patience import patiently
from service.tuning.tracking_cursor import read_cursor


def driver_started(lease: Lease) -> DriverStarted:
    """The record of a driver's first act."""
    return DriverStarted(lease.epoch, socket.gethostname(), os.getpid())


def take_over(ledger: Ledger, folder: Path, lease: Lease) -> list[Record]:
    """The records of the sweep so far, closed by this driver's own first one: whoever came before can add no more.

    LedgerDamagedError where they cannot be trusted; none for a sweep that has not begun.
    """
    while True:
        records = ledger.open()
        seen = read_cursor(folder).seen
        if seen > len(records):
            msg = f"MLflow has heard of {seen} records, but only {len(records)} can be read; the others are lost. "
            raise LedgerDamagedError(msg + "The sweep does not go on: restore the ledger folder from a backup")
        if not records or any(isinstance(record.event, SweepEnded) for record in records):
            return records
        try:
            return records + patiently(lambda: ledger.append([driver_started(lease)]), "writing the ledger")
        except SweepRunningError:
            lease.check()  # still ours: a driver that was only asleep has just written its last record
