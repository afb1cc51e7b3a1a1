"""Writes and verifies checkpoint files: complete or absent, and never trusted without their digest."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from service.errors import CheckpointError
from service.tuning.assignment import Assignment
from service.tuning.events import Checkpoint
from service.tuning.patience import patiently
from service.tuning.storage import TROUBLE, digested
from service.tuning.storage_place import Place, open_storage, storage_at


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
    written = open_storage(assignment.storage).write_file(relative, lambda path: _save(save, path))
    return Checkpoint(relative, epoch, written.size_bytes, written.digest)


def _save(save: Callable[[str], None], path: Path) -> None:
    """Call the user's hooks: what they raise is theirs, unless it is what storage says that is full or away."""
    try:
        save(str(path))
    except OSError as error:
        if error.errno in TROUBLE or not path.parent.is_dir():
            raise
        msg = f"saving the checkpoint failed: {type(error).__name__}: {error}"
        raise RuntimeError(msg) from error


def verified_path(place: Place, checkpoint: Checkpoint, scratch: Path = Path()) -> Path:
    """The file of `checkpoint`, or a copy of it in `scratch` where the storage is no folder.

    CheckpointError names it where it is missing or not what was written. Storage that cannot be read at all is waited
    for: its checkpoints are not lost.
    """
    name, storage = f"{place}/{checkpoint.path}", storage_at(place)
    try:
        path = patiently(lambda: storage.fetch(checkpoint.path, scratch), f"reading {name}")
        found = patiently(lambda: digested(path).digest, f"reading {name}")
    except FileNotFoundError as error:
        msg = f"the checkpoint {name} cannot be read: {error.strerror or error}; start from an earlier one"
        raise CheckpointError(msg) from error
    if found != checkpoint.digest:
        msg = (
            f"the checkpoint {name} is damaged: its digest is {found}, {checkpoint.digest} was written; "
            "start from an earlier one"
        )
        raise CheckpointError(msg)
    return path
