"""What every model here shares: its steps, metrics logged once per epoch, an optimizer for use without a config."""

from __future__ import annotations

from abc import ABC, abstractmethod

import pytorch_lightning as pl
import torch
from torch import Tensor

Batch = tuple[Tensor, ...]
Sums = dict[str, tuple[Tensor, int | Tensor]]


class Task(pl.LightningModule, ABC):
    """Trains on batches `(*inputs, targets)` and logs each metric as a mean over an epoch.

    A subclass says what a batch adds to the epoch's sums: `score` for evaluation, `objective` for training. Logs
    `train_loss`, and `val_<name>` and `test_<name>` for each name that `score` returns, `loss` among them. Sums are
    kept in tensors and logged once per epoch: logging each step costs more than a step of a small model. Several
    devices add theirs up.
    """

    def __init__(self) -> None:
        super().__init__()
        self._sums: dict[str, dict[str, Tensor]] = {}

    @abstractmethod
    def objective(self, batch: Batch) -> tuple[Tensor, int | Tensor]:
        """The loss to minimise, and over how many samples (or tokens) it is a mean."""

    @abstractmethod
    def score(self, batch: Batch) -> Sums:
        """Each metric's sum over the batch, and over how much; called without gradients."""

    def inputs_of(self, batch: Batch) -> Batch:
        """The part of a batch that `forward` takes: all but the targets, which come last."""
        return batch[:-1]

    def setup(self, stage: str) -> None:  # noqa: ARG002  # whatever is to come
        """Begin anew where a run before this one was broken off within an epoch."""
        self._sums.clear()

    def training_step(self, batch: Batch) -> Tensor:
        """The mean loss of a batch."""
        loss, weight = self.objective(batch)
        self._add("train", {"loss": (exact(loss.detach()) * weight, weight)})
        return loss

    def validation_step(self, batch: Batch) -> None:
        """Add a batch to the sums of the validation epoch."""
        self._add("val", self.score(batch))

    def test_step(self, batch: Batch) -> None:
        """Add a batch to the sums of the test epoch."""
        self._add("test", self.score(batch))

    def predict_step(self, batch: Batch) -> Tensor:
        """What `forward` gives for a batch, whose targets are ignored."""
        outputs: Tensor = self(*self.inputs_of(batch))
        return outputs

    def on_train_epoch_end(self) -> None:
        """Log the epoch's mean training loss."""
        self._log_means("train")

    def on_validation_epoch_end(self) -> None:
        """Log the epoch's validation metrics."""
        self._log_means("val")

    def on_test_epoch_end(self) -> None:
        """Log the test metrics."""
        self._log_means("test")

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """AdamW at 1e-3; an `optimizer:` section of a LightningCLI config replaces it."""
        return torch.optim.AdamW(self.parameters(), lr=1e-3)

    def _add(self, stage: str, sums: Sums) -> None:
        add_up(self._sums.setdefault(stage, {}), sums)

    def _log_means(self, stage: str) -> None:
        means = means_of(self._sums.pop(stage, {}), self.trainer)
        self.log_dict({f"{stage}_{name}": mean for name, mean in means.items()}, batch_size=1, sync_dist=True)


def add_up(kept: dict[str, Tensor], sums: Sums) -> None:
    """Add a batch's sums and weights to those that are kept, as pairs."""
    for name, (total, weight) in sums.items():
        one = exact(total)
        # a number is filled in on the device: to copy it there would wait for all that runs there
        pair = torch.stack([one, weight.to(one) if isinstance(weight, Tensor) else one.new_full((), weight)])
        kept[name] = kept[name] + pair if name in kept else pair


def means_of(kept: dict[str, Tensor], trainer: pl.Trainer) -> dict[str, Tensor]:
    """What `add_up` has kept as means over the samples of all devices."""
    means = {}
    for name, pair in kept.items():
        total, weight = torch.as_tensor(trainer.strategy.reduce(pair, reduce_op="sum"))
        means[name] = total / weight
    return means


def exact(total: Tensor) -> Tensor:
    """A sum in single precision at least: a count in bfloat16 ends at 256."""
    return total.to(torch.promote_types(total.dtype, torch.float32))
