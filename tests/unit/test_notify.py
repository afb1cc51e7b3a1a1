"""What webhooks are owed is sent until it is taken, in order, with longer waits, and without telling secrets."""

from __future__ import annotations

import json
import threading
from collections.abc import Collection, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from ipaddress import ip_network
from pathlib import Path

import pytest

from service.control import notify
from service.control.notify import FIRST_WAIT_S, LONGEST_WAIT_S, TRIES, Notifier, wait_s
from service.control.notify_send import ForbiddenAddressError, Parcel, UndeliveredError
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

    def due_deliveries(
        self, now: float, limit: int = 100, *, hold_s: float = 60.0, beside: Collection[str] = ()
    ) -> list[Owed]:
        waiting = [row for row in self.rows if row.next_at is not None and row.next_at <= now]
        found = [row for row in waiting if row.webhook.id not in beside][:limit]
        for row in found:
            row.next_at = now + hold_s
        return found

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


def turn(notifier: Notifier, pool: ThreadPoolExecutor) -> int:
    """One turn to its end: how many were told."""
    return sum(telling.result() for telling in notifier.turn(pool))


def test_what_is_due_is_told_once_and_in_order(pool: ThreadPoolExecutor) -> None:
    table, post = Table([owed(3), owed(1), owed(2, "b")]), Post()
    notifier = Notifier(table, (), "https://tuneyard.example", post)
    assert [turn(notifier, pool), turn(notifier, pool)] == [3, 0]
    assert [p.delivery for p in post.sent if p.url == "http://a.example/"] == ["a-1", "a-3"]
    told = json.loads(post.sent[0].body)
    assert told["url"] == "https://tuneyard.example/api/v1/sweeps/digits-20261123-000001"
    assert SECRET not in str([p.body for p in post.sent])


def test_one_that_is_down_is_asked_again_later_and_does_not_hold_up_others(pool: ThreadPoolExecutor) -> None:
    table = Table([owed(1), owed(2), owed(3, "b")])
    post = Post({"http://a.example/": UndeliveredError("a.example answered 500")})
    notifier = Notifier(table, (), "", post)
    turn(notifier, pool)
    assert [p.delivery for p in post.sent] == ["b-3"]
    assert all(row.next_at is not None and row.next_at > table.at for row in table.rows[:2])
    assert turn(notifier, pool) == 0
    table.at += 2 * FIRST_WAIT_S
    post.down.clear()
    turn(notifier, pool)
    assert [p.delivery for p in post.sent] == ["b-3", "a-1", "a-2"]


def test_what_failed_together_is_told_in_its_order_later(pool: ThreadPoolExecutor) -> None:
    table = Table([owed(number) for number in range(1, 9)])
    notifier = Notifier(table, (), "", Post({"http://a.example/": UndeliveredError("a.example answered 500")}))
    turn(notifier, pool)
    assert len({row.next_at for row in table.rows}) == 1


def test_a_slow_receiver_keeps_no_other_waiting(pool: ThreadPoolExecutor) -> None:
    table, may_answer, sent = Table([owed(1), owed(2, "b")]), threading.Event(), list[str]()

    def send(parcel: Parcel, _at: float, _allowed: object) -> None:
        if parcel.url == "http://a.example/" and not may_answer.wait(120):
            raise TimeoutError
        sent.append(parcel.delivery)

    notifier = Notifier(table, (), "", send)
    begun = notifier.turn(pool)
    assert begun[1].result() == 1  # else b would be busy, too
    table.rows += [owed(3), owed(4, "b")]
    assert turn(notifier, pool) == 1
    assert sorted(sent) == ["b-2", "b-4"]
    may_answer.set()
    assert sum(telling.result() for telling in begun) >= 1
    assert turn(notifier, pool) == 1
    assert sent[2:] == ["a-1", "a-3"]


def test_what_was_not_begun_in_time_is_left_to_whoever_finds_it_due(
    pool: ThreadPoolExecutor, monkeypatch: pytest.MonkeyPatch
) -> None:
    table, post = Table([owed(1), owed(2)]), Post()
    monkeypatch.setattr(notify, "BEGIN_S", -1.0)
    assert turn(Notifier(table, (), "", post), pool) == 0
    monkeypatch.undo()
    assert turn(Notifier(table, (), "", post), pool) == 0  # another replica
    table.at += notify.HOLD_S
    assert turn(Notifier(table, (), "", post), pool) == 2
    assert [row.attempts for row in table.rows] == [0, 0]


def test_it_is_given_up_after_some_hours(pool: ThreadPoolExecutor) -> None:
    table = Table([owed(1)])
    notifier = Notifier(table, (), "", Post({"http://a.example/": UndeliveredError("down")}))
    while table.rows[0].next_at is not None:
        table.at = table.rows[0].next_at
        turn(notifier, pool)
    assert table.rows[0].attempts == TRIES
    assert 6 * 3600 < table.at < 24 * 3600


def test_one_forbidden_address_drops_nothing_for_good(pool: ThreadPoolExecutor) -> None:
    table = Table([owed(1), owed(2)])
    notifier = Notifier(table, (), "", Post({"http://a.example/": ForbiddenAddressError("10.0.0.1")}))
    turn(notifier, pool)
    assert all("10.0.0.1" in row.error and row.next_at is not None for row in table.rows)


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
        turn(notifier, pool)
        assert len(receiver.got) == 1  # it is down: the other one waits, too
        receiver.status = 204
        later = Notifier(Later(world.store), [ip_network("127.0.0.0/8")])
        turn(later, pool)
        told = [json.loads(body) for _, _, body in receiver.got[1:]]
        assert [(entry["kind"], entry["sweep_id"]) for entry in told] == [("started", sweep), ("finished", sweep)]
        assert turn(later, pool) == 0
    world.store.close()


class Later:
    """The same store when waits are over."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self.due_deliveries, self.delivered, self.failed = store.due_deliveries, store.delivered, store.failed

    def now(self) -> float:
        return self._store.now() + 2 * FIRST_WAIT_S
