"""A sweep that never ran: a ledger with trials of every kind, to test tracking and reports without training."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from service.tuning.events import (
    Artifacts,
    AttemptEnded,
    AttemptStarted,
    Checkpoint,
    DriverStarted,
    Event,
    Record,
    Reported,
    SweepEnded,
    SweepStarted,
    TrialEnded,
    TrialProposed,
)
from service.tuning.ledger import Ledger
from service.tuning.storage import FolderStorage

LR = "optimizer.init_args.lr"
OPTIMIZER = "optimizer.class_path"
MOMENTUM = "optimizer.init_args.momentum"
WIDTH = "model.init_args.width"
NOISE = "model.init_args.label_noise"
SGD, ADAMW = "torch.optim.SGD", "torch.optim.AdamW"
RUNGS = (1, 3, 9, 27)
START = 1_790_000_000.0

SWEEP = f"""
kind: sweep
name: digits-cnn
description: Synthetic digits sweep.
seed: 7
fit:
  model: {{class_path: trainables.digits.ConvNet, init_args: {{width: 16}}}}
  trainer: {{max_epochs: 27}}
metric: {{name: val_acc, goal: maximize}}
parameters:
  {OPTIMIZER}: {{values: [{SGD}, {ADAMW}]}}
  {LR}: {{min: 1.0e-4, max: 1.0e-1, distribution: log_uniform}}
  {MOMENTUM}: {{min: 0.5, max: 0.99, when: {{{OPTIMIZER}: {SGD}}}}}
  {WIDTH}: {{values: [8, 16, 32]}}
  {NOISE}: {{min: 0.0, max: 0.2}}
