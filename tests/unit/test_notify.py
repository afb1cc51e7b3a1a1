"""What webhooks are owed is sent until it is taken, in order, with longer waits, and without telling secrets."""

from __future__ import annotations

import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from ipaddress import ip_network
from pathlib import Path

import pytest

from service.notify import FIRST_WAIT_S, LONGEST_WAIT_S, TRIES, Notifier, wait_s
from service.notify_send import ForbiddenAddressError, Parcel, UndeliveredError
from service.records import EventRecord, Webhook
from service.store import Store
from tests.controlled import World
from tests.receiver import receiving

SECRET = "canary-secret-0123456789"


@dataclass
class Owed:
    event: EventRecord
    webhook: Webhook
    attempts: int = 0
    next_at: float | None = 0.0
    error: str = ""


@dataclass
class Table:
    """Deliveries as the store keeps them, with a clock that stands still."""

    rows: list[Owed]
    at: float = 1000.0

    def now(self) -> float:
        return self.at

    def due_deliveries(self, now: float, limit: int = 100) -> list[Owed]:
        return [row for row in self.rows if row.next_at is not None and row.next_at <= now][:limit]

    def delivered(self, event_number: int, webhook_id: str) -> None:
        self._row(event_number, webhook_id).next_at = None

    def failed(self, event_number: int, webhook_id: str, error: str, next_at: float | None) -> None:
        row = self._row(event_number, webhook_id)
        row.attempts, row.error, row.next_at = row.attempts + 1, error, next_at

    def _row(self, event_number: int, webhook_id: str) -> Owed:
        return next(r for r in self.rows if (r.event.number, r.webhook.id) == (event_number, webhook_id))


@dataclass
class Post:
    """A sender that fails for URLs in `down`."""

    down: dict[str, UndeliveredError] = field(default_factory=dict)
    sent: list[Parcel] = field(default_factory=list)

    def __call__(self, parcel: Parcel, _at: float, _allowed: object) -> None:
        if parcel.url in self.down:
            raise self.down[parcel.url]
        self.sent.append(parcel)


@pytest.fixture
def pool() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(2) as found:
        yield found


def owed(number: int, hook: str = "a") -> Owed:
    event = EventRecord(number, "digits-20261123-000001", "default", 5.0, "finished", {"reason": "done"})
    return Owed(event, Webhook(hook, "default", f"http://{hook}.example/", ("finished",), SECRET, 0.0))


def test_what_is_due_is_told_once_and_in_order(pool: ThreadPoolExecutor) -> None:
    table, post = Table([owed(3), owed(1), owed(2, "b")]), Post()
    notifier = Notifier(table, (), "https://tuneyard.example", post)
    assert [notifier.turn(pool), notifier.turn(pool)] == [3, 0]
    assert [p.delivery for p in post.sent if p.url == "http://a.example/"] == ["a-1", "a-3"]
    told = json.loads(post.sent[0].body)
    assert told["url"] == "https://tuneyard.example/api/v1/sweeps/digits-20261123-000001"
    assert SECRET not in str([p.body for p in post.sent])


def test_one_that_is_down_is_asked_again_later_and_does_not_hold_up_others(pool: ThreadPoolExecutor) -> None:
    table = Table([owed(1), owed(2), owed(3, "b")])
    post = Post({"http://a.example/": UndeliveredError("a.example answered 500")})
    notifier = Notifier(table, (), "", post)
    notifier.turn(pool)
    assert [p.delivery for p in post.sent] == ["b-3"]
    assert all(row.next_at is not None and row.next_at > table.at for row in table.rows[:2])
    assert notifier.turn(pool) == 0
    table.at += 2 * FIRST_WAIT_S
    post.down.clear()
    notifier.turn(pool)
    assert [p.delivery for p in post.sent] == ["b-3", "a-1", "a-2"]


def test_it_is_given_up_after_some_hours(pool: ThreadPoolExecutor) -> None:
    table = Table([owed(1)])
    notifier = Notifier(table, (), "", Post({"http://a.example/": UndeliveredError("down")}))
    while table.rows[0].next_at is not None:
        table.at = table.rows[0].next_at
        notifier.turn(pool)
    assert table.rows[0].attempts == TRIES
    assert 6 * 3600 < table.at < 24 * 3600


def test_an_address_that_is_not_allowed_is_not_asked_again(pool: ThreadPoolExecutor) -> None:
    table = Table([owed(1)])
    Notifier(table, (), "", Post({"http://a.example/": ForbiddenAddressError("10.0.0.1")})).turn(pool)
    assert table.rows[0].next_at is None
    assert "10.0.0.1" in table.rows[0].error


def test_waits_grow_to_an_hour() -> None:
    assert wait_s(1, 0.5) == FIRST_WAIT_S
    assert wait_s(99, 0.5) == LONGEST_WAIT_S


def test_what_happens_to_a_sweep_reaches_those_who_asked_for_it(home: Path, pool: ThreadPoolExecutor) -> None:
    world = World(home)
    with receiving() as receiver:
        world.store.add_webhook("default", receiver.url, ("started", "finished"), SECRET)
        sweep = world.submit()
        world.passes(2)
        world.cluster.finishes(sweep)
        world.passes()
        notifier = Notifier(world.store, [ip_network("127.0.0.0/8")])
        receiver.status = 503
        notifier.turn(pool)
        assert len(receiver.got) == 1  # it is down: the other one waits, too
        receiver.status = 204
        later = Notifier(Later(world.store), [ip_network("127.0.0.0/8")])
        later.turn(pool)
        told = [json.loads(body) for _, _, body in receiver.got[1:]]
        assert [(entry["kind"], entry["sweep_id"]) for entry in told] == [("started", sweep), ("finished", sweep)]
        assert later.turn(pool) == 0
    world.store.close()


class Later:
    """The same store when waits are over."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self.due_deliveries, self.delivered, self.failed = store.due_deliveries, store.delivered, store.failed

    def now(self) -> float:
        return self._store.now() + 2 * FIRST_WAIT_S
