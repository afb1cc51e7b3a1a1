"""Callbacks that act right before and right after each optimizer step, where Lightning has no hook for the latter.

A schedule is asked for its next rate before `on_train_batch_end`, and a batch need not end with a step at all. Torch's
own hooks of an optimizer are exact, whatever accumulates gradients, scales them or steps by hand.
"""

from __future__ import annotations

from typing import Any, ClassVar

import pytorch_lightning as pl
from torch.optim import Optimizer
from torch.utils.hooks import RemovableHandle


class AroundSteps(pl.Callback):
    """Calls `before_step` and `after_step` around every step of every optimizer, while a training runs.

    Several of them nest in the order of the callbacks, the first one outermost, but for those that say `is_outermost`:
    they come around all others, which so see the rate that the step has.
    """

    is_outermost: ClassVar[bool] = False

    def __init__(self) -> None:
        self._handles: list[RemovableHandle] = []

    def before_step(self, trainer: pl.Trainer, pl_module: pl.LightningModule, optimizer: Optimizer) -> None:
        """Called before the closure of a step, so that gradients are still those of the step before."""

    def after_step(self, trainer: pl.Trainer, pl_module: pl.LightningModule, optimizer: Optimizer) -> None:
        """Called once the parameters have changed."""

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Begin to listen, the first of all such callbacks for them all."""
        callbacks: list[pl.Callback] = trainer.callbacks  # type: ignore[attr-defined]  # which Lightning sets elsewhere
        around = [one for one in callbacks if isinstance(one, AroundSteps)]
        if self is around[0]:
            around.sort(key=lambda one: not one.is_outermost)
            for optimizer in trainer.optimizers:
                self._listen(trainer, pl_module, optimizer, around)

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Listen no longer."""
        self._leave()

    def on_exception(self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException) -> None:
        """Listen no longer: the same callback may serve another training."""
        self._leave()

    def _listen(
        self, trainer: pl.Trainer, module: pl.LightningModule, optimizer: Optimizer, around: list[AroundSteps]
    ) -> None:
        def before(stepping: Optimizer, _args: tuple[Any, ...], _kwargs: dict[str, Any]) -> None:
            for one in around:
                one.before_step(trainer, module, stepping)

        def after(stepping: Optimizer, _args: tuple[Any, ...], _kwargs: dict[str, Any]) -> None:
            for one in reversed(around):
                one.after_step(trainer, module, stepping)

        self._handles += [optimizer.register_step_pre_hook(before), optimizer.register_step_post_hook(after)]

    def _leave(self) -> None:
        for handle in self._handles:
            handle.remove()
        self._handles = []
