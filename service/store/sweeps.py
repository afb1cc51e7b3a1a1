"""Sweeps in the database: submitted once for each key, then changed by `lifecycle.step` alone, and told of."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from types import MappingProxyType
from typing import Final, Unpack

import sqlalchemy as sa

from service.errors import SweepNotFoundError, TuneyardError
from service.queueing import lifecycle
from service.queueing.news import news
from service.queueing.queue import Usage
from service.records import Lease, NewSweep, State, SweepRecord, Wish
from service.store.audit import Deed, note
from service.store.database import Database, StoreError
from service.store.events import DELETED, IS_OWED, About, tell
from service.store.finding import Filters, find_id, page, read_sweep
from service.store.keys import KeyConflictError, Once, claim, first_of
from service.store.leases import check
from service.store.rows import OUTLINED_COLUMNS, changed, listed, row_of
from service.store.schema import events, projects, specs, sweeps, usage
from service.sweeps.folders import new_id

_TRIES: Final = 20
_READ_AT_ONCE: Final = 500  # rows, since no statement takes any number of ids
CREATED: Final = "201"  # the outcome of a deed that makes a sweep, as in every other entry of the audit log
DAY_S: Final = 86400.0
HALF_LIFE_DAYS: Final = 3.0  # after which what somebody used counts half
_OVER: Final = tuple(state.value for state in State if state.is_over)
# Built once: building one takes longer than running it.
_PROJECT: Final = sa.select(projects.c.name).where(projects.c.name == sa.bindparam("project"))
_STATE: Final = sa.select(sweeps.c.state, sweeps.c.project).where(sweeps.c.id == sa.bindparam("id"))
_TAKEN: Final = sa.select(sweeps.c.id).where(sweeps.c.id == sa.bindparam("id"))
_UNFINISHED: Final = (
    sa.select(sweeps.c.id, sweeps.c.version)
    .where(sweeps.c.state.not_in(_OVER) | (sweeps.c.wish == Wish.DELETE.value))
    .order_by(sweeps.c.created_at, sweeps.c.id)
)
_OUTLINES: Final = sa.select(*OUTLINED_COLUMNS).where(sweeps.c.id.in_(sa.bindparam("ids", expanding=True)))
_ADD_SWEEP: Final = sa.insert(sweeps)
_ADD_SPEC: Final = sa.insert(specs)


class ProjectNotFoundError(TuneyardError):
    """Nobody has made a project of this name."""


class VersionConflictError(TuneyardError):
    """The sweep has changed since it was looked at; nothing was written."""


class Sweeps:
    """The store's part for sweeps."""

    _database: Database

    def create_sweep(
        self, new: NewSweep, *, key: str | None, body_digest: str, deed: Deed | None = None
    ) -> tuple[SweepRecord, bool]:
        """The queued sweep, and whether this call made it: a second one with the same key and body finds the first's.

        Keys are each owner's own, in each project. The id is another than asked for where that is taken.
        A sweep that is made is in the audit log as `deed`, with it or not at all. KeyConflictError where the key came
        with another request, or its sweep was deleted since; ProjectNotFoundError.
        """

        def work(connection: sa.Connection) -> tuple[SweepRecord, bool]:
            if connection.scalar(_PROJECT, {"project": new.project}) is None:
                msg = f"there is no project {new.project!r}; an admin of all projects can make it"
                raise ProjectNotFoundError(msg)
            now = self._database.now(connection)
            sweep_id = _free_id(connection, new)
            once = None if key is None else Once(new.owner, key, body_digest)
            before = claim(self._database, connection, once, new.project, sweep_id, now)
            if before is not None:
                return _made(connection, before), False
            given = {field.name: getattr(new, field.name) for field in fields(new)}
            record = SweepRecord(**{**given, "id": sweep_id}, created_at=now, updated_at=now, queued_at=now)
            connection.execute(_ADD_SWEEP, row_of(record))
            connection.execute(_ADD_SPEC, {"sweep_id": sweep_id, "spec": record.spec})
            told = {"by": new.owner, "name": new.name, "priority": new.priority, "forked_from": new.forked_from}
            tell(self._database, connection, About(sweep_id, new.project, now), [("submitted", told)])
            if deed is not None:
                what = {"project": new.project, "subject": sweep_id, "outcome": CREATED, "at": now}
                note(self._database, connection, deed, what)
            return record, True

        return self._database.write(work)

    def made_with(self, key: str, owner: str, body_digest: str, projects: frozenset[str]) -> SweepRecord | None:
        """The sweep that `owner` made with this key and body, in whichever of `projects`; None where the key is new.

        KeyConflictError as in `create_sweep`.
        """

        def work(connection: sa.Connection) -> SweepRecord | None:
            before = first_of(connection, Once(owner, key, body_digest), projects)
            return None if before is None else _made(connection, before)

        return self._database.read(work)

    def sweep(self, sweep_id: str, projects: frozenset[str] | None) -> SweepRecord:
        """The sweep that `sweep_id` means, which may be a name or the start of an id, among those of `projects`.

        SweepNotFoundError where there is none.
        """
        return self._database.read(lambda c: read_sweep(c, find_id(c, sweep_id, projects)))

    def state(self, sweep_id: str, projects: frozenset[str] | None) -> State | None:
        """Where the sweep of this very id stands; None where there is none among those of `projects`.

        For whoever asks again and again: all of a sweep is much to read.
        """
        row = self._database.read(lambda c: c.execute(_STATE, {"id": sweep_id}).one_or_none())
        if row is None or (projects is not None and row.project not in projects):
            return None
        return State(row.state)

    def sweeps(
        self,
        projects: frozenset[str] | None,
        *,
        limit: int = 50,
        after: str | None = None,
        **filters: Unpack[Filters],
    ) -> tuple[list[SweepRecord], str | None]:
        """A page, the newest first, and the `after` of the next one; None after the last.

        `spec` holds only its outline here: name, description, objectives, budget, resources, evaluation, search and
        scheduler; `progress` neither running trials, rungs, warnings and faults, nor the best one's parameters.
        UnstorableError where `after` is not one that a page gave.
        """
        return self._database.read(lambda c: page(c, projects, filters, limit, after))

    def unfinished(self, known: Mapping[str, SweepRecord] = MappingProxyType({})) -> list[SweepRecord]:
        """Every sweep that a controller has something to do with, the oldest first.

        All that are not over, and those that are to be removed; `spec` as in `sweeps`, `progress` whole. Whoever asks
        again and again gives what it was told last as `known`: what has not changed since is taken from there.
        """

        def work(connection: sa.Connection) -> list[SweepRecord]:
            there = connection.execute(_UNFINISHED).all()
            unread = [row.id for row in there if row.id not in known or known[row.id].version != row.version]
            read: dict[str, SweepRecord] = {}
            for start in range(0, len(unread), _READ_AT_ONCE):
                found = connection.execute(_OUTLINES, {"ids": unread[start : start + _READ_AT_ONCE]})
                read |= {record.id: record for record in map(listed, found)}
            return [read.get(row.id) or known[row.id] for row in there]

        return self._database.read(work)

    def ended(self, before: float) -> list[str]:
        """The ids of the sweeps that are over, and were so before then."""
        query = sa.select(sweeps.c.id).where(sweeps.c.state.in_(_OVER), sweeps.c.ended_at < before)
        return self._database.read(lambda c: [str(sweep_id) for sweep_id in c.scalars(query)])

    def counts(self) -> dict[State, int]:
        """How many sweeps there are in each state."""
        query = sa.select(sweeps.c.state, sa.func.count()).group_by(sweeps.c.state)
        found = self._database.read(lambda c: {State(state): count for state, count in c.execute(query)})
        return {state: found.get(state, 0) for state in State}

    def act(
        self,
        sweep_id: str,
        projects: frozenset[str] | None,
        event: lifecycle.Event,
        *,
        by: str,
        expected_version: int | str | None = None,
        lease: Lease | None = None,
    ) -> SweepRecord:
        """The sweep after `event`, durably, with what is to be told of it.

        A controller passes its lease: LeaseLostError once another has it. SweepNotFoundError,
        lifecycle.IllegalMoveError, and VersionConflictError where `expected_version` is given and neither the present
        version nor the present tag.
        """

        def work(connection: sa.Connection) -> SweepRecord:
            if lease is not None:
                check(connection, lease)
            before = read_sweep(connection, find_id(connection, sweep_id, projects), for_change=True)
            if expected_version is not None and expected_version not in (before.version, before.tag):
                now = f"it is {before.version} or {before.tag} by now, not {expected_version}"
                msg = f"{before.id} has changed since ({now}); look again"
                raise VersionConflictError(msg)
            after, _ = lifecycle.step(before, event, self._database.now(connection))
            if after != before:
                self._save(connection, before, after, by)
            return after

        return self._database.write(work)

    def _save(self, connection: sa.Connection, before: SweepRecord, after: SweepRecord, by: str) -> None:
        is_same = (sweeps.c.id == before.id) & (sweeps.c.version == before.version)
        saved = connection.execute(sa.update(sweeps).where(is_same).values(changed(before, after)))
        if saved.rowcount != 1:  # the row is locked: this cannot be
            msg = f"{before.id} was changed by somebody else in the middle of a change"
            raise StoreError(msg)
        if after.spec != before.spec:
            connection.execute(sa.update(specs).where(specs.c.sweep_id == before.id).values(spec=after.spec))
        if after.trial_hours > before.trial_hours:
            self._use(connection, after, after.trial_hours - before.trial_hours)
        about = About(after.id, after.project, after.updated_at)
        tell(self._database, connection, about, news(before, after, by))

    def _use(self, connection: sa.Connection, sweep: SweepRecord, hours: float) -> None:
        """Count trial-hours for the owner and the project; they stay when the sweep is deleted."""
        day = int(sweep.updated_at // DAY_S)
        for kind, name in (("project", sweep.project), ("user", sweep.owner)):  # always in this order: no deadlock
            row = {"kind": kind, "name": name, "day": day, "trial_hours": hours}
            adding = self._database.insert(usage).values(row).on_conflict_do_update(
                index_elements=[usage.c.kind, usage.c.name, usage.c.day],
                set_={"trial_hours": usage.c.trial_hours + hours},
            )  # fmt: skip
            connection.execute(adding)

    def usage(self) -> Usage:
        """Trial-hours used so far, by users and projects, with those of deleted sweeps; recent ones count most."""

        def work(connection: sa.Connection) -> Usage:
            today = self._database.now(connection) / DAY_S
            users: dict[str, float] = {}
            of_projects: dict[str, float] = {}
            recent: dict[str, float] = {}
            for row in connection.execute(sa.select(usage).order_by(usage.c.kind, usage.c.name, usage.c.day)):
                totals = users if row.kind == "user" else of_projects
                totals[row.name] = totals.get(row.name, 0.0) + row.trial_hours
                if row.kind == "user":
                    weight = 0.5 ** (max(0.0, today - row.day) / HALF_LIFE_DAYS)
                    recent[row.name] = recent.get(row.name, 0.0) + weight * row.trial_hours
            return Usage(users, of_projects, recent)

        return self._database.read(work)

    def forget_sweep(self, sweep_id: str) -> None:
        """Remove the row of a sweep whose folder is gone, and what was told of it but for its end; once is enough.

        What a webhook has yet to be told of stays until it is; see `Events.tidy`.
        """

        def work(connection: sa.Connection) -> None:
            query = sa.select(sweeps.c.project).where(sweeps.c.id == sweep_id).with_for_update()
            project = connection.scalar(query)
            if project is None:
                return
            connection.execute(sa.delete(events).where(events.c.sweep_id == sweep_id, ~IS_OWED))
            connection.execute(sa.delete(specs).where(specs.c.sweep_id == sweep_id))
            connection.execute(sa.delete(sweeps).where(sweeps.c.id == sweep_id))
            about = About(sweep_id, project, self._database.now(connection))
            tell(self._database, connection, about, [(DELETED, {})])

        self._database.write(work)


def _made(connection: sa.Connection, sweep_id: str) -> SweepRecord:
    """The sweep that a key made. KeyConflictError where it is gone."""
    try:
        return read_sweep(connection, sweep_id)
    except SweepNotFoundError as error:
        msg = f"this Idempotency-Key made {sweep_id}, which has been deleted since; take a new key"
        raise KeyConflictError(msg) from error


def _free_id(connection: sa.Connection, new: NewSweep) -> str:
    sweep_id = new.id
    for _ in range(_TRIES):
        if connection.scalar(_TAKEN, {"id": sweep_id}) is None:
            return sweep_id
        sweep_id = new_id(new.name)
    msg = f"no free id begins with {new.name!r}"
    raise StoreError(msg)
