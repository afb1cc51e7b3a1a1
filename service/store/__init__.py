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
from service.store.keys import UNKEYED, KeyConflictError, Once, Origin
from service.store.leases import LeaseLostError, Leases
from service.store.schema import projects
from service.store.sweeps import ProjectNotFoundError, Sweeps, VersionConflictError
from service.store.upgrade import upgrade

__all__ = [
    "DEFAULT_PROJECT",
    "UNKEYED",
    "Deed",
    "Delivery",
    "KeyConflictError",
    "LeaseLostError",
    "Once",
    "Origin",
    "ProjectNotFoundError",
    "Store",
    "StoreError",
    "StoreUnavailableError",
    "UncertainWriteError",
    "UnstorableError",
    "VersionConflictError",
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
        """StoreUnavailableError where the database does not answer with what it holds.

        A table is asked for: SQLite does without its file for the time, or for a constant.
        """
        self._database.read(lambda connection: connection.scalar(sa.select(projects.c.name).limit(1)))
