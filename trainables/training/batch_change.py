"""Callbacks that change each training batch once it is on its device, whatever the model and its data are."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

import pytorch_lightning as pl
import torch

from trainables.training.step_change import Step, StepChange


class BatchChange(StepChange, ABC):
    """Hands every training batch through `change` before the model sees it; validation and test stay as they are.

    Mixed precision is the model's affair: the batch is changed with the numbers that it has.
    """

    @abstractmethod
    def change(self, batch: Any, pl_module: pl.LightningModule) -> Any:  # noqa: ANN401  # any batch
        """The batch to train on in place of `batch`."""

    def around(self, step: Step, pl_module: pl.LightningModule) -> Step:
        """The same step on the changed batch."""

        def changed(batch: Any, *args: Any, **kwargs: Any) -> Any:  # noqa: ANN401  # any batch
            with torch.autocast(pl_module.device.type, enabled=False):
                batch = self.change(batch, pl_module)
            return step(batch, *args, **kwargs)

        return changed
