"""Brings a database to the newest schema, one process at a time, by the Alembic migrations in `migrations/`."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from service.store.database import Database, StoreError

MIGRATIONS: Final = Path(__file__).with_name("migrations")


def upgrade(database: Database, to: str = "head") -> None:
    """Run the migrations that are missing, up to `to`, in one transaction: all of them or none.

    StoreError where a later version than this one has written the database.
    """
    from alembic import command
    from alembic.config import Config
    from alembic.util import CommandError

    with database.exclusive() as connection:
        config = Config()
        config.set_main_option("script_location", str(MIGRATIONS).replace("%", "%%"))
        config.attributes["connection"] = connection
        try:
            command.upgrade(config, to)
        except CommandError as error:
            msg = f"this database was written by a later Tuneyard ({error}); install that version, or use another one"
            raise StoreError(msg) from error
