"""What a sweep's folder tells the HTTP interface: its trials, logs, report and best configuration.

Logs and reports are files. What the ledger tells comes from `service/views/reader.py`, a process that is started when
it is first asked, is killed where it takes too long, and ends when it has nothing to do.
"""

from __future__ import annotations

import codecs
import json
import logging
import queue
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from cluster.backend import Backend, JobError
from service.control.sighting import newest_word
from service.errors import TuneyardError
from service.records import SweepRecord
from service.settings import child_environment
from service.sweeps.folders import Sweep, sweeps_folder
from service.tuning.confined import NotOursError, part_in, read_in
from service.tuning.storage_place import Place
from service.tuning.sweep_folder import DRIVER_LOG, TRIAL_LOG

TIMEOUT_S: Final = 60.0
IDLE_S: Final = 120.0
MOST_ASKING: Final = 8  # at a time; each holds one of the service's threads, of which others have need too
_BUSY: Final = "too much is being read just now; try again"
_AWAY: Final = "the storage of sweeps does not answer just now; try again"
MOST_READING: Final = 16  # files at a time, likewise: the folder they are in may hang
READING_WAITS_S: Final = 0.2
MAX_CHUNK_BYTES: Final = 262_144
_LONGEST_CHARACTER: Final = 4  # bytes in UTF-8
_ROOT: Final = Path(__file__).parents[2]
_log: Final = logging.getLogger(__name__)


class ViewError(TuneyardError):
    """A sweep's folder cannot be read just now; the text says why."""


@dataclass(frozen=True, slots=True)
class Chunk:
    """A piece of a log, and the offset in bytes from which to read on."""

    text: str
    next_offset: int
    reaches_end: bool


class Views:
    """Reads the folders of a service's sweeps; safe to use from many threads."""

    def __init__(self, root: Place, backend: Backend | None = None) -> None:
        self._root, self._backend = root, backend
        self._reader = ReaderProcess(root)
        self._reading = threading.BoundedSemaphore(MOST_READING)

    def close(self) -> None:
        """End the reading process."""
        self._reader.close()

    def progress(self, record: SweepRecord) -> dict[str, Any]:
        """The driver's newest word: its own file where there is one and it can be read, else what the store has."""
        with suppress(ViewError), self.reading():
            return newest_word(self._place(record)) or dict(record.progress)
        return dict(record.progress)

    @contextmanager
    def reading(self) -> Iterator[None]:
        """A place among those who read what sweeps have left. ViewError where there is none, or nothing can be read."""
        if not self._reading.acquire(timeout=READING_WAITS_S):
            raise ViewError(_BUSY)
        try:
            yield
        except (FileNotFoundError, NotOursError):
            raise
        except OSError as error:
            _log.warning("what sweeps have left cannot be read: %s", error)
            raise ViewError(_AWAY) from error
        finally:
            self._reading.release()

    def details(self, record: SweepRecord, *, offset: int, limit: int, insight: bool) -> dict[str, Any] | None:
        """Trials and what they teach; None while there is nothing on record. ViewError where it cannot be read."""
        asked = {"what": "details", "offset": offset, "limit": limit, "insight": insight}
        found: dict[str, Any] | None = self._ask(record, asked)
        return found

    def curve(self, record: SweepRecord) -> dict[str, Any] | None:
        """How the best value came about; None while there is nothing on record. ViewError as in `details`."""
        found: dict[str, Any] | None = self._ask(record, {"what": "curve"})
        return found

    def report(self, record: SweepRecord, name: str) -> str | None:
        """A file of the sweep's report: as left at its end, or made now. None while no trial has reported."""
        name = f"report/{name}"
        if record.state.is_over:
            with self.reading(), suppress(FileNotFoundError, NotOursError):
                return read_in(self._place(record), name).decode(errors="replace")  # a job can write anything there
        found: str | None = self._ask(record, {"what": "report", "name": name})
        return found

    def log(self, record: SweepRecord, trial: int | None, *, offset: int, limit: int, is_over: bool) -> Chunk | None:
        """A piece of the driver's log, or of a trial's; None where there is none. A negative `offset` is from the end.

        Pieces end between characters, so that they can be put together again; what a sweep that is not over has
        written of a character waits for the rest of it. Where one is over before its driver began a log, the end of
        what Ray has of it is shown, which no offset counts.
        """
        limit = min(limit, MAX_CHUNK_BYTES)
        name = DRIVER_LOG if trial is None else TRIAL_LOG.format(trial=trial)
        try:
            with self.reading():
                piece = part_in(self._place(record), name, offset, max(_LONGEST_CHARACTER, limit))
            return _chunk(*piece, is_over=is_over)
        except NotOursError:
            return None
        except FileNotFoundError:
            pass
        if trial is not None or self._backend is None or record.attempt == 0 or not is_over:
            return None
        with suppress(JobError):
            found = self._backend.logs(record.id).text.encode()
            return Chunk(found[-limit:].decode(errors="ignore"), max(0, offset), reaches_end=True)
        return None

    def _place(self, record: SweepRecord) -> Place:
        return sweeps_folder(self._root) / record.id

    def _ask(self, record: SweepRecord, request: dict[str, Any]) -> Any:  # noqa: ANN401  # any JSON value
        with self.reading():
            if not Sweep(self._place(record)).has_record():
                return None
        said = self._reader.ask({**request, "sweep_id": record.id})
        if "error" in said:
            msg = f"the record of {record.id} cannot be read: {said['error']}"
            raise ViewError(msg)
        return said.get("answer")


