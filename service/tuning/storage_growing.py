"""A file that grows on this machine and is seen by others in an object store, which knows no appending."""

from __future__ import annotations

import contextlib
import logging
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Final

from service.tuning.patience import patiently

if TYPE_CHECKING:
    from service.tuning.storage import Storage

log: Final = logging.getLogger(__name__)
SEEN_AFTER_S: Final = 10.0
BYTES_PER_S: Final = 250_000  # that a large file may cost, as it is sent whole each time


@contextlib.contextmanager
def growing_copy(storage: Storage, name: str) -> Iterator[Path]:
    """A local file that begins with what is stored under `name`, and is stored there while it grows and at the end.

    What a process that is killed wrote last is lost with it.
    """
    with tempfile.TemporaryDirectory(prefix="tuneyard-") as scratch:
        path = Path(scratch) / name.rpartition("/")[2]
        with contextlib.suppress(FileNotFoundError):
            patiently(lambda: storage.fetch(name, Path(scratch)), f"reading {name}")
        path.touch()
        over = threading.Event()
        sender = _Sender(storage, name, path)
        thread = threading.Thread(target=sender.run, args=(over,), name="growing", daemon=True)
        thread.start()
        try:
            yield path
        finally:
            over.set()
            thread.join()
            sender.send()


class _Sender:
    def __init__(self, storage: Storage, name: str, path: Path) -> None:
        self._storage, self._name, self._path = storage, name, path
        self._sent_bytes = path.stat().st_size

    def run(self, over: threading.Event) -> None:
        """Send what is new, rarely where it is much."""
        while not over.wait(max(SEEN_AFTER_S, self._sent_bytes / BYTES_PER_S)):
            self.send()

    def send(self) -> None:
        """Send it if it has grown; a store that is away costs what nobody has seen yet, and nothing else."""
        try:
            if self._path.stat().st_size != self._sent_bytes:
                data = self._path.read_bytes()
                self._storage.replace(self._name, data)
                self._sent_bytes = len(data)
        except OSError as error:
            log.warning("%s cannot be stored: %s", self._name, error)
