"""The first token of a service: made in its database by whoever may read that, since nobody can log in yet."""

from __future__ import annotations

import time
from pathlib import Path

from service.api.auth import issue
from service.errors import Fault, SpecError
from service.records import EVERY_PROJECT, Role
from service.server.settings import settings_of
from service.settings import variables
from service.store import Store


def first_token(home: Path, name: str, user: str, days: float | None = None, *, database: str | None = None) -> str:
    """A new token of an admin of every project, in `database`, else the one that `tuneyard serve` would use here.

    SpecError for a name that no user can have; StoreError where the database cannot be opened.
    """
    settings = settings_of(home, {"database": database or variables().get("database")}, {})
    store = Store.open(settings.database_url)
    try:
        expires_at = None if days is None else time.time() + days * 86_400
        token, record = issue(store, user, name, {EVERY_PROJECT: Role.ADMIN}, expires_at=expires_at)
        store.add_audit(user, None, "token create --admin", record.id, "made in the database")
    except ValueError as error:
        raise SpecError([Fault(str(error), "--user", given=user)]) from error
    finally:
        store.close()
    return token