def _chunk(data: bytes, start: int, end: int, *, is_over: bool) -> Chunk:
    reaches_end = start + len(data) >= end
    decoder = codecs.getincrementaldecoder("utf-8")("replace")
    text = decoder.decode(data, final=reaches_end and is_over)
    return Chunk(text, start + len(data) - len(decoder.getstate()[0]), reaches_end)


class ReaderProcess:
    """The process that reads ledgers: one, started when asked, killed when it hangs, ended when idle."""

    def __init__(self, root: Place, timeout_s: float = TIMEOUT_S, idle_s: float = IDLE_S) -> None:
        self._root, self._timeout_s, self._idle_s = root, timeout_s, idle_s
        self._lock, self._places = threading.Lock(), threading.BoundedSemaphore(MOST_ASKING)
        self._process: subprocess.Popen[str] | None = None
        self._lines: queue.SimpleQueue[str] = queue.SimpleQueue()
        self._used_at = 0.0

    def ask(self, request: dict[str, Any]) -> dict[str, Any]:
        """The answer to `request`. ViewError where the process does not give one in time, or is busy for too long."""
        if not self._places.acquire(blocking=False):
            raise ViewError(_BUSY)
        try:
            if not self._lock.acquire(timeout=self._timeout_s):
                raise ViewError(_BUSY)
            try:
                return self._asked(request)
            finally:
                self._lock.release()
        finally:
            self._places.release()

    def close(self) -> None:
        """End the process."""
        with self._lock:
            self._end()

    def _asked(self, request: dict[str, Any]) -> dict[str, Any]:
        process = self._started()
        self._used_at = time.monotonic()
        try:
            if process.stdin is not None:
                process.stdin.write(json.dumps(request) + "\n")
                process.stdin.flush()
            line = self._lines.get(timeout=self._timeout_s)
        except (queue.Empty, OSError):
            line = ""
        if not line:
            self._end()
            msg = "reading the sweep's record took too long, or broke off; try again"
            raise ViewError(msg)
        said: dict[str, Any] = json.loads(line)
        return said

    def _started(self) -> subprocess.Popen[str]:
        if self._process is not None and self._process.poll() is None:
            return self._process
        self._end()
        command = [sys.executable, "-P", "-m", "service.views.reader", str(self._root)]
        environment = child_environment(_ROOT)
        process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment)
        self._process, self._lines = process, queue.SimpleQueue()
        threading.Thread(target=_pump, args=(process, self._lines), daemon=True).start()
        threading.Thread(target=self._end_when_idle, args=(process,), daemon=True).start()
        return process

    def _end_when_idle(self, process: subprocess.Popen[str]) -> None:
        while process.poll() is None:
            time.sleep(min(1.0, self._idle_s))
            with self._lock:
                if self._process is process and time.monotonic() - self._used_at > self._idle_s:
                    self._end()

    def _end(self) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        process.kill()
        process.wait()
        for stream in (process.stdin, process.stdout):
            with suppress(OSError):
                if stream is not None:
                    stream.close()


def _pump(process: subprocess.Popen[str], lines: queue.SimpleQueue[str]) -> None:
    """Hand on what the process says; an empty line once it says no more."""
    with suppress(ValueError, OSError):
        for line in process.stdout or ():
            lines.put(line)
    lines.put("")
