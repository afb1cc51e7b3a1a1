"""Trackers of their own process for tests, and ledgers written by hand for them to deliver."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from service.spec.sweep_spec import parse_sweep
from service.tuning.events import AttemptStarted, Event, Record, Reported, TrialEnded, TrialProposed
from tests.integration.synthetic_sweep import ADAMW, LR, NOISE, OPTIMIZER, SWEEP, WIDTH

PARAMS: dict[str, Any] = {OPTIMIZER: ADAMW, LR: 0.01, WIDTH: 8, NOISE: 0.1}


def spec_of(**tracking: str) -> dict[str, Any]:
    """The resolved sweep file of the synthetic sweep, with `tracking` in its section of that name."""
    data = parse_sweep(SWEEP, file="sweep.yaml", root=Path()).to_dict()
    data["tracking"] = {**data.get("tracking", {}), **tracking}
    return data


def tracker_command(folder: Path, home: Path, *more: str) -> list[str]:
    """What the driver starts."""
    return [sys.executable, "-m", "service.tuning.tracking", str(folder), "--home", str(home), *more]


def track(folder: Path, home: Path, *more: str) -> int:
    """Deliver the ledger in `folder` with a process of its own; its exit code."""
    return subprocess.run(tracker_command(folder, home, *more), check=False, timeout=600).returncode


def start_tracker(folder: Path, home: Path) -> subprocess.Popen[bytes]:
    """A tracker that follows the ledger as long as this process lives."""
    return subprocess.Popen(tracker_command(folder, home, "--parent-pid", str(os.getpid())))


def sweep_folder(home: Path, sweep_id: str = "s-1") -> Path:
    """The empty storage folder of a sweep."""
    folder = home / "sweeps" / sweep_id
    folder.mkdir(parents=True)
    return folder


def ledger_of(events: list[Event]) -> list[Record]:
    """`events` a second apart."""
    return [Record(i, 1_790_000_000.0 + i, event) for i, event in enumerate(events)]


def trial_of(number: int, epochs: int, **metrics: float) -> list[Event]:
    """A trial from proposal to completion."""
    reports = [
        Reported(number, 1, e, {"val_acc": e / 1000 + number / 10, **metrics}, 1.0 * e, None, "continue", "")
        for e in range(1, epochs + 1)
    ]
    begin: list[Event] = [
        TrialProposed(number, PARAMS, "searcher", number),
        AttemptStarted(number, 1, PARAMS, None, ""),
    ]
    return [*begin, *reports, TrialEnded(number, "completed")]
