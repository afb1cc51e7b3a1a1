"""One database, of two kinds: how transactions run, and which errors they end with.

On SQLite one thread writes. What other threads want written meanwhile joins its next transaction, where none suffers
from another one's failure, and nobody hears of success before that transaction is on the disk: one flush serves all. On
PostgreSQL every write is a transaction of its own.
"""

from __future__ import annotations

import contextlib
import os
import queue
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from pathlib import Path
from typing import Any, Final, TypeVar

import sqlalchemy as sa
from sqlalchemy import event
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.exc import DataError, DBAPIError, OperationalError, SQLAlchemyError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError

from service.errors import TuneyardError

Answer = TypeVar("Answer")
Work = Callable[[sa.Connection], Answer]
_Wanted = tuple[Work[Any], "Future[Any]"]
_Outcome = tuple[Any, BaseException | None]
BUSY_S: Final = 30.0  # for another process that writes the same SQLite file
MOST_AT_ONCE: Final = 256  # writes in one transaction
READERS: Final = 8
# A database that hangs, or is gone without a word, must not take every thread of the service with it.
_PATIENCE: Final = {
    "connect_timeout": 10,
    "keepalives": 1,
    "keepalives_idle": 30,
    "keepalives_interval": 10,
    "keepalives_count": 3,
    "tcp_user_timeout": 30_000,  # ms
}
_LIMITS: Final = {"statement_timeout": "30s", "lock_timeout": "10s", "idle_in_transaction_session_timeout": "10s"}
_POOL_S: Final = 10.0  # for a connection that is free
_RETRIES: Final = 5  # of a transaction that PostgreSQL gave up in favour of another one
_making = threading.Lock()
_AGAIN: Final = ("40001", "40P01", "23505")  # serialization failure, deadlock, somebody else took the same key


class StoreError(TuneyardError):
    """The database refused; nothing was written."""


class StoreUnavailableError(StoreError):
    """The database cannot be reached, or is too busy; the same may work later."""


class UncertainWriteError(StoreUnavailableError):
    """The connection broke while a change was made durable: it may be there, or not."""


class UnstorableError(StoreError):
    """A text or a number that no database keeps, such as a NUL character: the fault is the asker's."""


