"""The append-only record of a sweep: everything decided and reported, written and synced before it is acted upon.

A ledger is a folder of immutable segments. Each holds one commit, is named by the sequence number of its first record,
and starts with a checksum of its body. Since a name is written once, two drivers cannot both continue a ledger: the
slower one finds its place taken. Old segments are merged into larger ones, named by their first and last record; since
that frees names, the writer also asks, before and after each commit, whether it still has the sweep. A last segment
that ends too early was never acknowledged, so it is dropped; any other damage means lost results, so reading fails.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import re
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final

from service.errors import LedgerDamagedError, LedgerError, SweepRunningError
from service.tuning.events import SCHEMA_VERSION, Event, Record, decode, encode
from service.tuning.storage import Storage
from service.tuning.storage_place import Place, storage_at

FOLDER: Final = "ledger"
MERGE_AFTER: Final = 256  # small segments; keeps a listing short without rewriting history often
READS: Final = 3
READ_AGAIN_S: Final = 0.05
_to_text: Final = json.JSONEncoder(separators=(",", ":"), ensure_ascii=False).encode
_NAME: Final = re.compile(r"^(\d{12})(?:-(\d{12}))?\.jsonl$")


@dataclass(frozen=True, slots=True)
class Segment:
    """A file that holds the records from `first` on; a merged one says where it ends, one commit does not."""

    first: int
    last: int | None = None

    @property
    def name(self) -> str:
        """The segment's file name inside the storage."""
        end = "" if self.last is None else f"-{self.last:012d}"
        return f"{FOLDER}/{self.first:012d}{end}.jsonl"

    @property
    def order(self) -> tuple[int, int]:
        """Sorts by place, a merged segment before those that it has taken in."""
        return self.first, 0 if self.last is None else -self.last


class TornError(ValueError):
    """A segment ends too early: its writer was cut off, so nobody was ever told that it is there."""


class Ledger:
    """The writer's end: one per sweep at a time, held by the driver that holds the sweep's lease.

    `check_lease` raises SweepRunningError once that is another one.
    """

    def __init__(
        self, storage: Storage, clock: Callable[[], float], check_lease: Callable[[], None] = lambda: None
    ) -> None:
        self._storage, self._clock, self.check_lease = storage, clock, check_lease
        self._commits: list[Segment] = []  # since the last merge
        self._next = 0
        self._at = 0.0

    def open(self) -> list[Record]:
        """Read what is there, drop a torn tail, get ready to append. LedgerDamagedError if the middle is damaged."""
        used, records, torn = _read(self._storage)
        for segment in torn:
            self._storage.delete(segment.name)
        self._commits, self._next = [s for s in used if s.last is None], len(records)
        self._at = records[-1].at if records else 0.0
        return records

    def append(self, events: Sequence[Event], at: float | None = None) -> list[Record]:
        """Commit `events` together, durably, and return them with their places.

        OSError if storage refuses: then they have to be appended again, with the same `at`. SweepRunningError if
        another driver was faster.
        """
        now = self._clock() if at is None else at
        self._at = max(now, self._at)  # a clock that jumps back must not reorder history
        records = [Record(self._next + i, self._at, event) for i, event in enumerate(events)]
        segment = Segment(self._next)
        self.check_lease()
        self._create(segment, _pack(records))
        self.check_lease()  # where it fails, what was written stands in a merged segment already, or is read by no one
        self._commits.append(segment)
        self._next += len(records)
        if len(self._commits) >= MERGE_AFTER:
            with contextlib.suppress(OSError, SweepRunningError):  # nothing is lost: the next commit tries again
                self._merge()
        return records

    def _create(self, segment: Segment, data: bytes) -> None:
        try:
            self._storage.create(segment.name, data)
        except FileExistsError as error:
            if self._storage.read(segment.name) == data:
                self._storage.settle(FOLDER)  # an earlier try did it all, but could not say so
                return
            msg = f"another driver has continued this sweep (record {self._next} is its own); this one must end"
            raise SweepRunningError(msg) from error

    def _merge(self) -> None:
        """Replace all commits so far by one segment; a crash in between leaves both, which reads the same."""
        merged = Segment(self._commits[0].first, self._next - 1)
        contents = self._storage.read_each([segment.name for segment in self._commits])
        pairs = zip(self._commits, contents, strict=True)
        records = [record for segment, data in pairs for record in _unpack(data, segment)]
        self._storage.create(merged.name, _pack(records))
        taken_in, self._commits = self._commits, []
        self._storage.delete_each([segment.name for segment in taken_in])


