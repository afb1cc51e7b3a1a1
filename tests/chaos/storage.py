"""Faults of storage: full, gone for a while, or no longer holding what was written."""

from __future__ import annotations

import random
import shutil
import subprocess
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Final

from service.tuning.events import AttemptStarted, Checkpoint, CheckpointSaved, CheckpointsDropped, Reported, TrialEnded
from service.tuning.ledger import read_ledger
from service.tuning.sweep_driver import UNRUNNABLE
from tests.chaos.arena import PATIENCE_S, Arena, FaultNotPossibleError
from tests.chaos.checker import Expected
from tests.chaos.faults import Fault

FULL_S: Final = 5.0
AWAY_S: Final = 5.0
DISK: Final = "4m"
BLOCK: Final = 4096


def full(arena: Arena, rng: random.Random) -> Expected:
    """The disk that holds the sweep's storage is full for some seconds."""
    arena.folder.mkdir(parents=True)
    _mount(arena)
    arena.prepare()
    arena.start()
    arena.wait_some(rng)
    ballast = arena.folder / "ballast"
    _fill(ballast)
    arena.release()
    time.sleep(FULL_S)
    ballast.unlink()
    arena.strike()
    return arena.expected


def _mount(arena: Arena) -> None:
    mount, umount = shutil.which("mount"), shutil.which("umount")
    if mount is None or umount is None:
        msg = "there is no mount here"
        raise FaultNotPossibleError(msg)
    command = [mount, "-t", "tmpfs", "-o", f"size={DISK}", "tmpfs", str(arena.folder)]
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    if done.returncode:
        msg = f"a small disk cannot be mounted here: {done.stderr.strip()}"
        raise FaultNotPossibleError(msg)
    arena.stack.callback(subprocess.run, [umount, "--lazy", str(arena.folder)], check=False)


def _fill(ballast: Path) -> None:
    with ballast.open("wb", buffering=0) as file:
        size = BLOCK * 64
        while size >= 1:
            try:
                file.write(b"\0" * size)
            except OSError:
                size //= 2


def away(arena: Arena, rng: random.Random) -> Expected:
    """The storage folder is gone for some seconds, as a mount that drops, and comes back as it was."""
    arena.start()
    arena.wait_some(rng)
    aside = arena.folder.with_name("away")
    arena.folder.rename(aside)
    arena.release()
    time.sleep(AWAY_S)
    if arena.folder.exists():
        found = sorted(str(path.relative_to(arena.folder)) for path in arena.folder.rglob("*"))
        arena.broken.append(f"while storage was gone, something was written in its place: {found}")
        shutil.rmtree(arena.folder)
    aside.rename(arena.folder)
    arena.strike()
    return arena.expected


def newest_checkpoints(folder: Path) -> list[Checkpoint]:
    """The newest checkpoint on record of each trial that may still train."""
    held: dict[int, dict[str, Checkpoint]] = {}
    for event in (record.event for record in read_ledger(folder)):
        if isinstance(event, Reported | CheckpointSaved | AttemptStarted) and event.checkpoint is not None:
            held.setdefault(event.trial, {})[event.checkpoint.path] = event.checkpoint
        elif isinstance(event, CheckpointsDropped):
            held = {trial: {p: c for p, c in of.items() if p not in event.paths} for trial, of in held.items()}
        elif isinstance(event, TrialEnded):
            held.pop(event.trial, None)
    return [max(of.values(), key=lambda c: c.epoch) for of in held.values() if of]


def _truncate(path: Path) -> None:
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2])


def _damage_newest(arena: Arena, rng: random.Random, damage: Callable[[Path], None]) -> Expected:
    """Kill the driver where a running trial has two checkpoints, damage the newest, and go on."""
    arena.interval = 1
    arena.start()
    arena.wait_some(rng, 3, 9)
    arena.release()
    arena.wait_for(lambda: any(c.epoch > 1 for c in newest_checkpoints(arena.folder)), "a trial's second checkpoint")
    arena.driver.kill()
    arena.driver.wait()
    arena.wait_for(lambda: not arena.workers(), "the end of the workers")
    chosen = newest_checkpoints(arena.folder)
    arena.note(broken=not chosen, what="there was no checkpoint to damage")
    for checkpoint in chosen:
        damage(arena.folder / checkpoint.path)
    arena.strike()
    arena.start()
    return replace(arena.expected, intervals=2)


