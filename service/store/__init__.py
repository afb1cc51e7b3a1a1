"""The service's database: sweeps and everything about them that has to outlive a process, on SQLite or PostgreSQL.

Every method is one transaction and may be called from any thread. A change that returns is on the disk. `projects` is
where the asker may look: what lies elsewhere is not found, None is everywhere.
"""

from __future__ import annotations

from typing import Self

import sqlalchemy as sa

from service.store.access import DEFAULT_PROJECT, Access
from service.store.audit import Deed
from service.store.database import Database, StoreError, StoreUnavailableError, UncertainWriteError, UnstorableError
from service.store.events import Delivery, Events
from service.store.leases import LeaseLostError, Leases, sweep_lease
from service.store.sweeps import KeyConflictError, ProjectNotFoundError, Sweeps, VersionConflictError
from service.store.upgrade import upgrade

__all__ = [
    "DEFAULT_PROJECT",
    "Deed",
    "Delivery",
    "KeyConflictError",
    "LeaseLostError",
    "ProjectNotFoundError",
    "Store",
    "StoreError",
    "StoreUnavailableError",
    "UncertainWriteError",
    "UnstorableError",
    "VersionConflictError",
    "sweep_lease",
]


class Store(Sweeps, Events, Leases, Access):
    """What the service keeps. Every method may raise StoreUnavailableError: the same may work later."""

    def __init__(self, database: Database) -> None:
        self._database = database

    @classmethod
    def open(cls, url: str) -> Self:
        """The database at `sqlite:///PATH` or `postgresql://…`, made or brought up to date where need be.

        StoreError where it cannot be, or where a later Tuneyard has written it.
        """
        database = Database(url)
        try:
            database.make_file()
            upgrade(database)
        except BaseException:
            database.close()
            raise
        return cls(database)

    def close(self) -> None:
        """Finish what was begun, and let go of the database."""
        self._database.close()

    def now(self) -> float:
        """The time, in seconds since the epoch, by the clock that all replicas share."""
        return self._database.read(self._database.now)

    def ping(self) -> None:
        """StoreUnavailableError where the database does not answer."""
        self._database.read(lambda connection: connection.scalar(sa.select(sa.literal(1))))
