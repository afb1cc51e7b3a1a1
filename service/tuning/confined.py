"""Reads files of a folder that others write to, such as a sweep's own job, without being led anywhere else.

A name in such a folder may be a link to any file of the machine, a pipe that never ends, or larger than memory. In an
object store there are no links, but there may be as much.
"""

from __future__ import annotations

import errno
import json
import os
import stat
from pathlib import Path
from typing import Any, BinaryIO, Final

from service.tuning.storage import FolderStorage, Storage
from service.tuning.storage_objects import ObjectStorage
from service.tuning.storage_place import Place

LARGEST_BYTES: Final = 64 * 2**20
MOST_SAID: Final = 2**20  # of a file by which one process tells others how it stands
_FLAGS: Final = os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK  # to open a pipe must not wait
_REFUSALS: Final = (errno.ELOOP, errno.ENOTDIR, errno.ENXIO, errno.EMLINK)


class NotOursError(OSError):
    """A name leads out of the folder, or to what is no plain file, or to too much; the text names no other path."""


def open_in(folder: Path, name: str) -> BinaryIO:
    """The plain file `name` (relative, with `/`) of `folder`, no part of which below `folder` is a link.

    FileNotFoundError where there is none; NotOursError where it is anything else.
    """
    *parents, last = _steps(name)
    place = _opened(str(folder), os.O_RDONLY | os.O_CLOEXEC | os.O_DIRECTORY, None, name)
    try:
        for step in parents:
            below = _opened(step, _FLAGS | os.O_DIRECTORY, place, name)
            os.close(place)
            place = below
        found = _opened(last, _FLAGS, place, name)
    finally:
        os.close(place)
    if not stat.S_ISREG(os.fstat(found).st_mode):
        os.close(found)
        raise _refused(name, "is no plain file")
    return os.fdopen(found, "rb")


def read_in(place: Place, name: str, limit: int = LARGEST_BYTES) -> bytes:
    """The content of `open_in(place, name)`, or of an object. NotOursError where it is more than `limit` bytes."""
    if isinstance(place, ObjectStorage):
        return _object_in(place, name, limit)
    with open_in(place, name) as stream:
        data = stream.read(limit + 1)
    if len(data) > limit:
        raise _refused(name, f"is larger than {limit:,} bytes")
    return data


def part_in(place: Place, name: str, offset: int, limit: int) -> tuple[bytes, int, int]:
    """(up to `limit` bytes from `offset`, where they begin, size of all); a negative `offset` is from the end.

    Errors as `open_in`.
    """
    if isinstance(place, ObjectStorage):
        return place.part("/".join(_steps(name)), offset, limit)
    with open_in(place, name) as stream:
        size = stream.seek(0, os.SEEK_END)
        start = max(0, size + offset) if offset < 0 else min(offset, size)
        stream.seek(start)
        return stream.read(limit), start, size


def read_object_in(place: Place, name: str) -> dict[str, Any]:
    """The JSON object in a small file, `MOST_SAID` bytes at most; errors as `read_in`, ValueError where it is none."""
    try:
        found = json.loads(read_in(place, name, MOST_SAID))
    except (ValueError, RecursionError) as error:
        msg = f"{name} holds no JSON that can be read ({type(error).__name__})"
        raise ValueError(msg) from error
    if not isinstance(found, dict):
        msg = f"{name} holds no JSON object"
        raise ValueError(msg)  # noqa: TRY004  # of what the file holds
    return found


class ConfinedStorage(FolderStorage):
    """A sweep's storage for a reader that does not trust it: what it reads lies in the folder, and is no link."""

    def read(self, name: str) -> bytes:
        """The content of a file; errors as `read_in`."""
        return read_in(self.root, name)


def confined(place: Place) -> Storage:
    """The storage in `place` for a reader that does not trust it."""
    return ConfinedStorage(place) if isinstance(place, Path) else place


def _object_in(place: ObjectStorage, name: str, limit: int) -> bytes:
    try:
        return place.read("/".join(_steps(name)), limit)
    except OSError as error:
        if error.errno == errno.EFBIG:
            raise _refused(name, f"is larger than {limit:,} bytes") from error
        raise


def _steps(name: str) -> list[str]:
    steps = name.split("/")
    if any(step in ("", ".", "..") or "\0" in step for step in steps):
        raise _refused(name, "is no name inside a sweep's folder")
    return steps


def _opened(step: str, flags: int, place: int | None, name: str) -> int:
    try:
        return os.open(step, flags, dir_fd=place)
    except FileNotFoundError:
        raise FileNotFoundError(errno.ENOENT, "there is no such file", name) from None
    except OSError as error:
        if error.errno in _REFUSALS:
            raise _refused(name, "is a link, or no plain file") from error
        raise


def _refused(name: str, why: str) -> NotOursError:
    return NotOursError(errno.EPERM, f"it {why}", name)
