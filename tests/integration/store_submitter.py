"""A process that submits sweeps until it is killed, and says which ones it was told are there: `URL NUMBER`."""

from __future__ import annotations

import sys
import threading

from service.queueing import lifecycle
from service.records import NewSweep
from service.store import Store
from service.sweeps.folders import new_id

THREADS = 8
_saying = threading.Lock()


def main() -> None:
    """Submit from several threads; every line is an acknowledgement: a key, its sweep, and whether it was paused."""
    url, number = sys.argv[1:]
    store = Store.open(url)
    for thread in range(THREADS):
        threading.Thread(target=submit, args=(store, f"{number}-{thread}")).start()


def submit(store: Store, who: str) -> None:
    for count in range(10**6):
        key = f"{who}-{count}"
        new = NewSweep(new_id("killed"), "default", "ann", "killed", {"budget": {"max_trials": 1}})
        record, _ = store.create_sweep(new, key=key, body_digest=key)
        say(f"{key} {record.id} queued")
        store.act(record.id, None, lifecycle.Pause(), by="ann")
        say(f"{key} {record.id} paused")


def say(line: str) -> None:
    with _saying:
        sys.stdout.write(line + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
