"""An average of the weights that training goes through, which is what is validated, saved, tested and kept."""

from __future__ import annotations

from typing import Any, Literal

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import WeightAveraging
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn, get_swa_avg_fn


class WeightAverage(WeightAveraging):
    """Averages weights over epochs (stochastic weight averaging, Izmailov et al. 2018) or steps (an exponential mean).

    Every validation, checkpoint and test is the average's, and so is the module after the training, as in Lightning's
    `WeightAveraging`. Until the average begins it is the model itself, where Lightning's EMAWeightAveraging validates
    the weights of the very beginning. Lightning's StochasticWeightAveraging never validates its average, which a search
    would judge, and adds an epoch to the training of a model with batch norm. Here batch norm's statistics are
    averaged as weights are. A schedule that ends in a constant rate, as `torch.optim.swa_utils.SWALR`, is the
    `lr_scheduler`'s affair.

    Args:
        kind: `epochs`: the plain mean of the weights at each epoch's end; `steps`: after each step the average moves by
            `1 - decay` towards the weights.
        decay: Of the exponential mean, at least 0 and below 1.
        start_epoch: The first epoch that is averaged, from 0.
    """

    def __init__(self, kind: Literal["epochs", "steps"] = "steps", decay: float = 0.99, start_epoch: int = 0) -> None:
        if not 0 <= decay < 1 or start_epoch < 0:
            msg = f"decay {decay} must be in [0, 1), start_epoch {start_epoch} at least 0"
            raise ValueError(msg)
        # all weights at once where it is done after each step; torch's plain mean at once takes no whole numbers
        how = {"avg_fn": get_swa_avg_fn()} if kind == "epochs" else {"multi_avg_fn": get_ema_multi_avg_fn(decay)}  # type: ignore[no-untyped-call]  # torch leaves them bare
        super().__init__(**how)
        self.kind, self.start_epoch = kind, start_epoch

    def on_train_batch_end(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        outputs: Any,  # noqa: ANN401  # inherited
        batch: Any,  # noqa: ANN401  # inherited
        batch_idx: int,
    ) -> None:
        """Move the average: before the validation of the epoch, which comes before Lightning's end of it."""
        is_due = trainer.is_last_batch if self.kind == "epochs" else trainer.global_step > self._latest_update_step
        if is_due and trainer.current_epoch >= self.start_epoch:
            self._average.update_parameters(pl_module)
            self._latest_update_step = trainer.global_step

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Nothing: the epoch is in the average already."""

    def on_validation_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Judge the average."""
        self._follow(pl_module)
        super().on_validation_epoch_start(trainer, pl_module)

    def on_save_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Save the average as the weights, and the model's own beside it."""
        self._follow(pl_module)
        super().on_save_checkpoint(trainer, pl_module, checkpoint)

    def on_load_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Go on from both; for a test the average, which is what the checkpoint has as the weights, is all there is."""
        if self._average_model is not None:
            super().on_load_checkpoint(trainer, pl_module, checkpoint)

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Leave the average in the module."""
        self._follow(pl_module)
        super().on_train_end(trainer, pl_module)

    @property
    def _average(self) -> AveragedModel:
        if self._average_model is None:
            msg = "there is an average only while a training runs"
            raise RuntimeError(msg)
        return self._average_model

    @torch.no_grad()
    def _follow(self, module: pl.LightningModule) -> None:
        """As long as nothing is averaged, be the model itself."""
        if self._average_model is not None and not self._average.n_averaged:
            self._average.update_parameters(module)
            self._average.n_averaged.zero_()
