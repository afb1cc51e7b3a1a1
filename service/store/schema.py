"""The tables of the service's database: what the newest migration leaves behind, as a test holds it to.

JSON is kept as text, so that a spec's parameters keep their order. Times are seconds since the epoch.
"""

from __future__ import annotations

import json
from typing import Any, Final

import sqlalchemy as sa

# Ordered by bytes on both databases: ids are paged by, and searched by how they begin.
IDENTIFIER: Final = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")
# SQLite counts rows by itself in a column of exactly this type.
NUMBER: Final = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


class Json(sa.TypeDecorator[Any]):
    """Any JSON value, as text. What JSON has no word for (NaN, infinity) becomes null."""

    impl = sa.Text
    cache_ok = True

    def process_bind_param(self, value: Any, dialect: sa.Dialect) -> str | None:  # noqa: ANN401, ARG002  # any JSON
        """The text that is kept."""
        return None if value is None else dumps(value)

    def process_result_value(self, value: str | None, dialect: sa.Dialect) -> Any:  # noqa: ANN401, ARG002  # any JSON
        """The value that was given."""
        return None if value is None else json.loads(value)


def dumps(value: object) -> str:
    """The shortest JSON of `value`, in strict JSON's own words."""
    try:
        return json.dumps(value, separators=(",", ":"), allow_nan=False)
    except ValueError:
        return json.dumps(_finite(value), separators=(",", ":"), allow_nan=False)


def _finite(value: object) -> object:
    if isinstance(value, float):
        return value if abs(value) < float("inf") else None
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    return [_finite(item) for item in value] if isinstance(value, list | tuple) else value


metadata: Final = sa.MetaData(
    naming_convention={"ix": "ix_%(table_name)s_%(column_0_N_name)s", "pk": "pk_%(table_name)s"}
)


def _text(name: str, *, default: str | None = None) -> sa.Column[str]:
    return sa.Column(name, sa.Text, nullable=False, server_default=default)


def _time(name: str, *, nullable: bool = False) -> sa.Column[float]:
    return sa.Column(name, sa.Double, nullable=nullable)


sweeps: Final = sa.Table(
    "sweeps",
    metadata,
    sa.Column("id", IDENTIFIER, primary_key=True),
    _text("project"),
    _text("owner"),
    _text("name"),
    _text("state"),
    _text("wish"),
    _text("reason"),
    sa.Column("priority", sa.BigInteger, nullable=False),
    sa.Column("code", sa.Text),
    sa.Column("facts", Json, nullable=False),
    sa.Column("forked_from", sa.Text),
    sa.Column("attempt", sa.BigInteger, nullable=False),
    sa.Column("failures", sa.BigInteger, nullable=False),
    _time("not_before", nullable=True),
    sa.Column("is_preempted", sa.Boolean, nullable=False),
    sa.Column("concurrency", sa.BigInteger, nullable=False),
    _time("trial_hours"),
    _time("created_at"),
    _time("updated_at"),
    _time("queued_at"),
    _time("started_at", nullable=True),
    _time("ended_at", nullable=True),
    sa.Column("version", sa.BigInteger, nullable=False),
    sa.Column("progress", Json, nullable=False),
    sa.Column("outline", Json, nullable=False),  # the spec without what makes it long: what lists and the queue need
    sa.Column("glance", Json, nullable=False),  # the progress without what makes it long: what lists need
    sa.Index(None, "created_at", "id"),
    sa.Index(None, "project", "created_at", "id"),
    sa.Index(None, "project", "name"),
    sa.Index(None, "state"),
)
# Beside the row that changes with each progress, since a row is written as a whole.
specs: Final = sa.Table(
    "specs",
    metadata,
    sa.Column("sweep_id", IDENTIFIER, primary_key=True),
    sa.Column("spec", Json, nullable=False),
)
keys: Final = sa.Table(
    "keys",
    metadata,
    sa.Column("project", sa.Text, primary_key=True),
    sa.Column("owner", sa.Text, primary_key=True),
    sa.Column("key", sa.Text, primary_key=True),
    _text("body_digest"),
    sa.Column("sweep_id", IDENTIFIER, nullable=False),
    _time("created_at"),
)
events: Final = sa.Table(
    "events",
    metadata,
    sa.Column("number", NUMBER, primary_key=True, autoincrement=True),
    sa.Column("sweep_id", IDENTIFIER, nullable=False),
    _text("project"),
    _time("at"),
    _text("kind"),
    sa.Column("data", Json, nullable=False),
    sa.Index(None, "sweep_id", "number"),
    sa.Index(None, "project", "number"),
    sqlite_autoincrement=True,
)
leases: Final = sa.Table(
    "leases",
    metadata,
    sa.Column("name", sa.Text, primary_key=True),
    _text("holder"),
    sa.Column("epoch", sa.BigInteger, nullable=False),
    _time("expires_at"),
)
usage: Final = sa.Table(
    "usage",
    metadata,
    sa.Column("kind", sa.Text, primary_key=True),
    sa.Column("name", sa.Text, primary_key=True),
    sa.Column("day", sa.BigInteger, primary_key=True),
    sa.Column("trial_hours", sa.Double, nullable=False),
)
projects: Final = sa.Table(
    "projects",
    metadata,
    sa.Column("name", sa.Text, primary_key=True),
    _time("created_at"),
)
tokens: Final = sa.Table(
    "tokens",
    metadata,
    sa.Column("id", IDENTIFIER, primary_key=True),
    _text("user"),
    _text("name"),
    sa.Column("roles", Json, nullable=False),
    sa.Column("token_hash", sa.Text, nullable=False),
    _time("created_at"),
    _time("expires_at", nullable=True),
    _time("revoked_at", nullable=True),
    sa.Column("made_with", sa.Text),  # the id of a token
    sa.Index(None, "token_hash", unique=True),
    sa.Index(None, "user"),
)
quotas: Final = sa.Table(
    "quotas",
    metadata,
    sa.Column("kind", sa.Text, primary_key=True),
    sa.Column("name", sa.Text, primary_key=True),
    sa.Column("quota", Json, nullable=False),
)
packages: Final = sa.Table(
    "packages",
    metadata,
    sa.Column("digest", IDENTIFIER, primary_key=True),
    sa.Column("project", sa.Text, primary_key=True),
    sa.Column("size_bytes", sa.BigInteger, nullable=False),
    _time("created_at"),
)
audit: Final = sa.Table(
    "audit",
    metadata,
    sa.Column("number", NUMBER, primary_key=True, autoincrement=True),
    _time("at"),
    _text("user"),
    sa.Column("project", sa.Text),
    _text("action"),
    _text("subject"),
    _text("outcome"),
    _text("address"),
    sa.Index(None, "project", "number"),
    sqlite_autoincrement=True,
)
webhooks: Final = sa.Table(
    "webhooks",
    metadata,
    sa.Column("id", IDENTIFIER, primary_key=True),
    _text("project"),
    _text("url"),
    sa.Column("kinds", Json, nullable=False),
    _text("secret"),
    _time("created_at"),
    sa.Index(None, "project"),
)
deliveries: Final = sa.Table(
    "deliveries",
    metadata,
    sa.Column("event_number", NUMBER, primary_key=True, autoincrement=False),
    sa.Column("webhook_id", IDENTIFIER, primary_key=True),
    sa.Column("attempts", sa.BigInteger, nullable=False),
    _time("next_at", nullable=True),  # null: over, with or without success
    _time("delivered_at", nullable=True),
    _text("error", default=""),
    sa.Index(None, "next_at"),
)
