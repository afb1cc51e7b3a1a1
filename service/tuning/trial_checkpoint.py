"""Writes and verifies checkpoint files: complete or absent, and never trusted without their digest."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from pathlib import Path
from typing import Final

from service.errors import CheckpointError
from service.tuning.assignment import Assignment
from service.tuning.events import Checkpoint
from service.tuning.patience import patiently
from service.tuning.storage import TROUBLE, prepared, sync_folder

_BLOCK: Final = 1 << 20


def checkpoint_path(trial: int, attempt: int, epoch: int) -> str:
    """Where the checkpoint of an epoch lies, relative to the sweep's storage; no attempt overwrites another's."""
    return f"checkpoints/{trial}/{attempt}-{epoch}.ckpt"


def write_checkpoint(assignment: Assignment, epoch: int, save: Callable[[str], None]) -> Checkpoint:
    """Let `save` write a temporary file, make it durable, and only then give it its name.

    A full disk or a storage that is away is waited for; a half-written file never bears the final name.
    """
    return patiently(lambda: _write(assignment, epoch, save), f"saving epoch {epoch}")


def _write(assignment: Assignment, epoch: int, save: Callable[[str], None]) -> Checkpoint:
    relative = checkpoint_path(assignment.trial, assignment.attempt, epoch)
    target = Path(prepared(assignment.storage, relative))
    temporary = target.with_name(f".{target.name}.{os.getpid()}.tmp")
    try:
        _save(save, temporary)
        with temporary.open("rb+") as file:
            digest = hashlib.blake2b(digest_size=16)
            while block := file.read(_BLOCK):
                digest.update(block)
            os.fsync(file.fileno())
            size = file.tell()
        temporary.replace(target)
        sync_folder(str(target.parent))
    finally:
        temporary.unlink(missing_ok=True)
    return Checkpoint(relative, epoch, size, digest.hexdigest())


def _save(save: Callable[[str], None], path: Path) -> None:
    """Call the user's hooks: what they raise is theirs, unless it is what storage says that is full or away."""
    try:
        save(str(path))
    except OSError as error:
        if error.errno in TROUBLE or not path.parent.is_dir():
            raise
        msg = f"saving the checkpoint failed: {type(error).__name__}: {error}"
        raise RuntimeError(msg) from error


def verified_path(storage: Path, checkpoint: Checkpoint) -> Path:
    """The file of `checkpoint`; CheckpointError names it where it is missing or not what was written.

    Storage that cannot be read at all is waited for: its checkpoints are not lost.
    """
    path = storage / checkpoint.path
    try:
        found = patiently(lambda: _digest_of(path), f"reading {path}")
    except FileNotFoundError as error:
        msg = f"the checkpoint {path} cannot be read: {error.strerror or error}; start from an earlier one"
        raise CheckpointError(msg) from error
    if found != checkpoint.digest:
        msg = (
            f"the checkpoint {path} is damaged: its digest is {found}, {checkpoint.digest} was written; "
            "start from an earlier one"
        )
        raise CheckpointError(msg)
    return path


def _digest_of(path: Path) -> str:
    digest = hashlib.blake2b(digest_size=16)
    with path.open("rb") as file:
        while block := file.read(_BLOCK):
            digest.update(block)
    return digest.hexdigest()
