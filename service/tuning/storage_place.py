"""Where a sweep's storage is: a folder, or the URL of an object store; what takes either one begins here."""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
import tempfile
from functools import cache
from pathlib import Path
from typing import Final, TypeAlias

from service.errors import StorageError
from service.tuning.storage import FolderStorage, Storage
from service.tuning.storage_objects import ObjectStorage, object_storage

Place: TypeAlias = Path | ObjectStorage  # both take `/ name`, have a `name`, and are shown by `str`
_URL: Final = "://"
_MOST_OF_A_LOG: Final = 2**20


def is_url(location: str) -> bool:
    """Whether `location` is an object store's, and no folder's."""
    return _URL in location


def place_of(location: str) -> Place:
    """The place that `location` names, as `str(place)` does. StorageError where it is a URL that is not understood."""
    return object_storage(location) if is_url(location) else Path(location)


@cache
def open_storage(location: str) -> Storage:
    """The storage at `location`, which is an absolute folder or a URL."""
    return storage_at(place_of(location))


def storage_at(place: Place) -> Storage:
    """The storage in a place."""
    return FolderStorage(place) if isinstance(place, Path) else place


def work_folder(place: Place) -> Path:
    """A folder of this machine for what belongs to the sweep in `place` and needs a real one; it may be lost.

    The sweep's own, where it has one.
    """
    if isinstance(place, Path):
        return place
    mark = hashlib.blake2b(str(place).encode(), digest_size=8).hexdigest()
    folder = own_temporary_folder() / "work" / f"{place.name}-{mark}"
    (folder / "logs").mkdir(parents=True, exist_ok=True)
    return folder


def leave_work_folder(place: Place) -> None:
    """Remove the work folder of a sweep of an object store, where the ends of its logs go; nothing for a folder."""
    if isinstance(place, Path):
        return
    folder = work_folder(place)
    for log in (folder / "logs").iterdir():
        with contextlib.suppress(OSError):  # they are for whoever looks for what went wrong with MLflow
            if data := log.read_bytes()[-_MOST_OF_A_LOG:]:
                place.replace(f"logs/{log.name}", data)
    shutil.rmtree(folder, ignore_errors=True)


def own_temporary_folder() -> Path:
    """A folder for temporary files that several processes of this user share, and nobody else gets into."""
    folder = Path(tempfile.gettempdir()) / f"tuneyard-{os.getuid()}"
    folder.mkdir(mode=0o700, exist_ok=True)
    found = folder.lstat()
    if found.st_uid != os.getuid() or found.st_mode & 0o077 or folder.is_symlink():
        msg = f"{folder} is open to others, or belongs to them: remove it, or set TMPDIR to a folder of your own"
        raise StorageError(msg)
    return folder
