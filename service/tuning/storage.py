"""Where a sweep's files live: the few operations that a folder and an object store both have, and nothing more.

Every write is whole or absent: a reader never sees half a file, and what a call has written survives a power cut.
`storage_objects` has the object store, `storage_place` the one that a location means.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import shutil
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Protocol

from service.tuning.patience import patiently

_PROBE: Final = "probe"
TROUBLE: Final = frozenset(  # what storage that is full or away says, on a local disk or a network file system
    {errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EROFS, errno.ESTALE, errno.EAGAIN, errno.ETIMEDOUT, errno.ENODEV,
     errno.ENOTCONN, errno.EHOSTDOWN, errno.EHOSTUNREACH, errno.ENXIO, errno.ENETDOWN, errno.ENETUNREACH}
)  # fmt: skip


_BLOCK: Final = 1 << 20


@dataclass(frozen=True, slots=True)
class Written:
    """What a file holds: its size, and the BLAKE2b digest (16 bytes, in hex) of its content."""

    size_bytes: int
    digest: str


@dataclass(frozen=True, slots=True)
class Stat:
    """A file's size, and when it was last written, in seconds since the epoch."""

    size_bytes: int
    changed_at: float


class Storage(Protocol):
    """A flat space of named files; names use `/` and are relative."""

    @property
    def pace_s(self) -> float:
        """How long a change may go unseen by those who look for one again and again: each look costs something."""

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

    def read_each(self, names: Sequence[str]) -> list[bytes]:
        """The contents of several files, in their order; FileNotFoundError if one is not there."""

    def delete_each(self, names: Sequence[str]) -> None:
        """Remove several files; no error for those that are gone already."""

    def stat(self, name: str) -> Stat:
        """A file's size and age; FileNotFoundError if there is none."""

    def takes(self, size_bytes: int) -> bool:
        """Whether a file of this size could be written now."""

    def write_file(self, name: str, save: Callable[[Path], None]) -> Written:
        """Have `save` write a local file and store that, whole and durable, in place of any older one."""

    def leave(self, name: str, save: Callable[[Path], None]) -> None:
        """Have `save` write a file that a power cut may take again; `save` leaves it whole or not at all."""

    def fetch(self, name: str, scratch: Path) -> Path:
        """Where the file can be read on this machine: its own path, or that of a copy in the folder `scratch`."""

    def growing(self, name: str) -> AbstractContextManager[Path]:
        """A path to append to while the block lasts. What others see of it may be some seconds old until then."""


class FolderStorage:
    """Storage in a folder of a disk that every process of the sweep sees.

    Paths are joined as text: this runs for every commit, and `pathlib` would take longer than the disk.
    """

    pace_s = 0.0

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

    def read_each(self, names: Sequence[str]) -> list[bytes]:
        """The contents of several files."""
        return [self.read(name) for name in names]

    def delete_each(self, names: Sequence[str]) -> None:
        """Remove several files."""
        for name in names:
            self.delete(name)

    def stat(self, name: str) -> Stat:
        """A file's size and age."""
        found = os.stat(f"{self._root}/{name}")
        return Stat(found.st_size, found.st_mtime)

    def write_file(self, name: str, save: Callable[[Path], None]) -> Written:
        """Let `save` write a temporary file, make it durable, and only then give it its name."""
        target = Path(prepared(self._root, name))
        temporary = target.with_name(f".{target.name}.{os.getpid()}.tmp")
        try:
            save(temporary)
            with temporary.open("rb+") as file:
                written = digested(temporary)
                os.fsync(file.fileno())
            temporary.replace(target)
            sync_folder(str(target.parent))
        finally:
            temporary.unlink(missing_ok=True)
        return written

    def leave(self, name: str, save: Callable[[Path], None]) -> None:
        """Let `save` write the file itself."""
        save(Path(prepared(self._root, name)))

    def fetch(self, name: str, scratch: Path) -> Path:  # noqa: ARG002  # of an object store
        """The file's own path, whether it is there or not."""
        return self.root / name

    @contextlib.contextmanager
    def growing(self, name: str) -> Iterator[Path]:
        """The file's own path."""
        yield Path(patiently(lambda: prepared(self._root, name), f"making {name}"))

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


def digested(path: Path) -> Written:
    """Size and digest of a file."""
    digest, size_bytes = hashlib.blake2b(digest_size=16), 0
    with path.open("rb") as file:
        while block := file.read(_BLOCK):
            digest.update(block)
            size_bytes += len(block)
    return Written(size_bytes, digest.hexdigest())


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