class Database:
    """Connections and transactions; every method may be called by every thread."""

    def __init__(self, url: str) -> None:
        self.url = _parsed(url)
        self.is_sqlite = self.url.get_backend_name() == "sqlite"
        engine = _engine(self.url, size=READERS)
        # What is read belongs together: one moment's state, not what each statement finds.
        self._reading = engine if self.is_sqlite else engine.execution_options(isolation_level="REPEATABLE READ")
        self._writing = _engine(self.url, size=1) if self.is_sqlite else engine
        self._wanted: queue.SimpleQueue[_Wanted | None] = queue.SimpleQueue()
        self._lock, self._is_closed = threading.Lock(), False
        self._writer: threading.Thread | None = None
        self._inserts: dict[str, sa.Executable] = {}

    def make_file(self) -> None:
        """Make a SQLite database's file where there is none: it holds secrets, so it is its owner's alone.

        The files that SQLite puts beside it take after it. StoreError where it cannot be made.
        """
        if not self.is_sqlite:
            return
        path = Path(self.url.database or "")
        try:
            path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            with _making, contextlib.suppress(FileExistsError):  # to close it ends the locks of whoever uses it here
                os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o600))
        except OSError as error:
            msg = f"the database {path} cannot be made: {error.strerror}"
            raise StoreError(msg) from error

    def close(self) -> None:
        """Finish what was begun, and let go of the database."""
        with self._lock:
            if self._is_closed:
                return
            self._is_closed = True
        if self._writer is not None:
            self._wanted.put(None)
            self._writer.join()
        self._reading.dispose()
        self._writing.dispose()

    def insert(self, table: sa.Table) -> sqlite.Insert | postgresql.Insert:
        """An insert that knows what to do about conflicts."""
        return sqlite.insert(table) if self.is_sqlite else postgresql.insert(table)

    def insert_new(self, connection: sa.Connection, table: sa.Table, row: Mapping[str, Any]) -> bool:
        """Whether there was no row of the same key, and is one now."""
        if table.name not in self._inserts:
            first = next(iter(table.primary_key))
            self._inserts[table.name] = self.insert(table).on_conflict_do_nothing().returning(first)
        return connection.execute(self._inserts[table.name], dict(row)).first() is not None

    def read(self, work: Work[Answer]) -> Answer:
        """What `work` finds in one snapshot of the database."""
        self._check_open()
        with plain_errors(), self._reading.connect() as connection:
            return work(connection)

    def write(self, work: Work[Answer]) -> Answer:
        """What `work` returns, once its changes are durable; an error of its own undoes them, alone."""
        if not self.is_sqlite:
            self._check_open()
            return self._write_alone(work)
        answer: Future[Answer] = Future()
        with self._lock:
            self._check_open()
            if self._writer is None:
                self._writer = threading.Thread(target=self._write_all, name="store", daemon=True)
                self._writer.start()
            self._wanted.put((work, answer))
        with plain_errors():
            return answer.result()

    @contextlib.contextmanager
    def exclusive(self) -> Iterator[sa.Connection]:
        """A transaction that no other one of this kind, of any process, runs beside."""
        with plain_errors(), self._writing.begin() as connection:
            if not self.is_sqlite:
                for limit in _LIMITS:  # a migration may take as long as it takes, and wait for another one's end
                    connection.execute(sa.text(f"SET LOCAL {limit} = 0"))
                connection.execute(sa.text("SELECT pg_advisory_xact_lock(7083551)"))
            yield connection

    def now(self, connection: sa.Connection) -> float:
        """The database's clock: with SQLite, that of the one machine it is on."""
        if self.is_sqlite:
            return time.time()
        return float(connection.scalar(sa.text("SELECT extract(epoch FROM clock_timestamp())::float8")) or 0.0)

    def in_order(self, connection: sa.Connection, what: int) -> None:
        """From here to the end of the transaction no other one numbers rows of this kind.

        PostgreSQL gives numbers out before transactions end: a reader that goes on from the highest one that it saw
        would miss a lower one that came to light later.
        """
        if not self.is_sqlite:
            connection.execute(sa.text("SELECT pg_advisory_xact_lock(7083552, :what)"), {"what": what})

    def _check_open(self) -> None:
        if self._is_closed:
            msg = "the store is closed"
            raise StoreUnavailableError(msg)

    def _write_alone(self, work: Work[Answer]) -> Answer:
        with plain_errors():
            for left in reversed(range(_RETRIES)):
                is_committing = False
                try:
                    with self._writing.begin() as connection:
                        answer = work(connection)
                        is_committing = True
                    return answer  # noqa: TRY300  # once it is durable, and not before
                except DBAPIError as error:
                    is_undone = getattr(error.orig, "sqlstate", None) in _AGAIN
                    if is_committing and not is_undone:
                        msg = f"the database broke off while it was written: {error.orig}"
                        raise UncertainWriteError(msg) from error
                    if not left or not is_undone:
                        raise
        raise AssertionError  # the last try returns or raises

    def _write_all(self) -> None:
        while (batch := self._next_batch()) is not None:
            self._write_batch(batch)

    def _next_batch(self) -> list[_Wanted] | None:
        """What has gathered while the transaction before ran, or else the next thing to come; None at the end."""
        first = self._wanted.get()
        if first is None:
            return None
        batch = [first]
        with contextlib.suppress(queue.Empty):
            while len(batch) < MOST_AT_ONCE:
                following = self._wanted.get_nowait()
                if following is None:
                    self._wanted.put(None)  # nothing comes after it
                    break
                batch.append(following)
        return batch

    def _write_batch(self, batch: list[_Wanted]) -> None:
        answers: list[_Outcome] = []
        try:
            with self._writing.begin() as connection:
                answers = _outcomes(connection, [work for work, _ in batch])
        except BaseException as error:  # noqa: BLE001  # every waiting thread has to hear of it
            answers = [(None, error)] * len(batch)
        for (_, future), (answer, failure) in zip(batch, answers, strict=True):
            if failure is None:
                future.set_result(answer)
            else:
                future.set_exception(failure)


