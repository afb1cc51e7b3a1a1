"""Finding sweeps in the database: by what a person types, and page by page. Whatever is asked stays within projects."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Final, TypedDict

import sqlalchemy as sa

from service.errors import SweepNotFoundError
from service.plugins import nearest
from service.records import State, SweepRecord
from service.store.database import UnstorableError
from service.store.rows import GLANCED_COLUMNS, SWEEP_COLUMNS, listed, sweep_of
from service.store.schema import specs, sweeps

_SHOWN: Final = 5
_COMPARED: Final = 200  # ids among which a typing mistake looks for what was meant
_ESCAPE: Final = "\\"
# Built once: building one takes longer than running it.
_PROJECT_OF: Final = sa.select(sweeps.c.project).where(sweeps.c.id == sa.bindparam("id"))
_ROW: Final = sa.select(*SWEEP_COLUMNS).where(sweeps.c.id == sa.bindparam("id"))
_ROW_TO_CHANGE: Final = _ROW.with_for_update()
_SPEC: Final = sa.select(specs.c.spec).where(specs.c.sweep_id == sa.bindparam("id"))


class Filters(TypedDict, total=False):
    """Which sweeps to list. What is left out, None or empty stands for all; `text` is part of a name or id."""

    states: Sequence[State]
    owner: str | None
    name: str | None
    text: str | None


def within(query: sa.Select[Any], projects: frozenset[str] | None) -> sa.Select[Any]:
    """The query, blind to other projects."""
    return query if projects is None else query.where(sweeps.c.project.in_(projects))


def find_id(connection: sa.Connection, text: str, projects: frozenset[str] | None) -> str:
    """The id that `text` means: an id, else a name (its newest sweep), else the start of one id.

    SweepNotFoundError says what there is instead; of other projects it says nothing.
    """
    project = connection.scalar(_PROJECT_OF, {"id": text})
    if project is not None and (projects is None or project in projects):
        return text
    newest = within(sa.select(sweeps.c.id), projects).order_by(sweeps.c.created_at.desc(), sweeps.c.id.desc())
    named = connection.scalar(newest.where(sweeps.c.name == text).limit(1))
    if named is not None:
        return str(named)
    begins = sweeps.c.id.like(_escaped(text) + "%", escape=_ESCAPE)
    found = list(connection.scalars(newest.where(begins).limit(_SHOWN + 1))) if text else []
    if len(found) == 1:
        return str(found[0])
    if found:
        shown = ", ".join(found[:_SHOWN]) + (" and more" if len(found) > _SHOWN else "")
        msg = f"{text!r} begins the ids of several sweeps; write more of it: {shown}"
        raise SweepNotFoundError(msg)
    ids = list(connection.scalars(newest.limit(_COMPARED)))
    names = [sweep_id.rsplit("-", 2)[0] for sweep_id in ids]
    near = nearest(text, ids + list(dict.fromkeys(names)))
    hint = f"did you mean {near!r}?" if near else "`tuneyard list` shows those that there are"
    msg = f"no sweep {text[:100]!r}; {hint}"
    raise SweepNotFoundError(msg)


def read_sweep(connection: sa.Connection, sweep_id: str, *, for_change: bool = False) -> SweepRecord:
    """The sweep of this very id, with its spec; for a change, nobody else changes it until the transaction is over."""
    row = connection.execute(_ROW_TO_CHANGE if for_change else _ROW, {"id": sweep_id}).mappings().one_or_none()
    spec = connection.scalar(_SPEC, {"id": sweep_id})
    if row is None or spec is None:
        msg = f"no sweep {sweep_id!r}"
        raise SweepNotFoundError(msg)
    return sweep_of(dict(row), spec)


def page(
    connection: sa.Connection, projects: frozenset[str] | None, filters: Filters, limit: int, after: str | None
) -> tuple[list[SweepRecord], str | None]:
    """Up to `limit` sweeps, the newest first, and where the next page begins; None after the last."""
    query = within(sa.select(*GLANCED_COLUMNS), projects).where(*_conditions(filters))
    if after is not None:
        query = query.where(sa.tuple_(sweeps.c.created_at, sweeps.c.id) < sa.tuple_(*_place(after)))
    query = query.order_by(sweeps.c.created_at.desc(), sweeps.c.id.desc()).limit(limit + 1)
    found = [listed(row) for row in connection.execute(query)]
    more = f"{found[limit - 1].created_at!r}_{found[limit - 1].id}" if len(found) > limit else None
    return found[:limit], more


def _conditions(filters: Filters) -> Iterator[sa.ColumnElement[bool]]:
    if filters.get("states"):
        yield sweeps.c.state.in_([state.value for state in filters["states"]])
    if filters.get("owner") is not None:
        yield sweeps.c.owner == filters["owner"]
    if filters.get("name") is not None:
        yield sweeps.c.name == filters["name"]
    text = filters.get("text")
    if text is not None:
        pattern = f"%{_escaped(text.lower())}%"
        is_named = sa.func.lower(sweeps.c.name).like(pattern, escape=_ESCAPE)
        yield is_named | sweeps.c.id.like(pattern, escape=_ESCAPE)


def _place(after: str) -> tuple[sa.ColumnElement[float], sa.ColumnElement[str]]:
    created_at, _, sweep_id = after.partition("_")
    try:
        return sa.literal(float(created_at), sa.Double), sa.literal(sweep_id, sa.Text)
    except ValueError:
        msg = "a page begins where the answer before said; leave it out for the first page"
        raise UnstorableError(msg) from None


def _escaped(text: str) -> str:
    for character in (_ESCAPE, "%", "_"):
        text = text.replace(character, _ESCAPE + character)
    return text
