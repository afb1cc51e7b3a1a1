"""Where a sweep's files live: the few operations that a folder and an object store both have, and nothing more.

Every write is whole or absent: a reader never sees half a file, and what a call has written survives a power cut.
"""

from __future__ import annotations

import contextlib
import errno
import os
import uuid
from pathlib import Path
from typing import Protocol


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


class FolderStorage:
    """Storage in a folder of a disk that every process of the sweep sees."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def create(self, name: str, data: bytes) -> None:
        """Write a file that must not exist yet, by linking a synced temporary one to its name."""
        path, temporary = self._prepare(name, data)
        try:
            os.link(temporary, path)
        finally:
            temporary.unlink()
        _sync_folder(path.parent)

    def replace(self, name: str, data: bytes) -> None:
        """Write a file in place of any older one, by renaming a synced temporary one."""
        path, temporary = self._prepare(name, data)
        temporary.replace(path)
        _sync_folder(path.parent)

    def read(self, name: str) -> bytes:
        """The content of a file."""
        return (self.root / name).read_bytes()

    def names(self, folder: str) -> list[str]:
        """The names of the files right in `folder`, without temporary ones."""
        with contextlib.suppress(FileNotFoundError), os.scandir(self.root / folder) as entries:
            return sorted(entry.name for entry in entries if not entry.name.startswith("."))
        return []

    def delete(self, name: str) -> None:
        """Remove a file; no error if it is gone already."""
        (self.root / name).unlink(missing_ok=True)

    def _prepare(self, name: str, data: bytes) -> tuple[Path, Path]:
        path = self.root / name
        if not self.root.is_dir():  # a mount that is gone: making the folder would hide what is written there
            raise OSError(errno.EIO, "the storage folder is gone", str(self.root))
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.parent / f".{uuid.uuid4().hex}.tmp"
        try:
            with temporary.open("wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
        except BaseException:
            temporary.unlink(missing_ok=True)  # a full disk must not keep the half that fitted
            raise
        return path, temporary


def _sync_folder(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
