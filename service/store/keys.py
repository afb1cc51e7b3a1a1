"""Idempotency-Keys: what a key made first, so that the same request, sent again, makes nothing more."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

import sqlalchemy as sa

from service.errors import TuneyardError
from service.store.database import Database
from service.store.schema import keys

NO_PROJECT: Final = ""  # of what belongs to none
# Built once: building one takes longer than running it.
_KEYS: Final = sa.select(keys).where(
    keys.c.project.in_(sa.bindparam("projects", expanding=True)),
    *(keys.c[name] == sa.bindparam(name) for name in ("owner", "key")),
)


class KeyConflictError(TuneyardError):
    """The same Idempotency-Key came with something else before."""


@dataclass(frozen=True, slots=True)
class Once:
    """The Idempotency-Key of a request, whose it is, and what tells the request from others."""

    owner: str
    key: str
    body_digest: str


@dataclass(frozen=True, slots=True)
class Origin:
    """How a token comes to be: the token that its maker showed, if that was one, and the key of their request."""

    made_with: str | None = None
    once: Once | None = None


UNKEYED: Final = Origin()


def claim(
    database: Database, connection: sa.Connection, once: Once | None, project: str, made: str, now: float
) -> str | None:
    """None where the key is new, or there is none, and `made`'s from now on; else the id of what it made before.

    KeyConflictError where that was another request.
    """
    if once is None:
        return None
    row = {"project": project, "owner": once.owner, "key": once.key, "body_digest": once.body_digest}
    if database.insert_new(connection, keys, {**row, "sweep_id": made, "created_at": now}):
        return None
    return first_of(connection, once, (project,))


def first_of(connection: sa.Connection, once: Once, projects: Iterable[str]) -> str | None:
    """The id of what the key made before in whichever of `projects`; None where it is new. Errors as in `claim`."""
    asked = {"projects": sorted(projects), "owner": once.owner, "key": once.key}
    found = connection.execute(_KEYS, asked).all()
    same = next((row for row in found if row.body_digest == once.body_digest), None)
    if found and same is None:
        msg = f"this Idempotency-Key came with another request before, which made {found[0].sweep_id}; take a new key"
        raise KeyConflictError(msg)
    return None if same is None else str(same.sweep_id)
