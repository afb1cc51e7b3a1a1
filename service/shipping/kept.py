"""Where the service keeps code packages: files beside the sweeps, in the data folder or in the object store."""

from __future__ import annotations

import os
import shutil
from contextlib import suppress
from functools import partial
from pathlib import Path

from service.shipping.unpacking import package_file, package_name
from service.tuning.storage import sync_folder
from service.tuning.storage_place import Place


def keep(root: Place, digest: str, package: Path) -> None:
    """Keep the zip `package`, which has this SHA-256; on a disk it is moved. It is durable then."""
    if not isinstance(root, Path):
        root.write_file(package_name(digest), partial(shutil.copyfile, package))
        return
    kept = package_file(root, digest)
    with package.open("rb") as stream:
        os.fsync(stream.fileno())
    package.replace(kept)
    sync_folder(str(kept.parent))


def size_of(root: Place, digest: str) -> int | None:
    """How many bytes the kept zip has; None where there is none. OSError where that cannot be told."""
    with suppress(FileNotFoundError):
        if isinstance(root, Path):
            return package_file(root, digest).stat().st_size
        return root.stat(package_name(digest)).size_bytes
    return None


def forget(root: Place, digest: str, before: float) -> None:
    """Remove the zip, unless it was kept again since `before`."""
    with suppress(FileNotFoundError):
        if not isinstance(root, Path):
            if root.stat(package_name(digest)).changed_at < before:
                root.delete(package_name(digest))
            return
        path = package_file(root, digest)
        if path.stat().st_mtime < before:
            path.unlink()
