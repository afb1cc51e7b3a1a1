"""Leases: which replica may act on what, by the database's clock alone."""

from __future__ import annotations

from typing import Any, Final

import sqlalchemy as sa

from service.records import Lease
from service.store.database import Database, StoreError
from service.store.rows import lease_of
from service.store.schema import leases

_LONGEST_S: Final = 120.0  # that a lease lasts, at the least: one that would last longer has known another clock


class LeaseLostError(StoreError):
    """Another replica acts by now; nothing was written."""


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

        def work(connection: sa.Connection) -> Lease | None:
            now = self._database.now(connection)
            row = {"name": name, "holder": holder, "epoch": 1, "expires_at": now + seconds}
            longest_s = max(_LONGEST_S, 2 * seconds)
            is_over = (leases.c.expires_at <= now) | (leases.c.expires_at > now + longest_s)  # the clock was set back
            epoch = sa.case((leases.c.holder == holder, leases.c.epoch), else_=leases.c.epoch + 1)
            taking = self._database.insert(leases).values(row).on_conflict_do_update(
                index_elements=[leases.c.name],
                set_={"holder": holder, "epoch": epoch, "expires_at": now + seconds},
                where=(leases.c.holder == holder) | is_over,
            )  # fmt: skip
            connection.execute(taking)
            found = lease_of(connection.execute(sa.select(leases).where(leases.c.name == name)).one())
            return found if found.holder == holder else None

        return self._database.write(work)

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
