"""Every error Tuneyard raises on purpose: a caller can catch one kind, a person always reads what to do next.

TuneyardError
├── SpecError            a sweep file (or an override) is wrong: carries every Fault at once
│   └── PackageError         a package of the user's code cannot be made, or is refused
├── ContextError         no server is known under that name, or its URL is none
├── SweepNotFoundError   no sweep of that name or id under the data folder
├── SweepRunningError    another driver holds the sweep
├── LedgerError          the record of a sweep cannot be read or written
│   └── LedgerDamagedError   a segment in the middle is damaged: resuming would lose results
├── TrialError           a trial cannot go on; the message is its cause
│   ├── MissingMetricError   the fit did not log what the sweep optimises
│   └── CheckpointError      the checkpoint to start from is damaged or gone
├── ServerError          a server refused a request: carries the status and all faults of its answer
│   └── UnreachableError     no answer came, however often it was asked
├── BackendError         a cluster backend refused or lost a job
├── IllegalMoveError     a sweep's state does not allow what was asked (service/queueing/lifecycle.py)
├── StorageError         a place for sweeps' files cannot be used as it is
├── StoreError           the service's database refused (service/store/database.py)
└── TrackingError        MLflow refused something that a retry will not mend
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


class TuneyardError(Exception):
    """Root of all errors raised on purpose; its text is meant for a person."""


@dataclass(frozen=True, slots=True)
class Fault:
    """One thing wrong in a file: where it is, what was given, what is allowed, and the nearest right name."""

    message: str
    path: str = ""
    file: str = ""
    line: int | None = None
    given: str | None = None
    allowed: str | None = None
    nearest: str | None = None

    def __str__(self) -> str:
        place = ":".join(part for part in (self.file, str(self.line) if self.line else "") if part)
        head = ": ".join(part for part in (place, self.path, self.message) if part)
        notes = [f"given: {self.given}"] if self.given is not None else []
        notes += [f"allowed: {self.allowed}"] if self.allowed else []
        notes += [f"did you mean {self.nearest!r}?"] if self.nearest else []
        return "\n    ".join([head, *notes])


class SpecError(TuneyardError):
    """The sweep file does not describe a sweep; `faults` lists everything wrong with it, in file order."""

    def __init__(self, faults: Sequence[Fault]) -> None:
        self.faults = tuple(faults)
        count = len(self.faults)
        super().__init__(f"{count} fault{'s' if count != 1 else ''}\n" + "\n".join(map(str, self.faults)))


class PackageError(SpecError):
    """A package of the user's code cannot be made, or is refused; nothing of it was kept."""


class ContextError(TuneyardError):
    """What was given names no server; the text says which are known."""


class SweepNotFoundError(TuneyardError):
    """No sweep has the given id under the data folder."""


class SweepRunningError(TuneyardError):
    """Another driver holds the lease of this sweep; nothing was written."""


class LedgerError(TuneyardError):
    """The record of a sweep cannot be read or written."""


class LedgerDamagedError(LedgerError):
    """A segment that later ones build on is damaged; the sweep refuses to go on rather than lose results."""


class TrialError(TuneyardError):
    """A trial cannot go on; the text is the cause that the sweep records."""


class MissingMetricError(TrialError):
    """The fit never logged a metric that the sweep needs."""


class CheckpointError(TrialError):
    """The checkpoint that an attempt should start from is damaged or gone; an older one may do."""


class ServerError(TuneyardError):
    """A server refused a request; `status` is that of HTTP, None where no answer came.

    `retry_after_s` is for how many seconds it asks to wait, None where it says nothing.
    """

    def __init__(self, text: str, status: int | None = None, retry_after_s: float | None = None) -> None:
        self.status, self.retry_after_s = status, retry_after_s
        super().__init__(text)


class UnreachableError(ServerError):
    """No answer came from a server; whether it got the request is not known."""


class BackendError(TuneyardError):
    """A cluster backend refused a job, or lost it."""


class StorageError(TuneyardError):
    """The place where sweeps' files are to live cannot be used; the text says why and what to change."""


class TrackingError(TuneyardError):
    """The tracking server refused something that a retry will not mend."""
