"""Keeps what a trial prints in the trial's own file: whatever the user's code, Lightning or a C library writes.

File descriptors 1 and 2 are redirected, so a crash in native code leaves its last words, too.
"""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Final, TextIO

MAX_LOG_BYTES: Final = 10_000_000
_STANDARD: Final = (1, 2)


class LogFile:
    """An attempt's log while it is written; `keep_under_cap` is cheap enough for every batch."""

    def __init__(self, stream: TextIO, max_bytes: int) -> None:
        self._stream = stream
        self._max_bytes = max_bytes
        self._is_full = False

    def keep_under_cap(self) -> None:
        """Once the file has reached its cap, drop everything that follows, and say so in it."""
        if self._is_full or os.fstat(self._stream.fileno()).st_size < self._max_bytes:
            return
        self._is_full = True
        self._stream.flush()
        os.ftruncate(self._stream.fileno(), self._max_bytes)
        self._stream.write(f"\n--- the log has reached {self._max_bytes:,} bytes: what follows is dropped\n")
        self._stream.flush()
        drop = os.open(os.devnull, os.O_WRONLY)
        for number in (self._stream.fileno(), *_STANDARD):
            os.dup2(drop, number)
        os.close(drop)


@contextlib.contextmanager
def captured_output(path: Path, title: str, max_bytes: int = MAX_LOG_BYTES) -> Iterator[LogFile]:
    """Append everything this process prints to `path`, under a line with `title`, until the block ends."""
    with path.open("a", encoding="utf-8", errors="replace", buffering=1) as stream:
        stream.write(f"--- {title}\n")
        with _descriptors(stream), contextlib.redirect_stdout(stream), contextlib.redirect_stderr(stream):
            log = LogFile(stream, max_bytes)
            log.keep_under_cap()
            yield log


@contextlib.contextmanager
def _descriptors(stream: TextIO) -> Iterator[None]:
    _flush()
    kept = [os.dup(number) for number in _STANDARD]
    try:
        for number in _STANDARD:
            os.dup2(stream.fileno(), number)
        yield
    finally:
        _flush()
        for number, original in zip(_STANDARD, kept, strict=True):
            os.dup2(original, number)
            os.close(original)


def _flush() -> None:
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(ValueError, OSError):  # a stream that someone has closed has nothing to flush
            stream.flush()
