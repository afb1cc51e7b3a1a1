"""Our Lightning callback: reports an epoch's metrics, saves checkpoints, ends the fit on a verdict.

It reports at the end of each training epoch in which validation has run (of every epoch, where the model has none),
after every other callback, so that it sees all that was logged and whether something else has ended the fit.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Final

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import Checkpoint as MonitoringCallback
from pytorch_lightning.utilities.types import LRSchedulerConfig

from service.errors import MissingMetricError, TrialError
from service.spec.objective import Objective
from service.tuning import leaving
from service.tuning.assignment import Assignment, Report
from service.tuning.marks import is_asked_to_save
from service.tuning.trial_checkpoint import write_checkpoint
from service.tuning.trial_generators import own_generator_states, restore_own_generators
from service.tuning.trial_log import LogFile
from service.tuning.trial_state import State, carry_over, fresh_state, random_state, set_random_state

DIVERGED: Final = 1e30


def wanted_metrics(logged: Mapping[str, object], wanted: tuple[str, ...]) -> dict[str, float]:
    """All numeric metrics of an epoch as floats.

    MissingMetricError names what was logged where a wanted metric is not there; TrialError where it is no number.
    """
    numbers: dict[str, float] = {}
    for name, value in logged.items():
        number = number_of(value)
        if number is not None:
            numbers[name] = number
        elif name in wanted:
            msg = f"the metric {name!r} is a {_describe(value)}; log one number with self.log({name!r}, value)"
            raise TrialError(msg)
    missing = [name for name in wanted if name not in numbers]
    if missing:
        names = ", ".join(map(repr, sorted(numbers))) or "nothing"
        msg = (
            f"the fit did not log {', '.join(map(repr, missing))}; it logged {names}. Log it with self.log in "
            "validation_step, or name another metric in the sweep"
        )
        raise MissingMetricError(msg)
    return numbers


def made_finite(metrics: dict[str, float], goals: Mapping[str, str]) -> tuple[dict[str, float], bool]:
    """Objectives that are NaN, infinite or beyond 1e30 become a finite worst value; the flag says that one was."""
    sick = [name for name in goals if not abs(metrics[name]) <= DIVERGED]
    worst = {name: -DIVERGED if goals[name] == "maximize" else DIVERGED for name in sick}
    return {**metrics, **worst}, bool(sick)


@dataclass(frozen=True, slots=True)
class Before:
    """Where a trial stood before the epoch that is reported: its best loss (lower is better) and its last report."""

    best_loss: float = math.inf
    epoch: int = 0


def should_checkpoint(assignment: Assignment, report: Report, before: Before, *, is_last: bool) -> tuple[bool, str]:
    """Whether to save this epoch, and why. An epoch to save that was not validated is made up for by the next one."""
    if report.diverged:
        return False, "a diverged state is worth nothing"
    if any(before.epoch < epoch <= report.epoch for epoch in assignment.checkpoint_epochs):
        return True, f"epoch {report.epoch} is the first at or after one to save"
    if is_last or leaving.is_leaving():
        return True, "the fit ends with this epoch" if is_last else "this node is about to go"
    if is_asked_to_save(assignment):
        return True, "the sweep or this trial is being paused"
    loss = epoch_loss(assignment, report.metrics)
    if assignment.save_above is not None and loss < min(before.best_loss, assignment.save_above):
        return True, "better than the trial before and than what is kept"
    return False, "nothing asks for it"


def epoch_loss(assignment: Assignment, metrics: Mapping[str, float]) -> float:
    """The loss of the metric that chooses the best epoch; +inf without one."""
    if assignment.best_metric is None:
        return math.inf
    name, goal = assignment.best_metric
    return Objective(name, "maximize" if goal == "maximize" else "minimize").loss(metrics.get(name, math.nan))


class ReportCallback(MonitoringCallback):
    """Reports each validated epoch of one attempt through `report`, and stops the fit when that answers False.

    A MonitoringCallback, because Lightning calls those last. Its state travels in checkpoints: random states, the
    values that the optimizers were configured with, and the metrics that a plateau schedule has not seen yet.
    """

    def __init__(self, assignment: Assignment, report: Callable[[Report], bool], log: LogFile) -> None:
        self.assignment, self.log_file = assignment, log
        self.reports = 0
        self._report = report
        self._started_at = 0.0
        self._waited_s = 0.0
        self._has_validated = False
        self._before = Before(epoch=0 if assignment.start is None else assignment.start.epoch)
        self._fresh: State = {}
        self._restored: State | None = None
        self._plateau_metrics: State = {}
        self._trainer: pl.Trainer | None = None

    @property
    def state_key(self) -> str:
        """One name, whatever the class is called in a later version."""
        return "tuneyard.ReportCallback"

    def state_dict(self) -> State:
        """What a checkpoint has to hold beyond Lightning's own state."""
        best = {"trial": self.assignment.trial, "loss": self._before.best_loss}
        state = {"random": random_state(), "fresh": self._fresh, "best": best, "metrics": self._plateau_metrics}
        return state if self._trainer is None else {**state, "generators": own_generator_states(self._trainer)}

    def load_state_dict(self, state_dict: State) -> None:
        """Keep it until the hooks in which each part takes effect."""
        self._restored = state_dict
        if state_dict["best"]["trial"] == self.assignment.trial:
            self._before = replace(self._before, best_loss=float(state_dict["best"]["loss"]))

    def on_fit_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:  # noqa: ARG002  # inherited
        """Intercept the restoring of optimizers, and continue the random sequences of the checkpoint."""
        self._trainer = trainer
        trainer.fit_loop.min_epochs, trainer.fit_loop.epoch_loop.min_steps = 0, None  # a verdict is final
        self._watch_restore(trainer)
        if self._restored is not None:
            set_random_state(self._restored["random"])

    def _watch_restore(self, trainer: pl.Trainer) -> None:
        strategy: Any = trainer.strategy
        restore = strategy.load_optimizer_state_dict

        def restore_unless_changed(checkpoint: State) -> None:
            schedulers = [c.scheduler for c in trainer.lr_scheduler_configs]
            self._fresh = fresh_state(trainer.optimizers, schedulers)
            if self._restored is not None:
                carry_over(checkpoint, self._restored["fresh"], self._fresh, trainer.optimizers, schedulers)
            restore(checkpoint)

        strategy.load_optimizer_state_dict = restore_unless_changed

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:  # noqa: ARG002  # inherited
        """Start the clock, after the schedules that wait for a metric have seen that of the checkpoint's epoch."""
        if not self._fresh:
            self._fresh = fresh_state(trainer.optimizers, [c.scheduler for c in trainer.lr_scheduler_configs])
        if self._restored is not None:
            restore_own_generators(trainer, self._restored.get("generators", {}))
            _step_plateau_schedules(trainer, self._restored["metrics"])
        self._started_at = time.perf_counter()

    def on_train_batch_end(self, *_: Any, **__: Any) -> None:  # noqa: ANN401  # nothing of it is needed
        """Keep the log under its cap, also in a long epoch."""
        self.log_file.keep_under_cap()

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:  # noqa: ARG002  # inherited
        """Remember that this epoch has something to report."""
        self._has_validated = self._has_validated or not trainer.sanity_checking

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:  # noqa: ARG002  # inherited
        """Report the epoch, if it was validated or the model has no validation at all."""
        if self._has_validated or not trainer.enable_validation:
            self._has_validated = False
            self._report_epoch(trainer)

    def _report_epoch(self, trainer: pl.Trainer) -> None:
        assignment = self.assignment
        metrics = wanted_metrics(trainer.callback_metrics, assignment.metrics)
        metrics, diverged = made_finite(metrics, {k: g for k, g in assignment.objective_goals.items() if k in metrics})
        seconds = assignment.seconds_before + time.perf_counter() - self._started_at - self._waited_s
        report = Report(trainer.current_epoch + 1, metrics, seconds, None, diverged)
        is_wanted, _ = should_checkpoint(assignment, report, self._before, is_last=trainer.should_stop)
        self._before = Before(min(self._before.best_loss, epoch_loss(assignment, metrics)), report.epoch)
        if is_wanted:
            self._plateau_metrics = {name: value for name, value in metrics.items() if _is_monitored(trainer, name)}
            saved = write_checkpoint(assignment, report.epoch, trainer.save_checkpoint)
            report = Report(report.epoch, metrics, seconds, saved, diverged)
            leaving.saved()
        if not self._goes_on(report) or diverged:
            trainer.should_stop = True

    def _goes_on(self, report: Report) -> bool:
        self.reports += 1
        asked_at = time.perf_counter()
        try:
            return self._report(report)
        except SystemExit:  # how the driver's side takes an attempt back
            return False
        finally:
            self._waited_s += time.perf_counter() - asked_at


def _plateau_configs(trainer: pl.Trainer) -> list[LRSchedulerConfig]:
    return [c for c in trainer.lr_scheduler_configs if c.reduce_on_plateau and c.interval == "epoch"]


def _is_monitored(trainer: pl.Trainer, name: str) -> bool:
    return any(config.monitor == name for config in _plateau_configs(trainer))


def _step_plateau_schedules(trainer: pl.Trainer, metrics: Mapping[str, float]) -> None:
    # Lightning steps these after the hook in which checkpoints are written, from metrics that it does not save.
    for config in _plateau_configs(trainer):
        scheduler: Any = config.scheduler
        if config.monitor is not None and config.monitor in metrics and trainer.current_epoch % config.frequency == 0:
            scheduler.step(metrics[config.monitor])


def number_of(value: object) -> float | None:
    """What was logged, as a float; None where it is no single number."""
    if isinstance(value, torch.Tensor) and value.numel() == 1:
        return float(value)
    return float(value) if isinstance(value, int | float) else None


def _describe(value: object) -> str:
    return f"tensor of shape {tuple(value.shape)}" if isinstance(value, torch.Tensor) else type(value).__name__
