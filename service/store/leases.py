"""Leases: which replica may act on what, by the database's clock alone."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import sqlalchemy as sa

from service.records import Lease
from service.store.database import Database, StoreError
from service.store.rows import lease_of
from service.store.schema import leases


class LeaseLostError(StoreError):
    """Another replica acts by now; nothing was written."""


def sweep_lease(sweep_id: str) -> str:
    """The name of the lease of one sweep, which goes with it."""
    return f"sweep:{sweep_id}"


def check(connection: sa.Connection, lease: Lease) -> None:
    """LeaseLostError unless `lease` is still the newest of its name, which it stays until the transaction is over.

    One that has run out, but that nobody has taken since, is still good: nobody else can have acted.
    """
    query = sa.select(leases).where(leases.c.name == lease.name).with_for_update()
    row = connection.execute(query).one_or_none()
    if row is None or (row.holder, row.epoch) != (lease.holder, lease.epoch):
        holder = "nobody" if row is None else row.holder
        msg = f"the lease {lease.name!r} of {lease.holder} (epoch {lease.epoch}) is {holder}'s by now"
        raise LeaseLostError(msg)


class Leases:
    """The store's part for leases."""

    _database: Database

    def lease(self, name: str, holder: str, seconds: float) -> Lease | None:
        """The lease, taken or renewed for `seconds`; None while another holder has it.

        Its epoch is higher than that of every other holder before.
        """
        return self.lease_many([name], holder, seconds).get(name)

    def lease_many(self, names: Sequence[str], holder: str, seconds: float) -> dict[str, Lease]:
        """As `lease`, for several in one transaction: those that are `holder`'s now."""

        def work(connection: sa.Connection) -> dict[str, Lease]:
            now = self._database.now(connection)
            found = {name: self._take(connection, Lease(name, holder, 1, now + seconds), now) for name in sorted(names)}
            return {name: lease for name, lease in found.items() if lease is not None}

        return self._database.write(work) if names else {}

    def release(self, lease: Lease) -> None:
        """Let others have it at once; of no effect where they have."""
        is_mine = (leases.c.name == lease.name) & (leases.c.holder == lease.holder) & (leases.c.epoch == lease.epoch)
        self._database.write(lambda c: c.execute(sa.update(leases).where(is_mine).values(expires_at=0.0)))

    def holds(self, lease: Lease) -> bool:
        """Whether `lease` is its holder's, and has not run out by the database's clock."""

        def work(connection: sa.Connection) -> bool:
            row: sa.Row[Any] | None = connection.execute(sa.select(leases).where(leases.c.name == lease.name)).first()
            is_mine = row is not None and (row.holder, row.epoch) == (lease.holder, lease.epoch)
            return row is not None and is_mine and row.expires_at > self._database.now(connection)

        return self._database.read(work)

    def _take(self, connection: sa.Connection, wanted: Lease, now: float) -> Lease | None:
        row = {"name": wanted.name, "holder": wanted.holder, "epoch": 1, "expires_at": wanted.expires_at}
        free = (leases.c.holder == wanted.holder) | (leases.c.expires_at <= now)
        epoch = sa.case((leases.c.holder == wanted.holder, leases.c.epoch), else_=leases.c.epoch + 1)
        taking = self._database.insert(leases).values(row).on_conflict_do_update(
            index_elements=[leases.c.name],
            set_={"holder": wanted.holder, "epoch": epoch, "expires_at": wanted.expires_at},
            where=free,
        )  # fmt: skip
        connection.execute(taking)
        found = lease_of(connection.execute(sa.select(leases).where(leases.c.name == wanted.name)).one())
        return found if found.holder == wanted.holder else None
