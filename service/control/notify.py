"""Tells webhooks of events: what the store has queued goes out, again and again with longer waits until it is taken."""

from __future__ import annotations

import json
import logging
import random
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Collection, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Final, Protocol

from service.control.notify_send import Network, Parcel, UndeliveredError, send
from service.records import EventRecord, Webhook

log: Final = logging.getLogger(__name__)
PERIOD_S: Final = 1.0
FIRST_WAIT_S: Final = 5.0
LONGEST_WAIT_S: Final = 3600.0
_CHANCE: Final = random.SystemRandom()  # leaves the numbers alone that others have seeded
TRIES: Final = 16  # over some six hours
BATCH: Final = 100
SENDERS: Final = 32  # receivers that may be slow at the same time
HOLD_S: Final = 120.0  # for which what is taken from the store is with one replica alone
BEGIN_S: Final = (
    45.0  # since it was taken: so late at most is anything sent, and a sending takes much less than the rest
)


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

    def due_deliveries(
        self, now: float, limit: int = 100, *, hold_s: float = HOLD_S, beside: Collection[str] = ()
    ) -> Sequence[Delivery]:
        """Those that are due, for nobody else within `hold_s`; none of the webhooks `beside`."""

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
        self._busy: dict[str, Future[int]] = {}  # by webhook

    def run(self, stop: threading.Event) -> None:
        """Send until `stop` is set."""
        with ThreadPoolExecutor(SENDERS, thread_name_prefix="notify") as pool:
            while not stop.is_set():
                try:
                    begun = self.turn(pool)
                except Exception:  # the database may be away: what is due stays due
                    log.exception("webhooks could not be told")
                    begun = []
                if not begun:
                    stop.wait(PERIOD_S)

    def turn(self, pool: ThreadPoolExecutor) -> list[Future[int]]:
        """Begin to send what is due now, each receiver's in the order of events; how many each will have been told.

        Nobody waits for a receiver that is slow: it only gets nothing more before it has what it was owed.
        """
        self._busy = {hook: telling for hook, telling in self._busy.items() if not telling.done()}
        if len(self._busy) >= SENDERS:
            return []
        taken_at = time.monotonic()
        due = self._store.due_deliveries(self._store.now(), BATCH, hold_s=HOLD_S, beside=tuple(self._busy))
        of_receiver: dict[str, list[Delivery]] = defaultdict(list)
        for delivery in sorted(due, key=lambda delivery: delivery.event.number):
            of_receiver[delivery.webhook.id].append(delivery)
        begun = {hook: pool.submit(self._tell_all, owed, taken_at) for hook, owed in of_receiver.items()}
        self._busy.update(begun)
        return list(begun.values())

    def _tell_all(self, deliveries: Sequence[Delivery], taken_at: float) -> int:
        """One receiver's deliveries, and how many it took; after one that fails, it is likely down: so the others wait.

        What cannot be begun in time is left: it is due again once it is nobody's any more.
        """
        for told, delivery in enumerate(deliveries):
            if time.monotonic() - taken_at > BEGIN_S:
                return told
            try:
                self._tell(delivery)
            except UndeliveredError as trouble:
                self._put_off(deliveries[told:], trouble)
                return told
            except Exception:  # the database, say: it is due again later
                log.exception("webhook %s could not be told of event %d", delivery.webhook.id, delivery.event.number)
                return told
        return len(deliveries)

    def _tell(self, delivery: Delivery) -> None:
        event, hook = delivery.event, delivery.webhook
        parcel = Parcel(hook.url, event.kind, f"{hook.id}-{event.number}", self._body(event), hook.secret)
        self._sender(parcel, self._store.now(), self._allowed)
        self._store.delivered(event.number, hook.id)

    def _put_off(self, waiting: Sequence[Delivery], error: UndeliveredError) -> None:
        """Try again later: those that failed as often together, so that they are told in their order then."""
        now, chance = self._store.now(), _CHANCE.random()  # spreads retries
        for delivery in waiting:
            event, hook = delivery.event, delivery.webhook
            is_given_up = delivery.attempts + 1 >= TRIES  # a forbidden address, too, may be one wrong answer of the DNS
            next_at = None if is_given_up else now + wait_s(delivery.attempts + 1, chance)
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
