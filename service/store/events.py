"""What is told of sweeps: event records in one order that never changes, and the deliveries that webhooks wait for."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final

import sqlalchemy as sa

from service.queueing.news import News
from service.records import EventRecord, Webhook
from service.store.database import Database
from service.store.rows import event_of, webhook_of
from service.store.schema import deliveries, events, keys, sweeps, webhooks

_EVENTS_ORDER: Final = 1
LONGEST_S: Final = 7200.0  # that a delivery waits for its next try; one that is due later has known another clock
DELETED: Final = "deleted"  # the kind of the last that is told of a sweep, which stays
_ADD: Final = sa.insert(events).returning(events.c.number)
_HOOKS: Final = sa.select(webhooks).where(webhooks.c.project == sa.bindparam("project"))

IS_OWED: Final = (
    sa.exists().where(deliveries.c.event_number == events.c.number, deliveries.c.next_at.is_not(None)).correlate(events)
)


@dataclass(frozen=True, slots=True)
class Delivery:
    """An event that a webhook has not been told yet. `attempts` counts those that failed so far."""

    event: EventRecord
    webhook: Webhook
    attempts: int


@dataclass(frozen=True, slots=True)
class About:
    """What every event of one sweep shares."""

    sweep_id: str
    project: str
    at: float


def tell(database: Database, connection: sa.Connection, about: About, told: Iterable[News]) -> list[EventRecord]:
    """Put events on record, and queue them for the project's webhooks, as part of the transaction that made them so.

    The last thing a transaction does, since others wait for it from here on.
    """
    told = list(told)
    if told:
        database.in_order(connection, _EVENTS_ORDER)
    records = []
    for kind, data in told:
        row = {"sweep_id": about.sweep_id, "project": about.project, "at": about.at, "kind": kind, "data": data}
        number = connection.execute(_ADD, row).scalar_one()
        records.append(EventRecord(number, about.sweep_id, about.project, about.at, kind, data))
    _queue_deliveries(connection, about, records)
    return records


def _queue_deliveries(connection: sa.Connection, about: About, records: list[EventRecord]) -> None:
    if not records:
        return
    wanted = connection.execute(_HOOKS, {"project": about.project}).all()
    rows = [
        {"event_number": record.number, "webhook_id": hook.id, "attempts": 0, "next_at": about.at, "error": ""}
        for record in records
        for hook in map(webhook_of, wanted)
        if record.kind in hook.kinds
    ]
    if rows:
        connection.execute(sa.insert(deliveries), rows)


class Events:
    """The store's part for events and deliveries."""

    _database: Database

    def events(
        self,
        projects: frozenset[str] | None,
        *,
        after: int = 0,
        sweep_id: str | None = None,
        limit: int = 500,
    ) -> list[EventRecord]:
        """Events with a number above `after`, the oldest first; no later call finds another one below the last."""
        query = sa.select(events).where(events.c.number > after).order_by(events.c.number).limit(limit)
        if projects is not None:
            query = query.where(events.c.project.in_(projects))
        if sweep_id is not None:
            query = query.where(events.c.sweep_id == sweep_id)
        return self._database.read(lambda connection: [event_of(row) for row in connection.execute(query)])

    def due_deliveries(
        self, now: float, limit: int = 100, *, hold_s: float = 60.0, beside: Collection[str] = ()
    ) -> list[Delivery]:
        """Deliveries that are due, the oldest first, but for those of the webhooks `beside`.

        For `hold_s` no other call gets them, unless they fail before.
        """
        is_time = (deliveries.c.next_at <= now) | (deliveries.c.next_at > now + LONGEST_S)
        is_due = is_time & deliveries.c.webhook_id.not_in(list(beside))

        def work(connection: sa.Connection) -> list[Delivery]:
            query = (
                sa.select(deliveries.c.event_number, deliveries.c.webhook_id, deliveries.c.attempts)
                .where(is_due)
                .order_by(deliveries.c.next_at, deliveries.c.event_number)
                .limit(limit)
                .with_for_update(skip_locked=True)
            )
            return _claimed(connection, connection.execute(query).all(), now + hold_s)

        is_any_due = sa.select(sa.exists().where(is_due))  # most often none is: to read holds up nobody who writes
        return self._database.write(work) if self._database.read(lambda c: c.scalar(is_any_due)) else []

    def tidy(self, before: float) -> None:
        """Forget deliveries that are over of events before then, Idempotency-Keys that came first before then.

        With them goes what was told of deleted sweeps and kept only for those deliveries.
        """
        is_over = deliveries.c.next_at.is_(None)
        told = sa.select(deliveries.c.event_number).where(is_over)
        is_gone = ~sa.exists().where(sweeps.c.id == events.c.sweep_id).correlate(events)
        left = sa.delete(events).where(events.c.number.in_(told), events.c.kind != DELETED, is_gone, ~IS_OWED)
        recent = sa.select(events.c.number).where(events.c.at >= before)
        old = sa.delete(deliveries).where(is_over, deliveries.c.event_number.not_in(recent))

        def work(connection: sa.Connection) -> None:
            for change in (left, old, sa.delete(keys).where(keys.c.created_at < before)):
                connection.execute(change)

        self._database.write(work)

    def delivered(self, event_number: int, webhook_id: str) -> None:
        """The webhook has taken the event."""

        def work(connection: sa.Connection) -> None:
            now = self._database.now(connection)
            connection.execute(_delivery(event_number, webhook_id).values(next_at=None, delivered_at=now, error=""))

        self._database.write(work)

    def failed(self, event_number: int, webhook_id: str, error: str, next_at: float | None) -> None:
        """The webhook has not taken the event; try again at `next_at`, or never where that is None."""
        change = {"next_at": next_at, "error": error, "attempts": deliveries.c.attempts + 1}
        self._database.write(lambda c: c.execute(_delivery(event_number, webhook_id).values(change)))


def _delivery(event_number: int, webhook_id: str) -> sa.Update:
    is_it = (deliveries.c.event_number == event_number) & (deliveries.c.webhook_id == webhook_id)
    return sa.update(deliveries).where(is_it)


def _claimed(connection: sa.Connection, due: Sequence[sa.Row[Any, Any, Any]], until: float) -> list[Delivery]:
    """The deliveries, which are nobody else's `until` then; one whose event or webhook is gone is none any more."""
    numbers, ids = {row.event_number for row in due}, {row.webhook_id for row in due}
    told = {row.number: row for row in connection.execute(sa.select(events).where(events.c.number.in_(numbers)))}
    hooks = {row.id: row for row in connection.execute(sa.select(webhooks).where(webhooks.c.id.in_(ids)))}
    found = []
    for row in due:
        if row.event_number in told and row.webhook_id in hooks:
            found.append(Delivery(event_of(told[row.event_number]), webhook_of(hooks[row.webhook_id]), row.attempts))
            change: dict[str, Any] = {"next_at": until}
        else:
            change = {"next_at": None, "error": "gone"}
        connection.execute(_delivery(row.event_number, row.webhook_id).values(change))
    return found
