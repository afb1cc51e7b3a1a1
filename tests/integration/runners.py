"""Trainings for the driver's tests: deterministic ones without torch, so that faults can be timed."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable
from pathlib import Path

from service.tuning.assignment import Assignment, Report
from service.tuning.trial_checkpoint import write_checkpoint

EPOCH_S = 0.15
GATE = "HELD_UNTIL"  # not of our own prefix: heads start without those


def deterministic(assignment: Assignment, report: Callable[[Report], bool]) -> None:
    """Losses that depend on parameters and epoch only; a checkpoint after each epoch."""
    x = float(assignment.params["model.x"])
    first = 1 if assignment.start is None else assignment.start.epoch + 1
    for epoch in range(first, assignment.max_epochs + 1):
        time.sleep(EPOCH_S)
        saved = write_checkpoint(assignment, epoch, _saver(epoch))
        seconds = assignment.seconds_before + EPOCH_S
        if not report(Report(epoch, {"loss": x / epoch}, seconds, saved, diverged=False)):
            return


def _saver(epoch: int) -> Callable[[str], None]:
    def save(path: str) -> None:
        Path(path).write_text(json.dumps({"epoch": epoch}))

    return save


def _await_gate() -> None:
    while not Path(os.environ[GATE]).exists():
        time.sleep(0.1)


def tested(assignment: Assignment, report: Callable[[Report], bool]) -> None:
    """As `deterministic`, with a test that waits until the file that `GATE` names is there."""
    if not assignment.is_test:
        deterministic(assignment, report)
        return
    start = assignment.start
    epoch = 0 if start is None else start.epoch
    _await_gate()
    report(Report(epoch, {"test_loss": float(assignment.params["model.x"])}, 0.0, None, diverged=False))


def endless(assignment: Assignment, report: Callable[[Report], bool]) -> None:
    """As `deterministic`, with as many epochs as there may be until the file that `GATE` names is there, then one."""

    def report_and_end(epoch_report: Report) -> bool:
        is_last = Path(os.environ[GATE]).exists()
        return report(epoch_report) and not is_last

    deterministic(assignment, report_and_end)


def held(assignment: Assignment, report: Callable[[Report], bool]) -> None:
    """As `deterministic`, but after its first epoch each trial waits until the file that `GATE` names is there."""

    def report_once_open(epoch_report: Report) -> bool:
        if epoch_report.epoch > 1:
            _await_gate()
        return report(epoch_report)

    deterministic(assignment, report_once_open)


def breaking(assignment: Assignment, report: Callable[[Report], bool]) -> None:  # noqa: ARG001  # a runner's signature
    """Fails as a wrong model does."""
    msg = "width must be even"
    raise ValueError(msg)


def troubled(assignment: Assignment, report: Callable[[Report], bool]) -> None:
    """As `deterministic`, but the first attempt of trial 0 hangs at epoch 2, and that of trial 1 leaves the process."""

    def report_unless_struck(epoch_report: Report) -> bool:
        if assignment.attempt == 1 and epoch_report.epoch == 2 and assignment.trial == 0:  # as said above
            time.sleep(3600)
        if assignment.attempt == 1 and epoch_report.epoch == 2 and assignment.trial == 1:  # as said above
            os._exit(7)
        return report(epoch_report)

    deterministic(assignment, report_unless_struck)
