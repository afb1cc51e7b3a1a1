"""What is told of sweeps: event records in one order that never changes, and the deliveries that webhooks wait for."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

import sqlalchemy as sa

from service.errors import SweepNotFoundError
from service.queueing.news import News
from service.records import EventRecord, Webhook
from service.store.database import Database
from service.store.rows import event_of, webhook_of
from service.store.schema import deliveries, events, sweeps, webhooks

_EVENTS_ORDER: Final = 1
_ADD: Final = sa.insert(events).returning(events.c.number)
_HOOKS: Final = sa.select(webhooks).where(webhooks.c.project == sa.bindparam("project"))


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

    def last_event(self) -> int:
        """The number of the newest event; 0 before the first."""
        query = sa.select(sa.func.max(events.c.number))
        return self._database.read(lambda connection: int(connection.scalar(query) or 0))

    def add_event(self, sweep_id: str, kind: str, data: Mapping[str, Any]) -> EventRecord:
        """Put one more event of a sweep on record; those that follow from its changes come by themselves.

        SweepNotFoundError where it is gone.
        """

        def work(connection: sa.Connection) -> EventRecord:
            project = connection.scalar(sa.select(sweeps.c.project).where(sweeps.c.id == sweep_id))
            if project is None:
                msg = f"no sweep {sweep_id!r}"
                raise SweepNotFoundError(msg)
            about = About(sweep_id, project, self._database.now(connection))
            return tell(self._database, connection, about, [(kind, dict(data))])[0]

        return self._database.write(work)

    def queue_delivery(self, event_number: int, webhook_id: str) -> None:
        """Have a webhook told of an event, once; new events are queued for the webhooks that ask for them anyway."""

        def work(connection: sa.Connection) -> None:
            row = {"event_number": event_number, "webhook_id": webhook_id, "attempts": 0, "error": ""}
            now = self._database.now(connection)
            self._database.insert_new(connection, deliveries, {**row, "next_at": now})

        self._database.write(work)

    def due_deliveries(
        self, now: float, limit: int = 100, *, hold_s: float = 60.0, beside: Collection[str] = ()
    ) -> list[Delivery]:
        """Deliveries that are due, the oldest first, but for those of the webhooks `beside`.

        For `hold_s` no other call gets them, unless they fail before.
        """
        is_due = (deliveries.c.next_at <= now) & deliveries.c.webhook_id.not_in(list(beside))

        def work(connection: sa.Connection) -> list[Delivery]:
            query = (
                sa.select(deliveries.c.event_number, deliveries.c.webhook_id, deliveries.c.attempts)
                .where(is_due)
                .order_by(deliveries.c.next_at, deliveries.c.event_number)
                .limit(limit)
                .with_for_update(skip_locked=True)
            )
            claimed = connection.execute(query).all()
            for row in claimed:
                connection.execute(_delivery(row.event_number, row.webhook_id).values(next_at=now + hold_s))
            found = [_found(connection, row) for row in claimed]
            return [delivery for delivery in found if delivery is not None]

        is_idle = sa.select(sa.func.count()).select_from(deliveries).where(is_due)
        if not self._database.read(lambda connection: connection.scalar(is_idle)):
            return []
        return self._database.write(work)

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


def _found(connection: sa.Connection, row: sa.Row[Any, Any, Any]) -> Delivery | None:
    """The delivery with what it is about; None, and no delivery any more, where that is gone."""
    told = connection.execute(sa.select(events).where(events.c.number == row.event_number)).one_or_none()
    hook = connection.execute(sa.select(webhooks).where(webhooks.c.id == row.webhook_id)).one_or_none()
    if told is None or hook is None:
        connection.execute(_delivery(row.event_number, row.webhook_id).values(next_at=None, error="gone"))
        return None
    return Delivery(event_of(told), webhook_of(hook), row.attempts)
