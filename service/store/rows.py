"""Rows of the database as records, and records as rows."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, fields
from typing import Any, Final

import sqlalchemy as sa

from service.records import (
    AuditRecord,
    CodePackage,
    EventRecord,
    Lease,
    Quota,
    Role,
    State,
    SweepRecord,
    TokenRecord,
    Webhook,
    Wish,
)
from service.store.schema import sweeps

OUTLINE: Final = ("name", "metric", "metrics", "budget", "resources", "evaluation", "search", "scheduler")
_LONG: Final = frozenset({"running", "rungs", "warnings", "faults"})
_MOST_TEXT: Final = 2000  # of a description in the outline
_SWEEP_FIELDS: Final = tuple(f.name for f in fields(SweepRecord) if f.name != "spec")
SWEEP_COLUMNS: Final = tuple(sweeps.c[name] for name in _SWEEP_FIELDS)
_ORDER: Final = tuple(f.name for f in fields(SweepRecord))
_STATE, _WISH = _ORDER.index("state"), _ORDER.index("wish")
# A record's fields in their order, with the spec's outline for the spec.
OUTLINED_COLUMNS: Final = tuple(sweeps.c["outline" if name == "spec" else name] for name in _ORDER)
# The same, with a glance at the progress for the progress.
GLANCED_COLUMNS: Final = tuple(sweeps.c["glance" if c.name == "progress" else c.name] for c in OUTLINED_COLUMNS)


def outline(spec: Mapping[str, Any]) -> dict[str, Any]:
    """The sections of a spec that lists and the queue need: all but what is trained and what is searched."""
    kept = {name: spec[name] for name in OUTLINE if name in spec}
    description = spec.get("description")
    return {**kept, "description": description[:_MOST_TEXT]} if isinstance(description, str) else kept


def sweep_of(row: Mapping[str, Any], spec: Mapping[str, Any]) -> SweepRecord:
    """The record of a row that has `SWEEP_COLUMNS`."""
    given = {name: row[name] for name in _SWEEP_FIELDS}
    return SweepRecord(**{**given, "state": State(row["state"]), "wish": Wish(row["wish"]), "spec": spec})


def listed(row: sa.Row[Any]) -> SweepRecord:
    """The record of a row that has `OUTLINED_COLUMNS` or `GLANCED_COLUMNS`."""
    values = list(row)
    values[_STATE], values[_WISH] = State(values[_STATE]), Wish(values[_WISH])
    return SweepRecord(*values)


def glance(progress: Mapping[str, Any]) -> dict[str, Any]:
    """A progress without its running trials, rungs, warnings and faults, and without the parameters of the best."""
    kept = {name: value for name, value in progress.items() if name not in _LONG}
    best = kept.get("best")
    return {**kept, "best": {k: v for k, v in best.items() if k != "params"}} if isinstance(best, dict) else kept


def row_of(sweep: SweepRecord) -> dict[str, Any]:
    """The row of a record, without its spec."""
    row = {name: getattr(sweep, name) for name in _SWEEP_FIELDS}
    short = {"outline": outline(sweep.spec), "glance": glance(sweep.progress)}
    return {**row, **short, "state": sweep.state.value, "wish": sweep.wish.value}


def changed(before: SweepRecord, after: SweepRecord) -> dict[str, Any]:
    """The columns in which the rows of two records differ."""
    old = row_of(before)
    return {name: value for name, value in row_of(after).items() if value != old[name]}


def event_of(row: sa.Row[Any]) -> EventRecord:
    """The record of a row of `events`."""
    return EventRecord(row.number, row.sweep_id, row.project, row.at, row.kind, row.data)


def lease_of(row: sa.Row[Any]) -> Lease:
    """The record of a row of `leases`."""
    return Lease(row.name, row.holder, row.epoch, row.expires_at)


def token_of(row: sa.Row[Any]) -> TokenRecord:
    """The record of a row of `tokens`, which never holds the token itself."""
    roles = {project: Role(role) for project, role in row.roles.items()}
    return TokenRecord(row.id, row.user, row.name, roles, row.created_at, row.expires_at, row.revoked_at)


def quota_of(row: sa.Row[Any]) -> Quota:
    """The record of a row of `quotas`."""
    return Quota(**row.quota)


def quota_row(quota: Quota) -> dict[str, Any]:
    """What is kept of a quota: its limits, without what has none."""
    return {name: value for name, value in asdict(quota).items() if value is not None}


def package_of(row: sa.Row[Any]) -> CodePackage:
    """The record of a row of `packages`."""
    return CodePackage(row.digest, row.size_bytes, row.created_at)


def audit_of(row: sa.Row[Any]) -> AuditRecord:
    """The record of a row of `audit`."""
    return AuditRecord(row.number, row.at, row.user, row.project, row.action, row.subject, row.outcome, row.address)


def webhook_of(row: sa.Row[Any]) -> Webhook:
    """The record of a row of `webhooks`."""
    return Webhook(row.id, row.project, row.url, tuple(row.kinds), row.secret, row.created_at)
