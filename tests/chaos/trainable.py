"""What chaos sweeps train: losses that follow from parameters and epoch alone, misbehaviour where a plan says so."""

from __future__ import annotations

import contextlib
import json
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from service.tuning.assignment import Assignment, Report
from service.tuning.sweep_folder import DRAIN_FILE
from service.tuning.trial_checkpoint import verified_path, write_checkpoint
from tests.chaos.truth import VARIABLE, Truth, read_truth

PLAN: Final = "CHAOS_PLAN"  # names a JSON file: [{"trial": 1, "attempt": 1, "epoch": 2, "do": "nan"}, ...]
HOLD: Final = "hold"  # beside it: after how many acknowledged epochs nothing is trained while that file is there
EPOCH_S: Final = 0.25
CHECKPOINT_BYTES: Final = 40_000
HUGE: Final = 1e31
HOARD_BYTES: Final = 3 << 30
HOARD_STEP_BYTES: Final = 64 << 20
HOARD_S: Final = 3.0
_BLOCK_BYTES: Final = 1 << 20


def loss_of(params: dict[str, Any], epoch: int) -> float:
    """The loss of an epoch: a bowl over the parameters that sinks with each epoch."""
    return (float(params["model.x"]) - 0.3) ** 2 + (float(params["model.y"]) - 0.6) ** 2 + 1.0 / epoch


def train(assignment: Assignment, report: Callable[[Report], bool]) -> None:
    """One attempt; a checkpoint at each epoch that the product asks for."""
    first = _restored(assignment) + 1
    truth = Truth(Path(os.environ[VARIABLE]), assignment.trial, assignment.attempt, first - 1)
    for epoch in range(first, assignment.max_epochs + 1):
        time.sleep(EPOCH_S)
        while _is_held(truth.path):
            time.sleep(EPOCH_S / 10)
        value = loss_of(assignment.params, epoch)
        truth.trained(epoch, value)
        metrics, diverged = _misbehave(assignment, epoch, {"loss": value})
        saved = None
        if not diverged and (epoch in assignment.checkpoint_epochs or assignment.path(DRAIN_FILE).exists()):
            saved = write_checkpoint(assignment, epoch, _saver(epoch))
        seconds = assignment.seconds_before + EPOCH_S * (epoch - first + 1)
        goes_on = report(Report(epoch, metrics, seconds, saved, diverged=diverged))
        truth.acknowledged(epoch, value)
        if not goes_on or diverged:
            return


def _is_held(path: Path) -> bool:
    """Whether the fault is late: what it is to hit must not be over before."""
    with contextlib.suppress(FileNotFoundError):
        limit = int(Path(os.environ[PLAN]).with_name(HOLD).read_text())
        return sum(line.kind == "acknowledged" for line in read_truth(path)) >= limit
    return False


def _restored(assignment: Assignment) -> int:
    """The epoch of the checkpoint to start from, read from the file itself; 0 without one."""
    if assignment.start is None:
        return 0
    content = verified_path(Path(assignment.storage), assignment.start).read_bytes()
    return int(json.loads(content.partition(b"\n")[0])["epoch"])


def _saver(epoch: int) -> Callable[[str], None]:
    def save(path: str) -> None:
        Path(path).write_bytes(json.dumps({"epoch": epoch}).encode() + b"\n" + os.urandom(CHECKPOINT_BYTES))

    return save


Metrics = dict[str, float]


def _misbehave(assignment: Assignment, epoch: int, metrics: Metrics) -> tuple[Metrics, bool]:
    """(metrics, diverged) to report, after doing whatever the plan wants done at this epoch."""
    path = os.environ.get(PLAN)
    plan = json.loads(Path(path).read_text()) if path else []
    for step in plan:
        is_due = step["trial"] == assignment.trial and step["epoch"] == epoch
        if is_due and step.get("attempt", assignment.attempt) == assignment.attempt:
            return _DEEDS[step["do"]](assignment, metrics)
    return metrics, False


Deed = Callable[[Assignment, Metrics], tuple[Metrics, bool]]


def _logs(logged: dict[str, Any]) -> Deed:
    """Report `logged` through the product's own functions, as the real callback does."""

    def deed(assignment: Assignment, metrics: Metrics) -> tuple[Metrics, bool]:  # noqa: ARG001  # a deed's signature
        from service.tuning.reporting import made_finite, wanted_metrics  # torch takes seconds to import

        return made_finite(wanted_metrics(logged, assignment.metrics), assignment.objective_goals)

    return deed


def _acts(action: Callable[[], object]) -> Deed:
    """Do something before the report."""

    def deed(assignment: Assignment, metrics: Metrics) -> tuple[Metrics, bool]:  # noqa: ARG001  # a deed's signature
        action()
        return metrics, False

    return deed


def _raise(error: BaseException) -> None:
    raise error


def _print_much() -> None:
    line = b"x" * (_BLOCK_BYTES - 1) + b"\n"
    for _ in range(100):
        sys.stdout.buffer.write(line)
    sys.stdout.flush()


def _unpicklable(assignment: Assignment, metrics: Metrics) -> tuple[Metrics, bool]:  # noqa: ARG001  # a deed's signature
    strange: Any = {**metrics, "model": lambda: None}
    return strange, False


def _allocate() -> None:
    hoard: list[bytes] = []
    while len(hoard) * HOARD_STEP_BYTES < HOARD_BYTES:  # there is an end, lest the machine itself runs out
        hoard.append(b"x" * HOARD_STEP_BYTES)
        time.sleep(0.03)
    time.sleep(HOARD_S)


_DEEDS: Final[dict[str, Deed]] = {
    "nan": _logs({"loss": float("nan")}),
    "inf": _logs({"loss": float("inf")}),
    "-inf": _logs({"loss": float("-inf")}),
    "huge": _logs({"loss": HUGE}),
    "missing": _logs({"accuracy": 0.5}),
    "wrong_type": _logs({"loss": "low"}),
    "raise": _acts(lambda: _raise(ValueError("width must be even"))),
    "memory": _acts(lambda: _raise(MemoryError("no memory for this batch"))),
    "sys_exit": _acts(lambda: sys.exit(7)),
    "exit": _acts(lambda: os._exit(7)),
    "hang": _acts(lambda: time.sleep(3600)),
    "print_100_mb": _acts(_print_much),
    "unpicklable": _unpicklable,
    "allocate": _acts(_allocate),
}
