"""Deliberate defects, each of which must turn the simulation red: what proves that its checks can fail.

Every one is a patch from outside; the product has no switch for them.
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest.mock import patch

from service.tuning.conductor import Conductor
from service.tuning.decisions import Arrival, Decider
from service.tuning.events import AttemptStarted, Event, Record
from service.tuning.lease import Lease
from service.tuning.ledger import Ledger
from service.tuning.storage import FolderStorage
from service.tuning.tracking_delivery import Carrier
from service.tuning.tracking_outbox import Outbox
from service.tuning.tracking_store import UnavailableError
from tests.simulation.mlflow import Client

Patch = AbstractContextManager[Any]


def skip_the_sync_of_files() -> Sequence[Patch]:
    """What is written is not made durable."""
    return [patch("service.tuning.storage.os", _Os())]


class _Os:
    """The module `os` with an `fsync` that does nothing for files."""

    def __getattr__(self, name: str) -> Any:
        return getattr(os, name)

    @staticmethod
    def fsync(descriptor: int) -> None:
        if Path(os.readlink(f"/proc/self/fd/{descriptor}")).is_dir():
            os.fsync(descriptor)


def skip_the_sync_of_folders() -> Sequence[Patch]:
    """Names are not made durable."""
    return [patch("service.tuning.storage.sync_folder", lambda _: None)]


def acknowledge_before_writing() -> Sequence[Patch]:
    """Every other commit waits in memory for the next one."""
    real, waiting = Ledger.append, dict[int, list[Event]]()

    def append(self: Ledger, events: Sequence[Event], at: float | None = None) -> list[Record]:
        held = waiting.pop(id(self), None)
        if held is None and len(events) == 1:
            waiting[id(self)] = list(events)
            return [Record(self._next + i, self._at, event) for i, event in enumerate(events)]
        return real(self, [*(held or []), *events], at)[len(held or []) :]

    return [patch.object(Ledger, "append", append)]


def reuse_the_attempt_number() -> Sequence[Patch]:
    """A retry has the number of the attempt before it."""
    real = Decider._attempt

    def attempt(self: Decider, *given: Any) -> AttemptStarted:
        started = real(self, *given)
        return replace(started, attempt=max(1, started.attempt - 1))

    return [patch.object(Decider, "_attempt", attempt)]


def take_late_messages() -> Sequence[Patch]:
    """A report counts whatever attempt it comes from."""
    real = Decider.report

    def report(self: Decider, arrival: Arrival, elapsed_s: float) -> list[Event]:
        return real(self, replace(arrival, attempt=self.history.trials[arrival.trial].attempt), elapsed_s)

    return [patch.object(Decider, "report", report)]


def drop_the_idempotency_key() -> Sequence[Patch]:
    """Nobody looks whether a run is there already."""
    return [patch.object(Client, "runs", lambda *_, **__: {})]


def stamp_points_when_they_are_sent() -> Sequence[Patch]:
    """A point that is delivered twice has two times."""
    ticks = itertools.count()
    return [patch("service.tuning.tracking_outbox.milliseconds", lambda at: round(at * 1000) + next(ticks))]


def take_a_lost_reply_for_done() -> Sequence[Patch]:
    """What could not be sent is not sent again."""
    real = Carrier._deliver

    def deliver(self: Carrier, key: Any, delivery: Any) -> None:
        try:
            real(self, key, delivery)
        except UnavailableError:
            delivery.points, delivery.status = [], None

    return [patch.object(Carrier, "_deliver", deliver)]


def move_the_cursor_before_delivery() -> Sequence[Patch]:
    """A tracker that is killed leaves out what it had only read."""
    return [patch.object(Outbox, "cursor", property(lambda self: self.sequence))]


def swallow_nan() -> Sequence[Patch]:
    """A loss that is no number is passed on as any other."""
    return [patch("tests.simulation.training.made_finite", lambda metrics, _: (metrics, False))]


def retry_out_of_memory() -> Sequence[Patch]:
    """A trial that does not fit is tried again and again."""
    real = Decider.attempt_failed

    def failed(self: Decider, *given: Any) -> list[Event]:
        number, attempt, kind, cause = given
        return real(self, number, attempt, "infrastructure" if kind == "memory" else kind, cause)

    return [patch.object(Decider, "attempt_failed", failed)]


def ignore_the_lease() -> Sequence[Patch]:
    """A driver never looks whether it still has the sweep."""
    return [patch.object(Lease, "check", lambda _: None)]


def take_any_lease() -> Sequence[Patch]:
    """A driver takes the sweep over while another is at work."""
    return [patch("service.tuning.lease._await_end", lambda *_: None)]


def fence_nobody_off() -> Sequence[Patch]:
    """A name in the ledger can be written twice, and no driver looks whether it still has the sweep."""
    return [patch.object(FolderStorage, "create", FolderStorage.replace), *ignore_the_lease()]


def forget_what_ran() -> Sequence[Patch]:
    """A new driver takes the lost attempts of the one before for running."""
    return [patch.object(Conductor, "interrupt_running", lambda *_: None)]


def trust_any_checkpoint() -> Sequence[Patch]:
    """A checkpoint is not held against its digest."""
    return [patch("tests.simulation.training.verified_path", lambda storage, saved: storage / saved.path)]


def keep_one_checkpoint() -> Sequence[Patch]:
    """Where the newest checkpoint is damaged, there is none before it."""
    return [patch("service.tuning.retention.SPARE", 1)]


def go_on_without_the_damaged_rest() -> Sequence[Patch]:
    """A ledger with a damaged middle counts as far as it can be read."""

    def unpack(data: bytes, segment: Any) -> list[Record]:
        try:
            return real(data, segment)
        except ValueError:
            return []

    from service.tuning import ledger

    real = ledger._unpack
    return [patch("service.tuning.ledger._unpack", unpack)]


def leave_half_written_files() -> Sequence[Patch]:
    """Nobody clears up after a writer that was cut off."""
    return [patch.object(FolderStorage, "tidy", lambda *_: None)]


DEFECTS: dict[str, Callable[[], Sequence[Patch]]] = {
    defect.__name__: defect
    for defect in (
        skip_the_sync_of_files, skip_the_sync_of_folders, acknowledge_before_writing, reuse_the_attempt_number,
        take_late_messages, drop_the_idempotency_key, stamp_points_when_they_are_sent, take_a_lost_reply_for_done,
        move_the_cursor_before_delivery, swallow_nan, retry_out_of_memory, ignore_the_lease, take_any_lease,
        fence_nobody_off, forget_what_ran, trust_any_checkpoint, keep_one_checkpoint, go_on_without_the_damaged_rest,
        leave_half_written_files,
    )
}  # fmt: skip


def planted(name: str) -> ExitStack:
    """The defect is there until the stack is closed."""
    stack = ExitStack()
    for each in DEFECTS[name]():
        stack.enter_context(each)
    return stack
