"""A disk that forgets what was not synced, fills up, and kills the process that is writing to it, all on command.

It stands under the real `FolderStorage` on a real folder: the calls by which that makes files durable go through here.
"""

from __future__ import annotations

import errno
import os
import random
import shutil
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from unittest.mock import patch

CALLS = ("fsync", "link", "replace", "unlink")


class Killed(BaseException):
    """The process that was writing is gone, as by SIGKILL: nothing of it runs any more, no `finally` either."""


@dataclass
class Disk:
    """What is durable of the folder `root`, and what is to go wrong with the next calls."""

    root: Path
    rng: random.Random
    is_dead: bool = False
    countdown: int = 0  # durable calls until `strike` happens; 0: never
    strike: Callable[[], None] | None = None  # may raise Killed, or let something else happen first
    strikes_after: bool = False  # whether the call is made before that
    errors: list[tuple[OSError, bool]] = field(default_factory=list)  # the next calls fail; True: after they were made
    sizes: dict[int, int] = field(default_factory=dict)  # inode -> bytes that are safe
    names: dict[str, set[str]] = field(default_factory=dict)  # folder -> names that are safe

    def __post_init__(self) -> None:
        self._prefix = str(self.root)

    @contextmanager
    def attached(self) -> Iterator[None]:
        """The calls of this process that make things durable come by here."""
        real = {name: getattr(os, name) for name in CALLS}

        def fsync(descriptor: int) -> None:
            path = os.readlink(f"/proc/self/fd/{descriptor}")
            self._call(path, lambda: self._sync(path, descriptor))

        with (
            patch.object(os, "fsync", fsync),
            patch.object(os, "link", lambda a, b: self._call(str(b), lambda: real["link"](a, b))),
            patch.object(os, "replace", lambda a, b: self._call(str(b), lambda: real["replace"](a, b))),
            patch.object(
                os, "unlink", lambda a, **k: self._call(str(a), lambda: real["unlink"](a, **k), is_write=False)
            ),
        ):
            yield

    def arm(self, calls: int, strike: Callable[[], None], *, after: bool) -> None:
        """Let `strike` happen at one of the next calls."""
        self.countdown, self.strike, self.strikes_after = calls, strike, after

    def disarm(self) -> None:
        """Forget what was armed; the next process lives."""
        self.countdown, self.strike, self.is_dead = 0, None, False

    def kill(self) -> None:
        """End the process that is writing."""
        self.is_dead = True
        raise Killed

    def cut_power(self) -> None:
        """Lose what was not synced, each piece with an even chance."""
        for folder, _, _ in list(os.walk(self.root)):
            if not Path(folder).is_dir():
                continue
            safe = self.names.get(folder, set())
            for entry in sorted(os.scandir(folder), key=lambda e: e.name):
                if entry.name not in safe and self.rng.random() < 0.5:
                    shutil.rmtree(entry.path) if entry.is_dir() else Path(entry.path).unlink()
                elif entry.is_file():
                    self._tear(entry)

    def _tear(self, entry: os.DirEntry[str]) -> None:
        size, safe = entry.stat().st_size, self.sizes.get(entry.inode(), 0)
        if safe < size and self.rng.random() < 0.5:
            os.truncate(entry.path, self.rng.randint(safe, size - 1))

    def _call(self, path: str, act: Callable[[], Any], *, is_write: bool = True) -> Any:
        if not path.startswith(self._prefix):
            return act()
        if self.is_dead:
            raise Killed
        is_struck = self.countdown == 1
        self.countdown = max(0, self.countdown - 1)
        if is_struck and not self.strikes_after and self.strike is not None:
            self.strike()
        if self.errors and is_write:
            error, is_late = self.errors.pop(0)
            if is_late:
                act()
            raise error
        result = act()
        if is_struck and self.strikes_after and self.strike is not None:
            self.strike()
        return result

    def _sync(self, path: str, descriptor: int) -> None:
        found = os.fstat(descriptor)
        if stat.S_ISDIR(found.st_mode):
            self.names[path] = set(os.listdir(path))
        else:
            self.sizes[found.st_ino] = found.st_size


def full() -> OSError:
    """What a full disk says."""
    return OSError(errno.ENOSPC, "No space left on device")


def broken() -> OSError:
    """What a network file system says that has lost its server."""
    return OSError(errno.EIO, "Input/output error")