def _outcomes(connection: sa.Connection, works: Sequence[Work[Any]]) -> list[_Outcome]:
    """What each returns, or why its changes, and no others, are undone.

    They share a savepoint, which costs as much as a statement; where one of them fails, each is tried in its own.
    """
    try:
        with connection.begin_nested():
            return [(work(connection), None) for work in works]
    except OperationalError:
        raise  # a full disk, say: the whole transaction is spoilt
    except Exception as error:  # noqa: BLE001  # its own fault, of which the others must not suffer
        if len(works) == 1:
            return [(None, error)]
        return [outcome for work in works for outcome in _outcomes(connection, [work])]


@contextlib.contextmanager
def plain_errors() -> Iterator[None]:
    """Errors of the database as ours."""
    try:
        yield
    except (DataError, OverflowError, UnicodeError) as error:
        cause = error.orig if isinstance(error, DataError) else error
        msg = f"the database cannot keep what was given: {cause}"
        raise UnstorableError(msg) from error
    except (DBAPIError, PoolTimeoutError) as error:
        msg = f"the database does not answer as it should: {getattr(error, 'orig', error)}"
        raise StoreUnavailableError(msg) from error
    except SQLAlchemyError as error:
        if isinstance(error.__cause__, UnicodeError | OverflowError):
            msg = f"the database cannot keep what was given: {error.__cause__}"
            raise UnstorableError(msg) from error
        msg = f"the database refused: {error}"
        raise StoreError(msg) from error


def _parsed(url: str) -> sa.URL:
    try:
        parsed = sa.make_url(url)
        kind, place = parsed.get_backend_name(), parsed.database or ""
    except SQLAlchemyError:
        kind, place = "", ""
    if kind == "sqlite" and place and not place.startswith((":", "file:")):
        return parsed
    if kind == "postgresql":
        return parsed.set(drivername="postgresql+psycopg")
    msg = "the database has to be sqlite:///PATH or postgresql://USER:PASSWORD@HOST:PORT/NAME"
    raise StoreError(msg)


def _limited(url: sa.URL) -> dict[str, Any]:
    """What to connect to PostgreSQL with; what the operator says of it in the URL counts more."""
    given = url.query.get("options", "")
    own = given if isinstance(given, str) else " ".join(given)
    limits = " ".join(f"-c {name}={value}" for name, value in _LIMITS.items())
    patience = {name: value for name, value in _PATIENCE.items() if name not in url.query}
    return {**patience, "options": f"{limits} {own}".strip()}


def _engine(url: sa.URL, size: int) -> sa.Engine:
    if url.get_backend_name() != "sqlite":
        return sa.create_engine(
            url, pool_size=READERS, max_overflow=READERS, pool_timeout=_POOL_S, pool_pre_ping=True,
            connect_args=_limited(url), hide_parameters=True,
        )  # fmt: skip
    arguments = {"check_same_thread": False, "timeout": BUSY_S, "isolation_level": None}
    engine = sa.create_engine(
        url, poolclass=sa.QueuePool, pool_size=size, max_overflow=0, connect_args=arguments, hide_parameters=True
    )
    begin = "BEGIN IMMEDIATE" if size == 1 else "BEGIN"

    @event.listens_for(engine, "connect")
    def connected(connection: Any, _record: object) -> None:  # noqa: ANN401  # the driver's own connection
        connection.execute("PRAGMA synchronous=FULL")
        if size == 1:
            connection.execute("PRAGMA journal_mode=WAL")

    @event.listens_for(engine, "begin")
    def begun(connection: sa.Connection) -> None:
        connection.exec_driver_sql(begin)

    return engine
