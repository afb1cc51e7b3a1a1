"""What every benchmark returns, and the ways in which they run a program and time it."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent.parent


@dataclass(frozen=True, slots=True)
class Measure:
    """One number: `asked` is the most it may be (None: for information only)."""

    name: str
    measured: float
    unit: str
    asked: float | None = None
    note: str = ""

    @property
    def is_kept(self) -> bool:
        """Whether the number is what was asked for."""
        return self.asked is None or self.measured <= self.asked

    def to_dict(self) -> dict[str, Any]:
        """The measure as JSON."""
        return {**asdict(self), "is_kept": self.is_kept}


def environment() -> dict[str, str]:
    """One thread per process, as each trial has one core; our packages from this tree."""
    return {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT), "PYTHONWARNINGS": "ignore"}


def timed(command: list[str], log: Path, timeout_s: float = 1800) -> tuple[float, str]:
    """(wall seconds of the whole process, its standard output); RuntimeError with the end of its log if it fails."""
    began = time.monotonic()
    with log.open("w") as errors:
        done = subprocess.run(
            command, cwd=ROOT, env=environment(), stdout=subprocess.PIPE, stderr=errors, text=True, timeout=timeout_s,
            check=False,
        )  # fmt: skip
    wall = time.monotonic() - began
    if done.returncode:
        msg = f"{' '.join(command)} ended with {done.returncode}:\n{log.read_text()[-2000:]}{done.stdout[-2000:]}"
        raise RuntimeError(msg)
    return wall, done.stdout


def module(name: str, *arguments: str) -> list[str]:
    """The command that runs a module of this tree."""
    return [sys.executable, "-m", name, *arguments]
