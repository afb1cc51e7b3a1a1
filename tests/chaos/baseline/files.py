"""Faults of files, done to plain Ray Tune: a full disk, a storage that is away, damaged checkpoints and state."""

from __future__ import annotations

import os
import random
import shutil
import subprocess
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Final

from tests.chaos.arena import FaultNotPossibleError
from tests.chaos.baseline.arena import Arena, wait_for
from tests.chaos.baseline.cases import Case
from tests.chaos.checker import Expected

AWAY_S: Final = 8.0
SMALL: Final = "size=32m"


def fill(arena: Arena, rng: random.Random, calm: Expected) -> Expected:
    """The storage, a small tmpfs, is full for some seconds, then has room again."""
    arena.storage.mkdir()
    mount = shutil.which("mount")
    command = [mount or "mount", "-t", "tmpfs", "-o", SMALL, "tmpfs", str(arena.storage)]
    if mount is None or subprocess.run(command, check=False, capture_output=True).returncode:
        msg = "a tmpfs cannot be mounted"
        raise FaultNotPossibleError(msg)
    arena.mounted = True
    arena.start()
    arena.wait_acknowledged(rng.randint(2, 10))
    filling = arena.storage / "filling"
    _fill(filling)
    time.sleep(AWAY_S)
    filling.unlink()
    arena.struck()
    return calm


def _fill(path: Path) -> None:
    with path.open("wb", buffering=0) as file:
        try:
            while file.write(b"\0" * 4096):
                pass
        except OSError:
            return


def take_away(arena: Arena, rng: random.Random, calm: Expected) -> Expected:
    """The storage cannot be written for some seconds: something else is where its folder was; then it is back."""
    arena.start()
    arena.wait_acknowledged(rng.randint(2, 10))
    elsewhere = arena.root / "elsewhere"
    arena.storage.rename(elsewhere)
    arena.storage.write_bytes(b"")
    time.sleep(AWAY_S)
    arena.storage.unlink()
    elsewhere.rename(arena.storage)
    arena.struck()
    return calm


def _damage_newest(arena: Arena, rng: random.Random, calm: Expected, damage: Callable[[Path], None]) -> Expected:
    arena.interval = 1
    arena.start()
    arena.wait_acknowledged(rng.randint(3, 9))
    number = _trial_between_checkpoints(arena)
    folder = next(arena.storage.glob(f"sweep/train_*_{number:05d}_*"))
    newest = max(folder.glob("checkpoint_*/state.json"))
    damage(newest)
    pid = next(line.pid for line in reversed(arena.truth()) if line.trial == number)
    for worker in arena.workers():
        if worker.pid == pid:
            worker.kill()
    arena.struck()
    return replace(calm, intervals=2)


def truncate_checkpoint(arena: Arena, rng: random.Random, calm: Expected) -> Expected:
    """The newest checkpoint of a trial that trains is only half there, then its worker is killed."""
    return _damage_newest(arena, rng, calm, lambda path: os.truncate(path, path.stat().st_size // 2))


def drop_checkpoint(arena: Arena, rng: random.Random, calm: Expected) -> Expected:
    """The newest checkpoint of a trial that trains is gone, then its worker is killed."""
    return _damage_newest(arena, rng, calm, lambda path: shutil.rmtree(path.parent))


def _trial_between_checkpoints(arena: Arena) -> int:
    """A trial that has saved two checkpoints and still trains."""
    found: list[int] = []

    def is_there() -> bool:
        last = {line.trial: line.epoch for line in arena.truth() if line.kind == "acknowledged"}
        found[:] = [trial for trial, epoch in last.items() if epoch == 2]  # its third epoch trains
        return bool(found)

    if not wait_for(is_there, 60):
        msg = "no trial stood between two checkpoints"
        raise RuntimeError(msg)
    return found[0]


def _damage_state(arena: Arena, rng: random.Random, calm: Expected, damage: Callable[[Path], None]) -> Expected:
    arena.start()
    arena.wait_acknowledged(rng.randint(4, 14))
    arena.kill_driver()
    newest = max(arena.storage.glob("sweep/experiment_state-*.json"), key=lambda p: p.stat().st_mtime)
    damage(newest)
    arena.start()
    arena.struck()
    return calm


def tear(arena: Arena, rng: random.Random, calm: Expected) -> Expected:
    """The driver is killed, and the newest state file of the experiment is torn; then the next driver starts."""
    return _damage_state(arena, rng, calm, lambda path: os.truncate(path, rng.randrange(path.stat().st_size)))


def flip(arena: Arena, rng: random.Random, calm: Expected) -> Expected:
    """The same with one byte of the file flipped."""

    def damage(path: Path) -> None:
        data = bytearray(path.read_bytes())
        data[rng.randrange(len(data))] ^= 0x80
        path.write_bytes(data)

    return _damage_state(arena, rng, calm, damage)


CASES: Final = [
    Case("F8", "the disk is full", fill),
    Case("F9", "the storage is away for 8 s", take_away),
    Case("F10a", "the newest checkpoint is truncated", truncate_checkpoint),
    Case("F10b", "the newest checkpoint is gone", drop_checkpoint),
    Case("F19a", "a torn state file", tear),
    Case("F19b", "a flipped byte in a state file", flip),
]
