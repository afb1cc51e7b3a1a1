"""Tells webhooks of events: what the store has queued goes out, again and again with longer waits until it is taken."""

from __future__ import annotations

import json
import logging
import random
import threading
from collections import defaultdict
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Final, Protocol

from service.notify_send import ForbiddenAddressError, Network, Parcel, UndeliveredError, send
from service.records import EventRecord, Webhook

log: Final = logging.getLogger(__name__)
PERIOD_S: Final = 1.0
FIRST_WAIT_S: Final = 5.0
LONGEST_WAIT_S: Final = 3600.0
TRIES: Final = 16  # over some six hours
BATCH: Final = 100
SENDERS: Final = 8  # receivers that may be slow at the same time


class Delivery(Protocol):
    """An event that a webhook has not been told yet; `attempts` counts those that failed."""

    @property
    def event(self) -> EventRecord:
        """What happened."""

    @property
    def webhook(self) -> Webhook:
        """Who is to be told."""

    @property
    def attempts(self) -> int:
        """How often it failed so far."""


class Deliveries(Protocol):
    """The part of the store that deliveries live in."""

    def now(self) -> float:
        """The database's clock."""

    def due_deliveries(self, now: float, limit: int = 100) -> Sequence[Delivery]:
        """Those that are due, each for one caller at a time."""

    def delivered(self, event_number: int, webhook_id: str) -> None:
        """It was taken."""

    def failed(self, event_number: int, webhook_id: str, error: str, next_at: float | None) -> None:
        """It was not; None for never again."""


Sender = Callable[[Parcel, float, Sequence[Network]], None]


class Notifier:
    """Sends what is due. Several replicas may run one each: a delivery is only ever with one of them."""

    def __init__(
        self, store: Deliveries, allowed: Sequence[Network] = (), public_url: str = "", sender: Sender = send
    ) -> None:
        self._store, self._allowed, self._public_url, self._sender = store, tuple(allowed), public_url, sender

    def run(self, stop: threading.Event) -> None:
        """Send until `stop` is set."""
        with ThreadPoolExecutor(SENDERS, thread_name_prefix="notify") as pool:
            while not stop.is_set():
                try:
                    sent = self.turn(pool)
                except Exception:  # the database may be away: what is due stays due
                    log.exception("webhooks could not be told")
                    sent = 0
                if not sent:
                    stop.wait(PERIOD_S)

    def turn(self, pool: ThreadPoolExecutor) -> int:
        """Send what is due now, each receiver's in the order of events; how many there were."""
        due = self._store.due_deliveries(self._store.now(), BATCH)
        of_receiver: dict[str, list[Delivery]] = defaultdict(list)
        for delivery in sorted(due, key=lambda delivery: delivery.event.number):
            of_receiver[delivery.webhook.id].append(delivery)
        list(pool.map(self._tell_all, of_receiver.values()))
        return len(due)

    def _tell_all(self, deliveries: Sequence[Delivery]) -> None:
        """One receiver's deliveries; after one that fails, the others are put off, too: it is likely down."""
        trouble: UndeliveredError | None = None
        for delivery in deliveries:
            if trouble is None:
                trouble = self._tell(delivery)
            else:
                self._put_off(delivery, trouble)

    def _tell(self, delivery: Delivery) -> UndeliveredError | None:
        event, hook = delivery.event, delivery.webhook
        parcel = Parcel(hook.url, event.kind, f"{hook.id}-{event.number}", self._body(event), hook.secret)
        try:
            self._sender(parcel, self._store.now(), self._allowed)
        except UndeliveredError as error:
            self._put_off(delivery, error)
            return error
        self._store.delivered(event.number, hook.id)
        return None

    def _put_off(self, delivery: Delivery, error: UndeliveredError) -> None:
        event, hook = delivery.event, delivery.webhook
        is_hopeless = isinstance(error, ForbiddenAddressError) or delivery.attempts + 1 >= TRIES
        next_at = None if is_hopeless else self._store.now() + wait_s(delivery.attempts + 1, random.random())  # noqa: S311  # spreads retries
        log.warning("webhook %s was not told of event %d: %s", hook.id, event.number, error)
        self._store.failed(event.number, hook.id, str(error), next_at)

    def _body(self, event: EventRecord) -> bytes:
        link = {"url": f"{self._public_url}/api/v1/sweeps/{event.sweep_id}"} if self._public_url else {}
        told = {
            "event": event.number,
            "kind": event.kind,
            "at": event.at,
            "sweep_id": event.sweep_id,
            "project": event.project,
            "data": dict(event.data),
            **link,
        }
        return json.dumps(told, sort_keys=True).encode()


def wait_s(failures: int, chance: float) -> float:
    """How long to wait after the `failures`-th failure in a row; `chance` in [0, 1) spreads it by a fifth."""
    longest = min(LONGEST_WAIT_S, FIRST_WAIT_S * 2.0 ** (failures - 1))
    return float(longest) * (0.9 + 0.2 * chance)
