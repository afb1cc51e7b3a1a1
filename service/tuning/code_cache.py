"""Brings a sweep's code to this machine where it is kept as a package in an object store: fetched once for all workers.

A package is known by the SHA-256 of its bytes; what has it was examined when it was taken in (`shipping/unpacking.py`).
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import shutil
import stat
import tempfile
import time
import zipfile
from pathlib import Path
from typing import Final

from service.errors import StorageError
from service.tuning.patience import patiently
from service.tuning.storage_objects import object_storage
from service.tuning.storage_place import is_url, own_temporary_folder

FOLDER: Final = "code"
ENDING: Final = ".zip"
UNUSED_S: Final = 7 * 86_400.0  # after which another package may take the place


def local_code(code_root: str | None) -> str | None:
    """The folder with the code at `code_root`: itself, or the unpacked package that a URL `…/<SHA-256>.zip` names.

    StorageError where there is no such package, or another one under its name. An object store that is away is waited
    for.
    """
    if code_root is None or not is_url(code_root):
        return code_root
    digest = code_root.rpartition("/")[2].removesuffix(ENDING)
    cache = own_temporary_folder() / FOLDER
    cache.mkdir(exist_ok=True)
    folder = cache / digest
    with _lock(cache, digest).open("w") as stream:
        fcntl.flock(stream, fcntl.LOCK_EX)
        if not folder.is_dir():
            _tidy(cache)
            _unpack(code_root, digest, folder)
        os.utime(folder)
    return str(folder)


def _lock(cache: Path, digest: str) -> Path:
    return cache / f".{digest}.lock"


def _unpack(url: str, digest: str, folder: Path) -> None:
    """Make `folder`, whole: whoever is killed meanwhile leaves nothing under its name."""
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=".") as scratch:
        package = _fetched(url, digest, Path(scratch))
        partial = Path(scratch) / FOLDER
        with zipfile.ZipFile(package) as archive:
            for member in archive.infolist():
                path = Path(archive.extract(member, partial))
                if path.is_file():
                    path.chmod(0o755 if member.external_attr >> 16 & stat.S_IXUSR else 0o644)
        partial.mkdir(exist_ok=True)  # of a package without files
        partial.rename(folder)


def _fetched(url: str, digest: str, scratch: Path) -> Path:
    parent, _, name = url.rpartition("/")
    storage = object_storage(parent)
    try:
        package = patiently(lambda: storage.fetch(name, scratch), "fetching the code")
    except FileNotFoundError as error:
        msg = f"the code package {url} is gone; submit the sweep again"
        raise StorageError(msg) from error
    with package.open("rb") as stream:
        found = hashlib.file_digest(stream, "sha256").hexdigest()
    if found != digest:
        msg = f"the code package {url} is damaged: its SHA-256 is {found}; submit the sweep again"
        raise StorageError(msg)
    return package


def _tidy(cache: Path) -> None:
    """Remove what nobody has begun to use for long, and nobody begins to use just now."""
    for folder in filter(_is_unused, list(cache.iterdir())):
        with _lock(cache, folder.name).open("w") as stream, contextlib.suppress(BlockingIOError):
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if _is_unused(folder):
                shutil.rmtree(folder, ignore_errors=True)


def _is_unused(folder: Path) -> bool:
    try:
        return folder.is_dir() and folder.stat().st_mtime < time.time() - UNUSED_S
    except FileNotFoundError:  # another one has tidied
        return False
