"""The first schema: sweeps, what is told of them, who may act on them, and an audit log that nothing can change."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

IDENTIFIER = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")
NUMBER = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    """Make every table of the first release."""
    _make_sweeps()
    _make_records()
    _make_access()
    _make_webhooks()
    op.execute("INSERT INTO projects (name, created_at) VALUES ('default', 0)")
    if op.get_bind().dialect.name == "sqlite":
        _guard_audit_on_sqlite()
    else:
        _guard_audit_on_postgresql()


def _make_sweeps() -> None:
    words = [_text(name) for name in ("project", "owner", "name", "state", "wish", "reason")]
    counts = [_count(name) for name in ("priority", "attempt", "failures", "concurrency", "version")]
    times = [_time(name) for name in ("trial_hours", "created_at", "updated_at", "queued_at")]
    later = [_time(name, nullable=True) for name in ("not_before", "started_at", "ended_at")]
    long = [_text(name) for name in ("facts", "progress", "outline", "glance")]
    links = [sa.Column("code", sa.Text), sa.Column("forked_from", sa.Text)]
    marks = [sa.Column("is_preempted", sa.Boolean, nullable=False)]
    _table("sweeps", [_id("id")], [*words, *counts, *times, *later, *links, *marks, *long])
    op.create_index("ix_sweeps_created_at_id", "sweeps", ["created_at", "id"])
    op.create_index("ix_sweeps_project_created_at_id", "sweeps", ["project", "created_at", "id"])
    op.create_index("ix_sweeps_project_name", "sweeps", ["project", "name"])
    op.create_index("ix_sweeps_state", "sweeps", ["state"])
    _table("specs", [_id("sweep_id")], [_text("spec")])
    key = [_text("project"), _text("owner"), _text("key")]
    _table("keys", key, [_text("body_digest"), _id("sweep_id"), _time("created_at")])


def _make_records() -> None:
    told = [_id("sweep_id"), _text("project"), _time("at"), _text("kind"), _text("data")]
    _table("events", [_number("number")], told, sqlite_autoincrement=True)
    op.create_index("ix_events_sweep_id_number", "events", ["sweep_id", "number"])
    op.create_index("ix_events_project_number", "events", ["project", "number"])
    done = [_text(name) for name in ("user", "action", "subject", "outcome", "address")]
    entry = [_time("at"), sa.Column("project", sa.Text), *done]
    _table("audit", [_number("number")], entry, sqlite_autoincrement=True)
    op.create_index("ix_audit_project_number", "audit", ["project", "number"])
    _table("leases", [_text("name")], [_text("holder"), _count("epoch"), _time("expires_at")])
    _table("usage", [_text("kind"), _text("name"), _count("day")], [_time("trial_hours")])


def _make_access() -> None:
    _table("projects", [_text("name")], [_time("created_at")])
    times = [_time("created_at"), _time("expires_at", nullable=True), _time("revoked_at", nullable=True)]
    maker = sa.Column("made_with", sa.Text)
    _table("tokens", [_id("id")], [_text("user"), _text("name"), _text("roles"), _text("token_hash"), *times, maker])
    op.create_index("ix_tokens_token_hash", "tokens", ["token_hash"], unique=True)
    op.create_index("ix_tokens_user", "tokens", ["user"])
    _table("quotas", [_text("kind"), _text("name")], [_text("quota")])
    _table("packages", [_id("digest"), _text("project")], [_count("size_bytes"), _time("created_at")])


def _make_webhooks() -> None:
    words = [_text(name) for name in ("project", "url", "kinds", "secret")]
    _table("webhooks", [_id("id")], [*words, _time("created_at")])
    op.create_index("ix_webhooks_project", "webhooks", ["project"])
    event = sa.Column("event_number", NUMBER, nullable=False, autoincrement=False)
    times = [_time("next_at", nullable=True), _time("delivered_at", nullable=True)]
    error = sa.Column("error", sa.Text, nullable=False, server_default="")
    _table("deliveries", [event, _id("webhook_id")], [_count("attempts"), *times, error])
    op.create_index("ix_deliveries_next_at", "deliveries", ["next_at"])


def _guard_audit_on_sqlite() -> None:
    for change in ("UPDATE", "DELETE"):
        op.execute(
            f"CREATE TRIGGER audit_refuses_{change.lower()} BEFORE {change} ON audit "
            "BEGIN SELECT RAISE(ABORT, 'the audit log is only ever added to'); END"
        )


def _guard_audit_on_postgresql() -> None:
    op.execute(
        "CREATE FUNCTION audit_refuses() RETURNS trigger LANGUAGE plpgsql AS "
        "$$ BEGIN RAISE EXCEPTION 'the audit log is only ever added to'; END $$"
    )
    op.execute(
        "CREATE TRIGGER audit_refuses BEFORE UPDATE OR DELETE OR TRUNCATE ON audit "
        "FOR EACH STATEMENT EXECUTE FUNCTION audit_refuses()"
    )


def _table(
    name: str,
    key: list[sa.Column[Any]],
    rest: list[sa.Column[Any]],
    *,
    sqlite_autoincrement: bool = False,
) -> None:
    primary = sa.PrimaryKeyConstraint(*[column.name for column in key], name=f"pk_{name}")
    op.create_table(name, *key, *rest, primary, sqlite_autoincrement=sqlite_autoincrement)


def _id(name: str) -> sa.Column[Any]:
    return sa.Column(name, IDENTIFIER, nullable=False)


def _text(name: str) -> sa.Column[Any]:
    return sa.Column(name, sa.Text, nullable=False)


def _number(name: str) -> sa.Column[Any]:
    return sa.Column(name, NUMBER, nullable=False, autoincrement=True)


def _count(name: str) -> sa.Column[Any]:
    return sa.Column(name, sa.BigInteger, nullable=False, autoincrement=False)


def _time(name: str, *, nullable: bool = False) -> sa.Column[Any]:
    return sa.Column(name, sa.Double, nullable=nullable)
