"""How the audit log is written: as part of the transaction that does what it tells of, where that is one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import sqlalchemy as sa

from service.store.database import Database
from service.store.schema import audit

_AUDIT_ORDER: Final = 2
_ADD: Final = sa.insert(audit)


@dataclass(frozen=True, slots=True)
class Deed:
    """What somebody is about to do, and from which address."""

    user: str
    action: str
    address: str = ""


def note(database: Database, connection: sa.Connection, deed: Deed, what: Mapping[str, Any]) -> None:
    """Put `deed` on record with `project`, `subject`, `outcome` and `at`. The last thing a transaction does."""
    database.in_order(connection, _AUDIT_ORDER)
    row = {"user": deed.user, "action": deed.action, "address": deed.address, **what}
    connection.execute(_ADD, row)
