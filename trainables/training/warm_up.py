"""A learning rate that rises over the first steps, before and beside whatever schedule the model has."""

from __future__ import annotations

from typing import Any

import pytorch_lightning as pl
from torch.optim import Optimizer

from trainables.training.around_steps import AroundSteps


class WarmUp(AroundSteps):
    """Scales the learning rate of each of the first steps, linearly up to what the schedule says (Goyal et al. 2017).

    It composes with every optimizer and schedule, `ReduceLROnPlateau` included, since it changes the rate for the step
    alone: a schedule never sees it. It has no state but the number of steps, so that a resumed training goes on.

    Args:
        steps: Optimizer steps until the full rate; 0 for none.
        start: Share of the rate in the first step, above 0 and at most 1.
    """

    is_outermost = True

    def __init__(self, steps: int = 0, start: float = 0.01) -> None:
        super().__init__()
        if steps < 0 or not 0 < start <= 1:
            msg = f"steps {steps} must be at least 0, and start {start} above 0 and at most 1"
            raise ValueError(msg)
        self.steps, self.start = steps, start
        self._full: list[tuple[dict[str, Any], Any]] = []

    def factor(self, step: int) -> float:
        """The share of the rate in optimizer step `step`, from 0."""
        return 1.0 if step >= self.steps else self.start + (1 - self.start) * step / self.steps

    def before_step(self, trainer: pl.Trainer, pl_module: pl.LightningModule, optimizer: Optimizer) -> None:
        """Lower the rate for this step."""
        factor = self.factor(trainer.global_step)
        if factor < 1:
            for group in optimizer.param_groups:
                self._full.append((group, group["lr"]))
                group["lr"] = group["lr"] * factor

    def after_step(self, trainer: pl.Trainer, pl_module: pl.LightningModule, optimizer: Optimizer) -> None:
        """Give the schedule its rate back, before it is asked for the next one."""
        for group, rate in self._full:
            group["lr"] = rate
        self._full = []
