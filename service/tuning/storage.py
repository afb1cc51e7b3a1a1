"""Where a sweep's files live: the few operations that a folder and an object store both have, and nothing more.

Every write is whole or absent: a reader never sees half a file, and what a call has written survives a power cut.
"""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import uuid
from pathlib import Path
from typing import Final, Protocol

_PROBE: Final = "probe"
TROUBLE: Final = frozenset(  # what storage that is full or away says, on a local disk or a network file system
    {errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EROFS, errno.ESTALE, errno.EAGAIN, errno.ETIMEDOUT, errno.ENODEV,
     errno.ENOTCONN, errno.EHOSTDOWN, errno.EHOSTUNREACH, errno.ENXIO, errno.ENETDOWN, errno.ENETUNREACH}
)  # fmt: skip


class Storage(Protocol):
    """A flat space of named files; names use `/` and are relative."""

    def create(self, name: str, data: bytes) -> None:
        """Write a file that must not exist yet; FileExistsError if it does."""

    def replace(self, name: str, data: bytes) -> None:
        """Write a file, whole, in place of any older one."""

    def read(self, name: str) -> bytes:
        """The content of a file; FileNotFoundError if there is none."""

    def names(self, folder: str) -> list[str]:
        """The names of the files right in `folder`, sorted; empty if there is no such folder."""

    def delete(self, name: str) -> None:
        """Remove a file; no error if it is gone already."""

    def tidy(self, folder: str) -> None:
        """Remove what writers that were cut off have left half-written right in `folder`."""

    def settle(self, folder: str) -> None:
        """Make what is seen in `folder` durable, whoever has written it."""


class FolderStorage:
    """Storage in a folder of a disk that every process of the sweep sees.

    Paths are joined as text: this runs for every commit, and `pathlib` would take longer than the disk.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self._root = str(root)

    def create(self, name: str, data: bytes) -> None:
        """Write a file that must not exist yet, by linking a synced temporary one to its name."""
        path, temporary = self._prepare(name, data)
        try:
            os.link(temporary, path)
        except FileNotFoundError as error:
            raise _tidied(name) from error
        finally:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(temporary)
        sync_folder(os.path.dirname(path))

    def replace(self, name: str, data: bytes) -> None:
        """Write a file in place of any older one, by renaming a synced temporary one."""
        path, temporary = self._prepare(name, data)
        try:
            os.replace(temporary, path)
        except FileNotFoundError as error:
            raise _tidied(name) from error
        except OSError:
            os.unlink(temporary)
            raise
        sync_folder(os.path.dirname(path))

    def read(self, name: str) -> bytes:
        """The content of a file."""
        with open(f"{self._root}/{name}", "rb") as file:
            return file.read()

    def names(self, folder: str) -> list[str]:
        """The names of the files right in `folder`, without temporary ones."""
        try:
            return sorted(name for name in os.listdir(f"{self._root}/{folder}") if not name.startswith("."))
        except FileNotFoundError:
            return []

    def delete(self, name: str) -> None:
        """Remove a file; no error if it is gone already."""
        with contextlib.suppress(FileNotFoundError):
            os.unlink(f"{self._root}/{name}")

    def tidy(self, folder: str) -> None:
        """Remove the temporary files right in `folder`; a writer that is at work there has to write again."""
        for path in (self.root / folder).glob(".*.tmp"):
            path.unlink(missing_ok=True)

    def takes(self, size_bytes: int) -> bool:
        """Whether a file of this size could be written now."""
        try:
            self.replace(_PROBE, b"?")
            self.delete(_PROBE)
            return shutil.disk_usage(self._root).free > size_bytes
        except OSError:
            return False

    def settle(self, folder: str) -> None:
        """Make the names in `folder` durable, whoever has written them."""
        with contextlib.suppress(FileNotFoundError):
            sync_folder(f"{self._root}/{folder}")

    def _prepare(self, name: str, data: bytes) -> tuple[str, str]:
        path = prepared(self._root, name)
        temporary = f"{os.path.dirname(path)}/.{uuid.uuid4().hex}.tmp"
        try:
            with open(temporary, "wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
        except BaseException:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(temporary)  # a full disk must not keep the half that fitted
            raise
        return path, temporary


def _tidied(name: str) -> OSError:
    """What a writer finds that another one has tidied up after: it has to write again, if it still may."""
    return OSError(errno.EAGAIN, "the temporary file was removed meanwhile", name)


def prepared(root: str, name: str) -> str:
    """Where `name` goes, its folder made. OSError if `root` is gone: making it would hide what a mount holds."""
    if not os.path.isdir(root):
        raise OSError(errno.EIO, "the storage folder is gone", root)
    path = f"{root}/{name}"
    folder = os.path.dirname(path)
    if not os.path.isdir(folder):
        prepared(root, os.path.relpath(folder, root))
        with contextlib.suppress(FileExistsError):
            os.mkdir(folder)
        try:
            sync_folder(os.path.dirname(folder))  # a folder whose name is lost takes its files along
        except OSError:
            os.rmdir(folder)  # so that the next try syncs it, too
            raise
    return path


def sync_folder(path: str) -> None:
    """Make the names in a folder durable."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
