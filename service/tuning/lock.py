"""Keeps two drivers of one machine from having the same sweep; the ledger itself refuses all others."""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Iterator
from pathlib import Path

from service.errors import SweepRunningError
from service.tuning.sweep_folder import LOCK_FILE


@contextlib.contextmanager
def only_driver(folder: Path) -> Iterator[None]:
    """Hold the sweep against other drivers of this machine; SweepRunningError if one has it."""
    with (folder / LOCK_FILE).open("a+") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.seek(0)
            owner = file.read().strip() or "unknown"
            msg = f"another driver (process {owner}) runs this sweep; watch it with `tuneyard watch`"
            raise SweepRunningError(msg) from None
        file.truncate(0)
        file.write(str(os.getpid()))
        file.flush()
        yield