class LedgerTail:
    """A reader's end that follows a growing ledger; any number of them, in any process."""

    def __init__(self, place: Place, start: int = 0, storage: Storage | None = None) -> None:
        self._storage = storage or storage_at(place)
        self.next = start

    def read_new(self) -> list[Record]:
        """The records since the last call, in order; stops before anything that is not readable yet."""
        found: list[Record] = []
        segments = _segments(self._storage)
        if any(s.first >= self.next for s in segments):
            self._storage.settle(FOLDER)  # what a power cut could still take back must not be acted upon
        for segment in sorted(segments, key=lambda s: s.order):
            if segment.first > self.next or (segment.last is None and segment.first < self.next):
                continue
            if segment.last is not None and segment.last < self.next:
                continue
            try:
                records = _unpack(self._storage.read(segment.name), segment)
            except (FileNotFoundError, ValueError):
                break  # merged away, or torn: the next call sees what took its place
            found += [record for record in records if record.sequence >= self.next]
            self.next = records[-1].sequence + 1
        return found


def read_ledger(place: Place, storage: Storage | None = None) -> list[Record]:
    """All records of the sweep stored in `place`, without a torn tail. LedgerDamagedError if the middle is damaged."""
    storage = storage or storage_at(place)
    for _ in range(READS - 1):
        with contextlib.suppress(FileNotFoundError, LedgerDamagedError):  # a driver may be merging right now
            return _read(storage)[1]
        time.sleep(READ_AGAIN_S)
    return _read(storage)[1]


def _segments(storage: Storage) -> list[Segment]:
    matches = (_NAME.match(name) for name in storage.names(FOLDER))
    return [Segment(int(m[1]), None if m[2] is None else int(m[2])) for m in matches if m is not None]


def _read(storage: Storage) -> tuple[list[Segment], list[Record], list[Segment]]:
    """(segments in use, their records, torn segments at the end)."""
    used: list[Segment] = []
    records: list[Record] = []
    waiting = sorted(_segments(storage), key=lambda s: s.order)
    for position, segment in enumerate(waiting):
        if segment.first < len(records):
            continue  # its records stand in a merged segment
        if segment.first > len(records):
            raise _damage(records, f"records {len(records)} to {segment.first - 1} are missing")
        try:
            found = _unpack(storage.read(segment.name), segment)
        except ValueError as error:
            is_tail = segment.last is None and all(s.first <= segment.first for s in waiting)
            if not (is_tail and isinstance(error, TornError)):
                raise _damage(records, f"{segment.name} is damaged ({error})") from error
            return used, records, waiting[position:]
        used.append(segment)
        records += found
    return used, records, []


def _damage(records: Sequence[Record], what: str) -> LedgerDamagedError:
    return LedgerDamagedError(
        f"{what}; {len(records)} records before that are readable. "
        "The sweep does not go on, because results would be lost: restore the ledger folder from a backup",
    )


def _pack(records: Sequence[Record]) -> bytes:
    lines = [_to_text(encode(record)) for record in records]
    body = ("\n".join(lines) + "\n").encode()
    header = {"schema_version": SCHEMA_VERSION, "records": len(records), "bytes": len(body), "blake2b": _digest(body)}
    return json.dumps({**header, "header": _digest(json.dumps(header).encode())}).encode() + b"\n" + body


def _unpack(data: bytes, segment: Segment) -> list[Record]:
    """The records of a segment; ValueError says why it cannot be trusted, TornError if it only ends too early."""
    head, end, body = data.partition(b"\n")
    if not end:
        msg = "it ends within its first line"
        raise TornError(msg)
    header = _header(head)
    if len(body) < header["bytes"]:
        msg = f"it ends after {len(body)} of {header['bytes']} bytes"
        raise TornError(msg)
    if header["blake2b"] != _digest(body):
        msg = "its checksum does not match"
        raise ValueError(msg)
    records = [decode(json.loads(line)) for line in body.decode().split("\n")[:-1]]
    last = segment.first + len(records) - 1 if segment.last is None else segment.last
    if not records or [r.sequence for r in records] != list(range(segment.first, last + 1)):
        msg = "its records are not the ones in its name"
        raise ValueError(msg)
    return records


def _header(head: bytes) -> dict[str, Any]:
    """The first line of a segment, which has a checksum of its own."""
    header: Any = json.loads(head)
    if isinstance(header, dict) and header.keys() == {"schema_version", "records", "blake2b"}:
        msg = "it was written by an earlier Tuneyard, which can still finish this sweep; this one cannot read it"
        raise LedgerError(msg)
    check = header.pop("header", None) if isinstance(header, dict) else None
    if check != _digest(json.dumps(header).encode()):
        msg = "its first line is damaged"
        raise ValueError(msg)
    if header["schema_version"] > SCHEMA_VERSION:
        msg = f"schema version {header['schema_version']} is newer than this Tuneyard, which reads {SCHEMA_VERSION}"
        raise LedgerError(msg)
    return dict(header)


def _digest(body: bytes) -> str:
    return hashlib.blake2b(body, digest_size=16).hexdigest()