search: {{name: random}}
scheduler: {{name: asha, max_epochs: 27, grace_epochs: 1, reduction_factor: 3}}
budget: {{max_trials: 60, max_concurrent_trials: 4}}
"""


@dataclass
class Synthetic:
    """Endless supply of plausible trials, in an order in which four workers would report them."""

    trials: int = 60
    workers: int = 4
    seed: int = 3
    second_objective: bool = False
    scores: dict[int, list[float]] = field(default_factory=dict)  # rung -> accuracies seen there

    def __post_init__(self) -> None:
        self.rng = np.random.default_rng(self.seed)

    def params(self) -> dict[str, Any]:
        """One configuration."""
        params: dict[str, Any] = {
            OPTIMIZER: SGD if self.rng.random() < 0.5 else ADAMW,
            LR: float(10 ** self.rng.uniform(-4, -1)),
            WIDTH: int(self.rng.choice([8, 16, 32])),
            NOISE: float(self.rng.uniform(0, 0.2)),
        }
        if params[OPTIMIZER] == SGD:
            params[MOMENTUM] = float(self.rng.uniform(0.5, 0.99))
        return params

    def accuracy(self, params: dict[str, Any], epoch: int) -> float:
        """A learning curve whose end depends most on the learning rate, some on the width, and not on the noise."""
        peak = -2.6 if params[OPTIMIZER] == ADAMW else -1.5
        distance = (math.log10(params[LR]) - peak) / 1.1
        final = 0.985 * math.exp(-0.5 * distance**2) + 0.004 * math.log2(params[WIDTH] / 8)
        return max(0.08, final * (1 - math.exp(-0.55 * epoch**0.8)) + float(self.rng.normal(0, 0.006)))

    def metrics(self, params: dict[str, Any], epoch: int) -> dict[str, float]:
        """What a fit would log."""
        accuracy = min(0.9985, self.accuracy(params, epoch))
        metrics = {"val_acc": accuracy, "val_loss": 2.3 * (1.02 - accuracy), "train_loss": 2.2 * (1.0 - accuracy)}
        if self.second_objective:
            metrics["latency_ms"] = 2.0 + params[WIDTH] / 4 + float(self.rng.normal(0, 0.1))
        return metrics

    def keeps(self, epoch: int, accuracy: float) -> bool:
        """Asynchronous halving: the top third at each rung goes on."""
        seen = self.scores.setdefault(epoch, [])
        seen.append(accuracy)
        return accuracy >= sorted(seen, reverse=True)[max(0, math.ceil(len(seen) / 3) - 1)]

    def life(self, number: int) -> Iterator[tuple[float, Event]]:
        """(seconds until it happens, event) from proposal to end."""
        params = self.params()
        yield 0.05, TrialProposed(number, params, "defaults" if number == 0 else "searcher", number - 1)
        yield 0.2, AttemptStarted(number, 1, params, None, "new")
        attempt, seconds = 1, 0.0
        for epoch in range(1, RUNGS[-1] + 1):
            if number % 17 == 5 and epoch == 2 and attempt == 1:
                yield 0.3, AttemptEnded(number, 1, "user", "RuntimeError: a flaky data loader\n  at line 3")
                attempt = 2
                yield 0.5, AttemptStarted(number, 2, params, None, "retry")
            duration = 0.5 + params[WIDTH] / 40
            seconds += duration
            metrics = self.metrics(params, epoch)
            if params[LR] > 0.05 and params[OPTIMIZER] == ADAMW:
                bad = {**metrics, "val_acc": -1e30, "val_loss": math.nan}
                yield duration, Reported(number, attempt, epoch, bad, seconds, None, "stop", "diverged", diverged=True)
                yield 0.0, AttemptEnded(number, attempt, "diverged", "val_loss is not finite")
                yield 0.0, TrialEnded(number, "diverged", f"val_loss is nan at epoch {epoch}")
                return
            kept = epoch not in RUNGS[:-1] or self.keeps(epoch, metrics["val_acc"])
            saved = Checkpoint(f"checkpoints/{number}/{epoch}.ckpt", epoch, 11, "00") if epoch in RUNGS else None
            is_end = not kept or epoch == RUNGS[-1]
            reason = "keeps training" if kept else f"not in the best third of rung {epoch}"
            yield (
                duration,
                Reported(number, attempt, epoch, metrics, seconds, saved, "stop" if is_end else "continue", reason),
            )
            if number % 29 == 11 and epoch == 3:
                yield 0.1, AttemptEnded(number, attempt, "user", "ValueError: batch of size 0")
                yield 0.0, TrialEnded(number, "failed", "ValueError: batch of size 0")
                return
            if is_end:
                yield 0.0, AttemptEnded(number, attempt, "finished" if kept else "stopped")
                yield 0.0, TrialEnded(number, "completed" if kept else "stopped", "" if kept else reason)
                return

    def timed(self) -> Iterator[tuple[float, Event]]:
        """(time, event) over all trials, in order of time."""
        pending: list[tuple[float, int, Event, Iterator[tuple[float, Event]]]] = []
        number = 0
        clock = START + 1

        def begin(at: float) -> None:
            nonlocal number
            life = self.life(number)
            delay, event = next(life)
            pending.append((at + delay, number, event, life))
            number += 1

        while number < min(self.workers, self.trials):
            begin(clock)
        while pending:
            index = min(range(len(pending)), key=lambda i: (pending[i][0], pending[i][1]))
            at, trial, event, life = pending.pop(index)
            yield at, event
            following = next(life, None)
            if following is not None:
                pending.append((at + following[0], trial, following[1], life))
            elif number < self.trials:
                begin(at)


def records(spec: dict[str, Any], sweep_id: str, synthetic: Synthetic, *, is_ended: bool = True) -> list[Record]:
    """The whole ledger of a synthetic sweep."""
    facts = {"git_commit": "0123456789abcdef", "torch": "2.13.0", "data_fingerprint": "c0ffee"}
    found = [
        Record(0, START, SweepStarted(sweep_id, spec, facts)),
        Record(1, START, DriverStarted(1, "localhost", 1)),
    ]
    for at, event in synthetic.timed():
        found.append(Record(len(found), at, event))
    if is_ended:
        at = found[-1].at
        found.append(Record(len(found), at + 1, Artifacts(None, ("report/report.html",))))
        found.append(Record(len(found), at + 2, SweepEnded("completed", "all trials are done")))
    return found


def write_ledger(folder: Path, items: list[Record]) -> None:
    """Append those of `items` that the ledger in `folder` has not got yet, with the times that they carry."""
    now = [0.0]
    ledger = Ledger(FolderStorage(folder), lambda: now[0])
    done = len(ledger.open())
    for _, group in itertools.groupby(items[done:], key=lambda record: record.at):
        batch = list(group)
        now[0] = batch[0].at
        ledger.append([record.event for record in batch])
