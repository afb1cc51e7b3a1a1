"""What simulated trials train: values of parameters and epoch only, and some trials that misbehave."""

from __future__ import annotations

import json
import math
import random
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from service.errors import CheckpointError
from service.tuning.assignment import Assignment, Report
from service.tuning.events import Checkpoint
from service.tuning.reporting import made_finite
from service.tuning.sweep_folder import DRAIN_FILE, YIELD_FILE
from service.tuning.trial_checkpoint import verified_path, write_checkpoint

METRIC = "loss"
ALWAYS = ("nan", "inf", "fatal", "memory")  # misbehaviour that ends a trial for good
ONCE = ("raise", "hang")  # misbehaviour that a retry mends


@dataclass(frozen=True)
class Misbehaviour:
    """What a trial does at an epoch."""

    kind: str
    epoch: int


def value(params: dict[str, Any], epoch: int, seed: int = 0) -> float:
    """The loss of an epoch; with folds, each has a difficulty and each fit some luck of its own."""
    x, y, fold = float(params["model.x"]), float(params["model.y"]), int(params.get("data.init_args.fold", 0))
    luck = random.Random(f"{x} {y} {fold} {seed}").gauss(0.0, 0.5) if "data.init_args.fold" in params else 0.0
    return (math.log(x) + 4) ** 2 + (y - 3) ** 2 / 5 + 2.0 / epoch + 0.7 * fold + luck


def tested_value(trial: int, epoch: int) -> float:
    """The loss of a fit on held-out data, by the epoch of its weights."""
    return trial + epoch / 100


def seconds(params: dict[str, Any], epoch: int) -> float:
    """How long an epoch takes."""
    return 1.0 + float(params["model.y"]) / 4 + (epoch % 3) / 7


@dataclass
class Attempt:
    """One attempt on a simulated worker."""

    assignment: Assignment
    owner: int  # lease epoch of the driver that started it
    epoch: int
    ticket: int = 0  # of the one event that trains its next epoch

    @property
    def key(self) -> tuple[int, int]:
        """(trial, attempt)."""
        return self.assignment.trial, self.assignment.attempt


@dataclass
class Truth:
    """What really happened, whatever anybody says."""

    history: list[tuple[str, int, int]] = field(default_factory=list)  # "start" or "trained", trial, epoch
    acknowledged: dict[tuple[int, int], float] = field(default_factory=dict)  # (trial, epoch) -> value


class Broken(Exception):  # noqa: N818  # what an attempt ends with
    """The attempt is over; `kind` as in `Decider.attempt_failed`."""

    def __init__(self, kind: str) -> None:
        super().__init__(kind)
        self.kind = kind


@dataclass
class Training:
    """All that trials do. The misbehaving ones do it in every run, with or without faults of the machine."""

    misbehaving: dict[int, Misbehaviour]
    truth: Truth = field(default_factory=Truth)
    done: set[int] = field(default_factory=set)

    def begin(self, assignment: Assignment, owner: int) -> Attempt:
        """Load the checkpoint. CheckpointError if it is damaged, or not what its name says."""
        start = assignment.start
        if start is not None:
            path = verified_path(Path(assignment.storage), start)
            held = json.loads(path.read_text())
            if held["epoch"] != start.epoch:
                msg = "the checkpoint is of another epoch"
                raise CheckpointError(msg)
        epoch = 0 if start is None else start.epoch
        if assignment.is_test:
            return Attempt(assignment, owner, epoch)
        self.truth.history.append(("start", assignment.trial, epoch))
        return Attempt(assignment, owner, epoch)

    def train(self, attempt: Attempt) -> Report:
        """One epoch, with its checkpoint; raises Broken where the trial misbehaves."""
        assignment = attempt.assignment
        if assignment.is_test:
            metrics = {"test_loss": tested_value(assignment.trial, attempt.epoch), "extra": 1.0}
            return Report(attempt.epoch, metrics, 1.0, None, diverged=False)
        attempt.epoch += 1
        loss = self._loss(assignment, attempt.epoch)
        metrics, diverged = made_finite({METRIC: loss}, {METRIC: "minimize"})
        self.truth.history.append(("trained", assignment.trial, attempt.epoch))
        report = Report(attempt.epoch, metrics, assignment.seconds_before + attempt.epoch, None, diverged)
        if not diverged and self._saves(assignment, attempt.epoch):
            saved = self._save(assignment, attempt.epoch)
            report = Report(report.epoch, metrics, report.seconds, saved, diverged)
        return report

    def _loss(self, assignment: Assignment, epoch: int) -> float:
        wrong = self.misbehaving.get(assignment.trial)
        if wrong is None or wrong.epoch != epoch:
            return value(assignment.params, epoch, assignment.seed)
        if wrong.kind in ("nan", "inf"):
            return math.nan if wrong.kind == "nan" else -math.inf
        if wrong.kind in ONCE and assignment.trial in self.done:
            return value(assignment.params, epoch, assignment.seed)
        self.done.add(assignment.trial)
        raise Broken({"raise": "user", "hang": "hung"}.get(wrong.kind, wrong.kind))

    @staticmethod
    def _saves(assignment: Assignment, epoch: int) -> bool:
        marks = (DRAIN_FILE, YIELD_FILE.format(trial=assignment.trial))
        return epoch in assignment.checkpoint_epochs or any(assignment.path(name).exists() for name in marks)

    @staticmethod
    def _save(assignment: Assignment, epoch: int) -> Checkpoint:
        held = json.dumps({"epoch": epoch, "trial": assignment.trial})
        return write_checkpoint(assignment, epoch, lambda path: _write(path, held))


def _write(path: str, text: str) -> None:
    Path(path).write_text(text)


def misbehaviours(rng: random.Random, trials: int, last: int) -> dict[int, Misbehaviour]:
    """Some trials that go wrong, but never the first ones: a sweep whose first trials all fail ends at once."""
    chosen = rng.sample(range(4, trials), k=rng.randint(0, 4))
    return {trial: Misbehaviour(rng.choice([*ALWAYS, *ONCE]), rng.randint(1, last)) for trial in chosen}
