"""What the service's store promises, on each database that it runs on."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
import sqlalchemy as sa

from cluster.backend import JobState
from service.errors import SweepNotFoundError
from service.queueing import lifecycle
from service.records import NewSweep, State
from service.store import (
    KeyConflictError,
    ProjectNotFoundError,
    Store,
    StoreUnavailableError,
    UncertainWriteError,
    UnstorableError,
    VersionConflictError,
)
from service.store.database import Database
from service.sweeps.folders import new_id
from tests.databases import new_database
from tests.waiting import until

SPEC = {"name": "digits", "parameters": {"b": 1, "a": 2}, "budget": {"max_trials": 8}, "resources": {"cpu": 1}}


@pytest.fixture
def store(store_url: str) -> Iterator[Store]:
    opened = Store.open(store_url)
    yield opened
    opened.close()


def new(name: str = "digits", *, project: str = "default", owner: str = "ann") -> NewSweep:
    return NewSweep(new_id(name), project, owner, name, SPEC)


def made(store: Store, name: str = "digits", *, project: str = "default", owner: str = "ann") -> str:
    return store.create_sweep(new(name, project=project, owner=owner), key=None, body_digest="")[0].id


class TestSubmission:
    def test_comes_back_as_it_was_given_and_tells_of_itself(self, store: Store) -> None:
        given = replace(new(), priority=3, code="c" * 64, facts={"commit": "f00"}, forked_from="other")
        record, was_created = store.create_sweep(given, key="k", body_digest="d")
        assert was_created
        assert store.sweep(record.id, None) == record
        assert list(record.spec["parameters"]) == ["b", "a"], "a space has an order"
        assert (record.state, record.version, record.priority, record.facts) == (State.QUEUED, 1, 3, {"commit": "f00"})
        assert [(e.kind, e.sweep_id, e.project) for e in store.events(None)] == [("submitted", record.id, "default")]
        assert record.created_at == record.queued_at <= store.now()

    def test_the_same_key_and_body_is_the_same_sweep(self, store: Store) -> None:
        first, _ = store.create_sweep(new(), key="k", body_digest="d")
        again, was_created = store.create_sweep(new(), key="k", body_digest="d")
        assert (again, was_created) == (first, False)
        assert len(store.sweeps(None)[0]) == 1

    def test_the_same_key_with_another_body_is_refused(self, store: Store) -> None:
        store.create_sweep(new(), key="k", body_digest="d")
        with pytest.raises(KeyConflictError, match="another request"):
            store.create_sweep(new(), key="k", body_digest="e")
        assert len(store.sweeps(None)[0]) == 1

    def test_a_key_is_its_owners_in_its_project(self, store: Store) -> None:
        store.add_project("vision")
        for one in (new(), new(owner="bob"), new(project="vision")):
            assert store.create_sweep(one, key="k", body_digest=one.owner + one.project)[1]

    def test_a_key_whose_sweep_was_deleted_makes_no_second_one(self, store: Store) -> None:
        record, _ = store.create_sweep(new(), key="k", body_digest="d")
        store.forget_sweep(record.id)
        with pytest.raises(KeyConflictError, match="deleted"):
            store.create_sweep(new(), key="k", body_digest="d")

    def test_an_id_that_is_taken_becomes_another(self, store: Store) -> None:
        given = new()
        first, second = (store.create_sweep(given, key=None, body_digest="")[0] for _ in range(2))
        assert first.id == given.id != second.id

    def test_wants_a_project_that_there_is(self, store: Store) -> None:
        with pytest.raises(ProjectNotFoundError, match="vision"):
            store.create_sweep(new(project="vision"), key=None, body_digest="")

    def test_many_at_once_with_the_same_keys_make_one_sweep_for_each(self, store: Store) -> None:
        keys, copies = 100, 8
        with ThreadPoolExecutor(16) as pool:
            made = pool.map(
                lambda n: store.create_sweep(new(f"s{n}"), key=f"k{n}", body_digest=str(n)),
                [n // copies for n in range(keys * copies)],  # those of one key beside one another
            )
            answers = list(made)
        assert len({record.id for record, _ in answers}) == sum(was_created for _, was_created in answers) == keys
        assert sum(store.counts().values()) == keys
        assert len(store.events(None)) == keys

    def test_what_no_database_keeps_is_the_askers_fault_and_nobody_elses(self, store: Store) -> None:
        bad = [replace(new(), owner="a\ud800"), replace(new(), priority=2**70)]
        with ThreadPoolExecutor(16) as pool:
            tries = [pool.submit(store.create_sweep, one, key=None, body_digest="") for one in [new(), *bad, new()] * 8]
            errors = [t.exception() for t in tries]
        assert [type(e) for e in errors] == [type(None), UnstorableError, UnstorableError, type(None)] * 8
        assert len(store.sweeps(None)[0]) == 16

    def test_json_that_strict_json_cannot_say_is_null(self, store: Store) -> None:
        given = replace(new(), spec={"a": [float("nan"), {"b": float("inf")}], "c": "\x00\ud800"})
        record, _ = store.create_sweep(given, key=None, body_digest="")
        assert store.sweep(record.id, None).spec == {"a": [None, {"b": None}], "c": "\x00\ud800"}


class TestFinding:
    def test_by_id_name_or_the_start_of_one_id(self, store: Store) -> None:
        old, newer, other = made(store), made(store), made(store, "mnist")
        assert store.sweep(old, None).id == old
        assert store.sweep("digits", None).id == newer
        assert store.sweep(other[:-2], None).id == other
        with pytest.raises(SweepNotFoundError, match="several"):
            store.sweep("digits-", None)
        for nothing in ("", "%", "_", "dig%", "nothing"):
            with pytest.raises(SweepNotFoundError):
                store.sweep(nothing, None)
        with pytest.raises(SweepNotFoundError, match=f"did you mean '{other}'"):
            store.sweep(other[:-1] + "-", None)
        with pytest.raises(SweepNotFoundError, match="did you mean 'mnist'"):
            store.sweep("mnits", None)
        with pytest.raises(SweepNotFoundError, match="`tuneyard list`"):
            store.sweep("nothing", None)

    def test_stays_within_projects(self, store: Store) -> None:
        store.add_project("vision")
        mine, theirs = made(store), made(store, "secret", project="vision")
        for text in (theirs, "secret", theirs[:-1]):
            with pytest.raises(SweepNotFoundError) as error:
                store.sweep(text, frozenset({"default"}))
            assert theirs not in str(error.value).replace(repr(text), "")
            with pytest.raises(SweepNotFoundError):
                store.act(text, frozenset({"default"}), lifecycle.Delete(), by="eve")
        assert [s.id for s in store.sweeps(frozenset({"default"}))[0]] == [mine]
        assert store.sweeps(frozenset())[0] == []
        assert {e.sweep_id for e in store.events(frozenset({"vision"}))} == {theirs}

    def test_where_one_stands_is_told_of_its_very_id_to_those_who_may_see_it(self, store: Store) -> None:
        sweep_id = made(store)
        assert store.state(sweep_id, None) is store.state(sweep_id, frozenset({"default"})) is State.QUEUED
        store.act(sweep_id, None, lifecycle.Cancel(), by="ann")
        assert store.state(sweep_id, None) is State.CANCELLED
        assert store.state(sweep_id, frozenset({"vision"})) is store.state(sweep_id[:-1], None) is None
        store.forget_sweep(sweep_id)
        assert store.state(sweep_id, None) is None

    def test_pages_hold_each_sweep_once_the_newest_first(self, store: Store) -> None:
        ids = [made(store, f"s{n}") for n in range(7)]
        found, after = [], None
        while True:
            page, after = store.sweeps(None, limit=3, after=after)
            found += [s.id for s in page]
            made(store, "meanwhile")
            if after is None:
                break
        assert found == ids[::-1]
        with pytest.raises(UnstorableError, match="page"):
            store.sweeps(None, after="nonsense")

    def test_lists_by_state_owner_name_and_text(self, store: Store) -> None:
        mine, theirs = made(store), made(store, "Mnist_big", owner="bob")
        store.act(mine, None, lifecycle.Pause(), by="ann")
        assert [s.id for s in store.sweeps(None, states=[State.PAUSED, State.FAILED])[0]] == [mine]
        assert [s.id for s in store.sweeps(None, owner="bob")[0]] == [theirs]
        assert [s.id for s in store.sweeps(None, name="digits")[0]] == [mine]
        assert [s.id for s in store.sweeps(None, text="NIST_")[0]] == [theirs]
        assert store.sweeps(None, text="_%")[0] == []
        assert store.sweeps(None, owner=None, states=())[0][0].spec == {
            "name": "digits", "budget": {"max_trials": 8}, "resources": {"cpu": 1},
        }  # fmt: skip

    def test_what_a_controller_cares_for(self, store: Store) -> None:
        queued, over, deleted = made(store), made(store), made(store)
        store.act(over, None, lifecycle.Cancel(), by="ann")
        store.act(deleted, None, lifecycle.Delete(), by="ann")
        assert [s.id for s in store.unfinished()] == [queued, deleted]
        assert store.counts()[State.CANCELLED] == 2

    def test_what_has_not_changed_is_not_read_again(self, store: Store) -> None:
        ids = [made(store) for _ in range(1203)]  # more than are read at once
        first = {record.id: record for record in store.unfinished()}
        assert list(first) == ids
        store.act(ids[1], None, lifecycle.Cancel(), by="ann")
        store.act(ids[2], None, lifecycle.Prioritise(7), by="ann")
        new = made(store)
        again = store.unfinished(first)
        assert again == store.unfinished()
        assert [record.id for record in again] == [ids[0], *ids[2:], new]
        assert again[1].priority == 7
        assert again[0] is first[ids[0]]


class TestChanging:
    def test_writes_what_the_lifecycle_says_and_tells_it(self, store: Store) -> None:
        sweep_id = made(store)
        record = store.act(sweep_id, None, lifecycle.Placed(2), by="controller")
        seen = {"epochs": 3, "best": {"trial": 1, "epoch": 2, "value": 0.5}, "metric": {"name": "acc"}}
        record = store.act(sweep_id, None, lifecycle.JobSeen(1, JobState.RUNNING, seen, trial_hours=0.5), by="c")
        assert store.sweep(sweep_id, None) == record
        assert (record.state, record.version, record.progress) == (State.RUNNING, 3, seen)
        told = store.events(None, sweep_id=sweep_id)
        assert [e.kind for e in told] == ["submitted", "improved", "started"]
        assert store.events(None, after=told[0].number, sweep_id=sweep_id, limit=1) == told[1:2]

    def test_nothing_new_is_not_written(self, store: Store) -> None:
        sweep_id = made(store)
        before = store.act(sweep_id, None, lifecycle.Pause(), by="ann")
        assert store.act(sweep_id, None, lifecycle.Pause(), by="ann") == before
        assert len(store.events(None)) == 2

    def test_refuses_what_cannot_be_and_what_is_outdated(self, store: Store) -> None:
        sweep_id = made(store)
        with pytest.raises(VersionConflictError):
            store.act(sweep_id, None, lifecycle.Pause(), by="ann", expected_version=2)
        store.act(sweep_id, None, lifecycle.Cancel(), by="ann", expected_version=1)
        with pytest.raises(lifecycle.IllegalMoveError):
            store.act(sweep_id, None, lifecycle.Pause(), by="ann")

    def test_extension_changes_the_spec_and_its_outline(self, store: Store) -> None:
        sweep_id = made(store)
        store.act(sweep_id, None, lifecycle.Extend(20), by="ann")
        assert store.sweep(sweep_id, None).spec == {**SPEC, "budget": {"max_trials": 20}}
        assert store.sweeps(None)[0][0].spec["budget"] == {"max_trials": 20}

    def test_changes_at_once_all_count(self, store: Store) -> None:
        sweep_id = made(store)
        with ThreadPoolExecutor(8) as pool:
            list(pool.map(lambda n: store.act(sweep_id, None, lifecycle.Prioritise(n), by="ann"), range(1, 41)))
        assert store.sweep(sweep_id, None).version == 41
        assert len(store.events(None)) == 41

    def test_use_is_counted_for_owner_and_project_and_outlives_the_sweep(self, store: Store) -> None:
        sweep_id = made(store)
        store.act(sweep_id, None, lifecycle.Placed(1), by="c")
        for hours in (0.25, 0.25, 0.75, 0.5):
            store.act(sweep_id, None, lifecycle.JobSeen(1, JobState.RUNNING, trial_hours=hours), by="c")
        store.forget_sweep(sweep_id)
        used = store.usage()
        assert (used.users, used.projects) == ({"ann": 0.75}, {"default": 0.75})
        assert 0 < used.recent["ann"] <= 0.75

    def test_a_forgotten_sweep_leaves_only_its_end(self, store: Store) -> None:
        sweep_id = made(store)
        last = store.events(None)[-1].number
        for _ in range(2):
            store.forget_sweep(sweep_id)
        assert [(e.kind, e.sweep_id) for e in store.events(None)] == [("deleted", sweep_id)]
        assert store.events(None)[-1].number == last + 1


class TestStuckDatabase:
    """PostgreSQL alone: SQLite has nobody to wait for but other writers, for whom it has a time of its own."""

    def test_every_connection_has_limits_and_the_operators_own_count_more(self, postgresql_url: str) -> None:
        url = new_database(postgresql_url)
        shown = "SELECT name, setting FROM pg_settings WHERE name LIKE '%timeout' OR name = 'search_path'"
        for changed, milliseconds in ((url, "30000"), (f"{url}%20-c%20statement_timeout%3D7s", "7000")):
            database = Database(changed)
            found = database.read(lambda c: {row.name: row.setting for row in c.execute(sa.text(shown))})
            database.close()
            assert found["statement_timeout"] == milliseconds
            assert found["lock_timeout"] == found["idle_in_transaction_session_timeout"] == "10000"
            assert found["search_path"].startswith("test")

    def test_waiting_for_a_lock_ends_but_not_before_a_migration(self, postgresql_url: str) -> None:
        url = new_database(postgresql_url) + "%20-c%20lock_timeout%3D50ms"
        first, second = Database(url), Database(url)

        def migrate() -> None:
            with second.exclusive():
                pass

        with ThreadPoolExecutor(1) as pool, first.exclusive():
            locked = sa.text("SELECT pg_advisory_xact_lock(7083551)")
            with pytest.raises(StoreUnavailableError, match="lock timeout"):
                second.write(lambda c: c.execute(locked))
            waiting = pool.submit(migrate)
            with pytest.raises(TimeoutError):
                waiting.result(timeout=0.3)
        waiting.result(timeout=60)
        for database in (first, second):
            database.close()

    def test_a_connection_that_breaks_while_it_commits_leaves_it_open_what_was_done(self, postgresql_url: str) -> None:
        database = Database(new_database(postgresql_url))
        broken = "PERFORM pg_terminate_backend(pg_backend_pid()); PERFORM pg_sleep(60); RETURN NULL;"
        for statement in (
            "CREATE TABLE broken (a int)",
            f"CREATE FUNCTION break_off() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN {broken} END $$",
            """CREATE CONSTRAINT TRIGGER at_the_end AFTER INSERT ON broken DEFERRABLE INITIALLY DEFERRED
            FOR EACH ROW EXECUTE FUNCTION break_off()""",
        ):
            database.write(partial(sa.Connection.exec_driver_sql, statement=statement))
        with pytest.raises(UncertainWriteError):
            database.write(lambda c: c.exec_driver_sql("INSERT INTO broken VALUES (1)"))
        with pytest.raises(StoreUnavailableError) as before_the_end:
            database.write(lambda c: c.exec_driver_sql("SELECT pg_terminate_backend(pg_backend_pid())"))
        assert not isinstance(before_the_end.value, UncertainWriteError)
        database.close()


def test_of_writes_that_share_a_transaction_one_that_fails_undoes_itself_alone(tmp_path: Path) -> None:
    """SQLite alone: on PostgreSQL each has a transaction of its own."""
    database = Database(f"sqlite:///{tmp_path / 'shared.db'}")
    database.make_file()
    database.write(lambda c: c.exec_driver_sql("CREATE TABLE kept (number INTEGER PRIMARY KEY)"))
    holds, go_on = threading.Event(), threading.Event()

    def hold(_: sa.Connection) -> None:
        holds.set()
        assert go_on.wait(60)

    def keep(number: int, connection: sa.Connection) -> int:
        connection.exec_driver_sql("INSERT INTO kept VALUES (?)", (number,))
        return {1: number, 3: number}[number]

    with ThreadPoolExecutor(6) as pool:
        first = pool.submit(database.write, hold)
        assert holds.wait(60)  # whatever comes now waits for the next transaction
        together = [pool.submit(database.write, partial(keep, number)) for number in (1, 2, 3, 3)]
        until(lambda: database._wanted.qsize() == 4, 60)
        go_on.set()
        first.result()
        outcomes = [future.exception() or future.result() for future in together]
    assert outcomes[0] == 1
    assert isinstance(outcomes[1], KeyError)
    [refused] = [outcome for outcome in outcomes[2:] if outcome != 3]  # the same key twice
    assert isinstance(refused, StoreUnavailableError)
    kept = database.read(lambda c: [row.number for row in c.exec_driver_sql("SELECT number FROM kept")])
    database.close()
    assert kept == [1, 3]
