"""Callbacks that change what a training step does, where Lightning lets a callback only look on."""

from __future__ import annotations

import inspect
from abc import ABC, abstractmethod
from collections.abc import Callable
from functools import wraps
from typing import Any, Final

import pytorch_lightning as pl

Step = Callable[..., Any]
_OWN: Final = "own_training_step"


class StepChange(pl.Callback, ABC):
    """Wraps the module's `training_step` while a training runs, and gives it back afterwards.

    Several of them nest in the order of the callbacks, the last one outermost.
    """

    @abstractmethod
    def around(self, step: Step, pl_module: pl.LightningModule) -> Step:
        """The step to make in place of `step`, with its arguments and its answer."""

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Begin to change steps."""
        step = pl_module.training_step
        changed = wraps(step)(self.around(step, pl_module))
        changed.__wrapped__ = inspect.unwrap(step)  # Lightning looks one wrapper deep
        # what the module had of its own: a compiled step, of which an inner change knows
        setattr(changed, _OWN, getattr(step, _OWN, pl_module.__dict__.get("training_step")))
        pl_module.training_step = changed  # type: ignore[method-assign]  # for now

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Change steps no longer."""
        _give_back(pl_module)

    def on_exception(self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException) -> None:
        """Change steps no longer."""
        _give_back(pl_module)


def _give_back(module: pl.LightningModule) -> None:
    changed = module.__dict__.get("training_step")
    if hasattr(changed, _OWN):
        del module.__dict__["training_step"]
        own = getattr(changed, _OWN)
        if own is not None:
            module.__dict__["training_step"] = own
