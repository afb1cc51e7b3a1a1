"""What the service's store promises to replicas, webhooks and admins, and how it opens, on each database."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from pathlib import Path

import pytest
import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext

from service.queueing import lifecycle
from service.records import NewSweep, Quota, Role, State
from service.store import (
    LeaseLostError,
    Origin,
    Store,
    StoreError,
    StoreUnavailableError,
)
from service.store.database import Database
from service.store.schema import deliveries, metadata
from service.sweeps.folders import new_id

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


class TestLeases:
    def test_one_holder_at_a_time_with_growing_epochs(self, store: Store) -> None:
        first = store.lease("x", "one", 60)
        assert first is not None
        assert store.lease("x", "two", 60) is None
        renewed = store.lease("x", "one", 90)
        assert renewed is not None
        assert (renewed.epoch, renewed.expires_at > first.expires_at) == (first.epoch, True)
        store.release(renewed)
        assert not store.holds(renewed)
        second = store.lease("x", "two", 60)
        assert second is not None
        assert second.epoch == first.epoch + 1
        assert store.holds(second)
        store.release(first)
        assert store.holds(second), "what was somebody's is not for him to release"

    def test_runs_out_by_the_databases_clock(self, store: Store) -> None:
        assert store.lease("x", "one", -1) is not None
        assert store.lease("x", "two", 60) is not None

    def test_a_clock_that_is_set_back_keeps_nobody_waiting(self, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
        now = store.now()
        monkeypatch.setattr(Database, "now", lambda *_: now + 86_400)
        first = store.lease("x", "one", 12)
        monkeypatch.setattr(Database, "now", lambda *_: now)
        second = store.lease("x", "two", 12)
        assert first is not None
        assert second is not None
        assert not store.holds(first)
        assert second.epoch == first.epoch + 1
        assert store.lease("x", "one", 12) is None

    def test_an_earlier_holder_changes_nothing_any_more(self, store: Store) -> None:
        sweep_id = made(store)
        old = store.lease("controller", "one", -1)
        assert old is not None
        store.act(sweep_id, None, lifecycle.Prioritise(1), by="one", lease=old)
        assert store.lease("controller", "two", 60) is not None
        with pytest.raises(LeaseLostError):
            store.act(sweep_id, None, lifecycle.Placed(1), by="one", lease=old)
        assert store.sweep(sweep_id, None).state is State.QUEUED

    def test_several_replicas_at_once_never_hold_the_same_one(self, store: Store, store_url: str) -> None:
        names = [f"lease-{n}" for n in range(20)]
        replicas = [store, Store.open(store_url)]
        with ThreadPoolExecutor(2) as pool:
            taken = list(
                pool.map(
                    lambda n: [name for name in names if replicas[n].lease(name, f"r{n}", 60) is not None], range(2)
                )
            )
        replicas[1].close()
        assert sorted(taken[0] + taken[1]) == sorted(names)


class TestTelling:
    def test_a_reader_that_goes_on_from_the_last_number_misses_nothing(self, store: Store) -> None:
        ids, over = [made(store, f"s{n}") for n in range(8)], threading.Event()
        seen: list[int] = []

        def read() -> None:
            after = 0
            while True:
                is_last = over.is_set()
                found = store.events(None, after=after)
                seen.extend(e.number for e in found)
                after = seen[-1] if seen else 0
                if is_last and not found:
                    return

        reader = threading.Thread(target=read)
        reader.start()
        with ThreadPoolExecutor(8) as pool:
            list(pool.map(lambda n: store.act(ids[n % 8], None, lifecycle.Prioritise(n + 1), by="ann"), range(120)))
        over.set()
        reader.join()
        assert len(seen) == 128
        assert all(a < b for a, b in pairwise(seen))

    def test_webhooks_are_told_of_what_they_ask_for_until_they_take_it(self, store: Store) -> None:
        hook = store.add_webhook("default", "https://example.org", ["cancelled", "failed"], "secret")
        sweep_id = made(store)
        store.act(sweep_id, None, lifecycle.Cancel(), by="ann")
        now = store.now()
        (due,) = store.due_deliveries(now, 10)
        assert (due.event.kind, due.webhook, due.attempts) == ("cancelled", hook, 0)
        assert store.due_deliveries(now + 59, 10) == [], "somebody is at it"
        store.failed(due.event.number, hook.id, "refused", now + 100)
        assert store.due_deliveries(now + 99, 10) == []
        assert [d.attempts for d in store.due_deliveries(now + 100, 10)] == [1]
        assert [d.attempts for d in store.due_deliveries(now - 10**6, 10)] == [1], "the clock was set back"
        store.delivered(due.event.number, hook.id)
        assert store.due_deliveries(now + 10**6, 10) == [], "once is enough"

    def test_a_webhook_that_is_gone_is_told_nothing(self, store: Store) -> None:
        hook = store.add_webhook("default", "https://example.org", ["submitted"], "secret")
        assert not store.remove_webhook(hook.id, frozenset({"vision"}))
        sweep_id = made(store)
        store.forget_sweep(sweep_id)
        assert store.remove_webhook(hook.id, frozenset({"default"}))
        assert store.webhooks(None) == []
        assert store.due_deliveries(store.now() + 1, 10) == []

    def test_what_was_not_told_of_a_deleted_sweep_yet_is_told_all_the_same(self, store: Store) -> None:
        hook = store.add_webhook("default", "https://example.org", ["submitted", "cancelled", "deleted"], "secret")
        sweep_id = made(store)
        (first,) = store.due_deliveries(store.now())
        store.delivered(first.event.number, hook.id)
        store.act(sweep_id, None, lifecycle.Prioritise(1), by="ann")
        store.act(sweep_id, None, lifecycle.Cancel(), by="ann")
        store.forget_sweep(sweep_id)
        assert [event.kind for event in store.events(None)] == ["cancelled", "deleted"]
        due = store.due_deliveries(store.now() + 1)
        assert [delivery.event.kind for delivery in due] == ["cancelled", "deleted"]
        store.tidy(store.now() + 1)
        assert len(store.events(None)) == 2, "they are still owed"
        store.delivered(due[0].event.number, hook.id)
        store.failed(due[1].event.number, hook.id, "refused", None)
        store.tidy(0.0)
        assert [event.kind for event in store.events(None)] == ["deleted"]

    def test_what_is_over_is_tidied_away_after_a_while(self, store: Store) -> None:
        hook = store.add_webhook("default", "https://example.org", ["submitted", "cancelled"], "secret")
        new = NewSweep(new_id("digits"), "default", "ann", "digits", {})
        sweep_id = store.create_sweep(new, key="once", body_digest="x")[0].id
        store.act(sweep_id, None, lifecycle.Cancel(), by="ann")
        told, owed = store.due_deliveries(store.now())
        store.delivered(told.event.number, hook.id)

        def kept() -> list[int]:
            query = sa.select(deliveries.c.event_number).order_by(deliveries.c.event_number)
            return store._database.read(lambda connection: list(connection.scalars(query)))

        store.tidy(store.now() - 60)
        assert kept() == [told.event.number, owed.event.number]
        assert store.made_with("once", "ann", "x", frozenset({"default"})) is not None
        store.tidy(store.now() + 1)
        assert kept() == [owed.event.number]
        assert store.made_with("once", "ann", "x", frozenset({"default"})) is None
        assert len(store.events(None)) == 2


class TestAccess:
    def test_tokens_are_known_by_hash_alone(self, store: Store) -> None:
        kept = store.add_token("ann", "laptop", {"*": Role.ADMIN}, token_hash="h1", expires_at=5.0)
        assert store.token_by_hash("h1") == kept == store.tokens("ann")[0]
        assert store.token_by_hash("h2") is None
        assert store.tokens("bob") == []
        assert store.token(kept.id, "ann") == store.token(kept.id, None) == kept
        assert store.token(kept.id, "bob") is store.token("nothing", None) is None
        assert store.revoke_token(kept.id)
        assert not store.revoke_token(kept.id)
        revoked = store.token_by_hash("h1")
        assert revoked is not None
        assert revoked.revoked_at is not None
        with pytest.raises(StoreError):
            store.add_token("bob", "copy", {}, token_hash="h1")

    def test_what_was_made_with_a_token_ends_with_it(self, store: Store) -> None:
        made: list[str] = []
        for name, maker in (("first", None), ("second", 0), ("third", 1), ("other", None), ("beside", 0)):
            made_with = None if maker is None else made[maker]
            made.append(store.add_token("ann", name, {}, token_hash=name, origin=Origin(made_with)).id)

        def counting() -> set[str]:
            return {token.name for token in store.tokens("ann") if token.revoked_at is None}

        store.revoke_token(made[1], alone=True)
        assert counting() == {"first", "third", "other", "beside"}
        assert store.revoke_token(made[0])
        assert counting() == {"other"}

    def test_quotas_projects_and_packages(self, store: Store) -> None:
        store.set_quota("user", "ann", Quota(cpus=4))
        store.set_quota("user", "ann", Quota(gpus=0.5, trial_hours=10))
        assert store.quotas() == {("user", "ann"): Quota(gpus=0.5, trial_hours=10)}
        for name in ("vision", "vision"):
            store.add_project(name)
        assert store.projects() == ["default", "vision"]
        first = store.add_package("default", "d", 5)
        assert store.add_package("default", "d", 5) == first
        store.add_package("vision", "d", 5)
        assert store.package("d", frozenset({"default"})) == first
        assert store.package("d", frozenset({"other"})) is None
        assert [p.digest for p in store.packages(None)] == ["d"]

    @pytest.mark.parametrize("change", ["UPDATE audit SET outcome = 'denied'", "DELETE FROM audit"])
    def test_the_audit_log_is_only_added_to(self, store: Store, change: str) -> None:
        store.add_audit("ann", "default", "sweep.create", "s1", "ok", "::1")
        store.add_audit("root", None, "token.create", "t1", "ok")
        entries = store.audit(None)
        assert [e.action for e in entries] == ["sweep.create", "token.create"]
        assert store.audit(frozenset({"default"})) == entries[:1]
        assert store.audit(None, after=entries[0].number) == entries[1:]
        assert (store.audit(None, limit=1), store.audit(None, limit=1, newest=True)) == (entries[:1], entries[1:])
        with pytest.raises(StoreError, match="only ever added to"):
            store._database.write(lambda connection: connection.execute(sa.text(change)))
        assert store.audit(None) == entries


class TestOpening:
    def test_migrations_lead_to_the_schema(self, store: Store) -> None:
        def differences(connection: sa.Connection) -> list[object]:
            context = MigrationContext.configure(connection, opts={"compare_type": _is_other})
            return list(compare_metadata(context, metadata))

        assert store._database.read(differences) == []

    def test_several_at_once_and_again_is_as_good_as_once(self, store_url: str) -> None:
        with ThreadPoolExecutor(4) as pool:
            stores = list(pool.map(Store.open, [store_url] * 4))
        sweep_id = made(stores[0])
        assert all(s.sweep(sweep_id, None).id == sweep_id for s in stores)
        for each in stores:
            each.close()
        again = Store.open(store_url)
        assert again.sweep(sweep_id, None).id == sweep_id
        again.close()

    def test_a_later_versions_database_is_left_alone(self, store_url: str) -> None:
        store = Store.open(store_url)
        store._database.write(lambda c: c.execute(sa.text("UPDATE alembic_version SET version_num = '9999'")))
        store.close()
        with pytest.raises(StoreError, match="later Tuneyard"):
            Store.open(store_url)

    def test_a_closed_store_says_so(self, store_url: str) -> None:
        store = Store.open(store_url)
        store.ping()
        store.close()
        store.close()
        with pytest.raises(StoreUnavailableError):
            store.add_project("late")


@pytest.mark.parametrize("url", ["sqlite://", "sqlite:///:memory:", "mysql://x/y", "nonsense", ""])
def test_other_databases_are_refused(url: str) -> None:
    with pytest.raises(StoreError, match="postgresql://"):
        Store.open(url)


def test_a_new_sqlite_file_is_its_owners_alone_and_so_is_what_lies_beside_it(tmp_path: Path) -> None:
    folder = tmp_path / "new"
    before = os.umask(0)
    try:
        store = Store.open(f"sqlite:///{folder / 'service.db'}")
    finally:
        os.umask(before)
    store.add_project("vision")
    modes = {path.name: path.stat().st_mode & 0o777 for path in (folder, *folder.iterdir())}
    store.close()
    assert modes == {"new": 0o700, "service.db": 0o600, "service.db-wal": 0o600, "service.db-shm": 0o600}


def test_a_sqlite_file_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match="cannot be made"):
        Store.open(f"sqlite:///{tmp_path / 'file' / 'service.db'}")


def _is_other(
    _context: object, _inspected: object, _column: object, found: sa.types.TypeEngine[object], wanted: object
) -> bool:
    """Whether a column's type differs in more than its name: JSON of ours is text."""
    kind: Callable[[object], str] = lambda t: type(getattr(t, "impl", t)).__name__.upper()  # noqa: E731  # one line
    alike = {"BIGINT": "BIGINTEGER", "DOUBLE_PRECISION": "DOUBLE"}
    names = [alike.get(kind(t), kind(t)) for t in (found, wanted)]
    return names[0] != names[1] and names != ["INTEGER", "BIGINTEGER"]
