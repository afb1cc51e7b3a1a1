"""Makes a process end itself with kill -9 at one exact durable write or request, as a plan in a file asks for it.

The plan is a queue: each process takes the first point that is meant for its kind, so that restarted ones go on with
the next. Imported by every Python process of an arena (see `inject/sitecustomize.py`), so it imports next to nothing.
"""

from __future__ import annotations

import fcntl
import http.client
import json
import os
import signal
import sqlite3
import sqlite3.dbapi2
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

VARIABLE: Final = "CHAOS_CRASH"
DURABLE: Final = ("fsync", "link", "unlink", "replace")
_MARKS: Final = {"service.tuning.driver": "driver", "service.tuning.tracking": "tracker"}
_WORKER: Final = "default_worker.py"


def arm() -> None:
    """Take the next point for this process, if there is one, and lie in wait for it.

    Ray starts more workers than ever train, so these take a point only where they make its call.
    """
    if _kind() == "worker":
        for call in DURABLE:
            setattr(os, call, _around_shared(call, getattr(os, call)))
        return
    point = _take(Path(os.environ[VARIABLE]), _kind())
    if point is not None:
        _lie_in_wait(point["call"], int(point["nth"]), point["when"])


def left(path: Path) -> list[dict[str, Any]]:
    """The points that no process has taken yet."""
    points: list[dict[str, Any]] = json.loads(path.read_text())
    return points


def _kind() -> str:
    arguments = sys.orig_argv
    if any(argument.endswith(_WORKER) for argument in arguments):
        return "worker"
    return next((kind for mark, kind in _MARKS.items() if mark in arguments), "")


def _take(path: Path, kind: str) -> dict[str, Any] | None:
    if not kind:
        return None
    with path.open("r+") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        points: list[dict[str, Any]] = json.load(file)
        mine = next((point for point in points if point["process"] == kind), None)
        if mine is not None:
            points.remove(mine)
            file.seek(0)
            file.truncate()
            json.dump(points, file)
        return mine


def hits(path: Path) -> int:
    """How many processes have died at their point."""
    found = path.with_suffix(".hits")
    return len(found.read_text().splitlines()) if found.exists() else 0


def _die(call: str) -> None:
    with Path(os.environ[VARIABLE]).with_suffix(".hits").open("a") as file:
        file.write(call + "\n")
    os.kill(os.getpid(), signal.SIGKILL)


def _around_shared(call: str, original: Callable[..., Any]) -> Callable[..., Any]:
    def wrapped(*args: Any, **kwargs: Any) -> Any:  # noqa: ANN401  # stands for any function
        when = _count_down(Path(os.environ[VARIABLE]), call)
        if when == "before":
            _die(call)
        result = original(*args, **kwargs)
        if when == "after":
            _die(call)
        return result

    return wrapped


def _count_down(path: Path, call: str) -> str:
    """Count a call of some worker; "before" or "after" where it is the one to die at."""
    with path.open("r+") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        points: list[dict[str, Any]] = json.load(file)
        mine = next((p for p in points if p["process"] == "worker" and p["call"] == call), None)
        if mine is None:
            return ""
        mine["nth"] -= 1
        if mine["nth"] == 0:
            points.remove(mine)
        file.seek(0)
        file.truncate()
        json.dump(points, file)
        return str(mine["when"]) if mine["nth"] == 0 else ""


def _lie_in_wait(call: str, nth: int, when: str) -> None:
    count = 0

    def around(original: Callable[..., Any]) -> Callable[..., Any]:
        def wrapped(*args: Any, **kwargs: Any) -> Any:  # noqa: ANN401  # stands for any function
            nonlocal count
            count += 1
            is_here = count == nth
            if is_here and when == "before":
                _die(call)
            result = original(*args, **kwargs)
            if is_here:
                _die(call)
            return result

        return wrapped

    if call == "send":
        http.client.HTTPConnection.endheaders = around(http.client.HTTPConnection.endheaders)  # type: ignore[method-assign]  # on purpose
    elif call == "receive":
        http.client.HTTPConnection.getresponse = around(http.client.HTTPConnection.getresponse)  # type: ignore[method-assign]  # on purpose
    elif call == "commit":
        _wrap_commits(around)
    else:
        setattr(os, call, around(getattr(os, call)))


def _wrap_commits(around: Callable[[Callable[..., Any]], Callable[..., Any]]) -> None:
    class Connection(sqlite3.Connection):
        commit = around(sqlite3.Connection.commit)

    connect: Callable[..., Any] = sqlite3.connect

    def connect_watched(*args: Any, **kwargs: Any) -> Any:  # noqa: ANN401  # stands for sqlite3.connect
        return connect(*args, **{"factory": Connection, **kwargs})

    for module in (sqlite3, sqlite3.dbapi2):
        setattr(module, "connect", connect_watched)  # noqa: B010  # two modules with the same function