def truncated_checkpoint(arena: Arena, rng: random.Random) -> Expected:
    """The newest checkpoint is only half there."""
    return _damage_newest(arena, rng, _truncate)


def missing_checkpoint(arena: Arena, rng: random.Random) -> Expected:
    """The newest checkpoint is gone."""
    return _damage_newest(arena, rng, Path.unlink)


def _segments(arena: Arena) -> list[Path]:
    return sorted((arena.folder / "ledger").glob("[0-9]*.jsonl"))


def _stop(arena: Arena, rng: random.Random) -> None:
    arena.start()
    arena.wait_some(rng)
    arena.kill_driver()
    arena.wait_for(lambda: not arena.workers(), "the end of the workers")


def torn_tail(arena: Arena, rng: random.Random) -> Expected:
    """A power cut left half of the segment that was just being written."""
    _stop(arena, rng)
    newest = _segments(arena)[-1]
    following = len(read_ledger(arena.folder))
    data = newest.read_bytes()
    torn = newest.with_name(f"{following:012d}.jsonl")
    torn.write_bytes(data[: rng.randrange(len(data))])
    arena.start()
    return arena.expected


def _refused_then_mended(arena: Arena, segment: Path, damaged: bytes) -> Expected:
    """The sweep refuses to go on with a damaged segment, and goes on once it is put back."""
    sound = segment.read_bytes()
    segment.write_bytes(damaged)
    before = {path.name: path.read_bytes() for path in _segments(arena)}
    refusing = arena.start()
    arena.expect_code(refusing, UNRUNNABLE, PATIENCE_S, f"the driver that found {segment.name} damaged")
    if refusing.returncode != UNRUNNABLE:
        return arena.expected  # it went on, so its ledger has to stay as it is now
    said = arena.said(refusing)
    arena.note(broken="readable" not in said, what=f"it does not say what is readable: {said!r}")
    after = {path.name: path.read_bytes() for path in _segments(arena)}
    arena.note(broken=before != after, what="it has changed the damaged ledger")
    segment.write_bytes(sound)
    arena.strike()
    arena.start()
    return arena.expected


def _flipped(data: bytes, rng: random.Random) -> bytes:
    place = rng.randrange(len(data))
    return data[:place] + bytes([data[place] ^ (1 << rng.randrange(8))]) + data[place + 1 :]


def flipped_byte(arena: Arena, rng: random.Random) -> Expected:
    """A bit of a segment in the middle has flipped."""
    _stop(arena, rng)
    segment = rng.choice(_segments(arena)[:-1])
    return _refused_then_mended(arena, segment, _flipped(segment.read_bytes(), rng))


def flipped_newest(arena: Arena, rng: random.Random) -> Expected:
    """A bit of the newest segment has flipped: it is whole, so it was acknowledged, so it must not be dropped."""
    _stop(arena, rng)
    segment = _segments(arena)[-1]
    return _refused_then_mended(arena, segment, _flipped(segment.read_bytes(), rng))


FAULTS: Final = [
    Fault("F8", "disk full", full),
    Fault("F9", "storage gone, then back", away),
    Fault("F10a", "newest checkpoint truncated", truncated_checkpoint, "sequential"),
    Fault("F10b", "newest checkpoint missing", missing_checkpoint, "sequential"),
    Fault("F19a", "torn last ledger segment", torn_tail, "sequential"),
    Fault("F19b", "flipped bit in the ledger", flipped_byte, "sequential"),
    Fault("F19c", "flipped bit in the newest segment", flipped_newest, "sequential"),
]
