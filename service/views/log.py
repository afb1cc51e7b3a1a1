"""Reads a log as it grows, for `tuneyard logs`."""

from __future__ import annotations

import codecs
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

POLL_S: Final = 0.5
_CHUNK: Final = 2**16


def grown(path: Path, is_over: Callable[[], bool]) -> Iterator[str]:
    """The text of a file that another process writes, piece by piece, until `is_over` and all was read.

    It may not be there yet.
    """
    decoder, offset = codecs.getincrementaldecoder("utf-8")("replace"), 0
    while True:
        was_over = is_over()  # before reading, so that its last words are not missed
        while data := _read(path, offset):
            offset += len(data)
            yield decoder.decode(data)
        if was_over:
            return
        time.sleep(POLL_S)


def _read(path: Path, offset: int) -> bytes:
    try:
        with path.open("rb") as stream:
            stream.seek(offset)
            return stream.read(_CHUNK)
    except FileNotFoundError:
        return b""
