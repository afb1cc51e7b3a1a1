"""What a node does that is about to be taken away: its trials save a checkpoint, a driver on it closes its record.

`python -P -m service.tuning.leaving --within 75` is for a hook that runs before the node's processes are ended, such as
`preStop` on Kubernetes. It ends as soon as nothing is left to save. Workers, drivers and the hook meet in a folder of
the node's temporary one: only who has left a mark there is told or waited for.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import signal
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import psutil

_POLL_S: Final = 0.2
_TRIES: Final = 3
_DELIVERY_S: Final = 2.0  # for the last reports to reach a driver on another node


def is_leaving() -> bool:
    """Whether this node is about to go, so that trials save with their next report."""
    return (_folder() / "leaving").exists()


@contextlib.contextmanager
def unsaved() -> Iterator[None]:
    """While this process trains, the node waits for it; until it calls `saved`."""
    with _marked(_mark("fit")):
        yield


@contextlib.contextmanager
def driving() -> Iterator[None]:
    """While this process drives a sweep, a node that is leaving sends it SIGTERM and waits for its end."""
    with _marked(_mark("driver")):
        yield


def saved() -> None:
    """What this process trains has been saved: a node that is leaving need not wait for it any more."""
    if is_leaving():
        with contextlib.suppress(OSError):
            _mark("fit").unlink(missing_ok=True)


def leave(within_s: float) -> bool:
    """Have trials of this node save, and its drivers pause; whether all have done so within `within_s` seconds."""
    deadline = time.monotonic() + within_s
    folder = _folder()
    folder.mkdir(mode=0o700, exist_ok=True)
    (folder / "leaving").touch()
    for mark in folder.glob("driver-*"):
        with contextlib.suppress(ProcessLookupError):
            os.kill(_pid(mark), signal.SIGTERM)
    has_waited = False
    while any(_is_at_work(mark) for kind in ("driver", "fit") for mark in folder.glob(f"{kind}-*")):
        if time.monotonic() > deadline:
            return False
        has_waited = True
        time.sleep(_POLL_S)
    time.sleep(_DELIVERY_S if has_waited else 0)
    return True


def _folder() -> Path:
    return Path(tempfile.gettempdir()) / f"tuneyard-node-{os.getuid()}"


def _mark(kind: str) -> Path:
    return _folder() / f"{kind}-{os.getpid()}"


@contextlib.contextmanager
def _marked(mark: Path) -> Iterator[None]:
    with contextlib.suppress(OSError):  # then nobody waits for it: it goes on from its last checkpoint elsewhere
        _make(mark)
    try:
        yield
    finally:
        with contextlib.suppress(OSError):
            mark.unlink(missing_ok=True)
            _tidy(mark.parent)


def _make(mark: Path) -> None:
    for _ in range(_TRIES):
        mark.parent.mkdir(mode=0o700, exist_ok=True)
        with contextlib.suppress(FileNotFoundError):  # whoever was the last there has just removed the folder
            mark.touch()
            return


def _tidy(folder: Path) -> None:
    """Remove the marks of processes that were killed, and the folder once nothing is left in it. OSError if not."""
    for kind in ("driver", "fit"):
        for mark in folder.glob(f"{kind}-*"):
            if not _is_at_work(mark):
                mark.unlink(missing_ok=True)
    folder.rmdir()


def _pid(mark: Path) -> int:
    return int(mark.name.rpartition("-")[2])


def _is_at_work(mark: Path) -> bool:
    """Whether the process of a mark is there; one that was killed has left its mark behind."""
    return psutil.pid_exists(_pid(mark))


def main(argv: list[str] | None = None) -> int:
    """Leave; exit code 1 where time was too short."""
    parser = argparse.ArgumentParser(prog="python -m service.tuning.leaving", description=__doc__)
    parser.add_argument("--within", type=float, default=60.0, metavar="SECONDS", help="how long to wait [60]")
    return 0 if leave(parser.parse_args(argv).within) else 1


if __name__ == "__main__":
    sys.exit(main())
