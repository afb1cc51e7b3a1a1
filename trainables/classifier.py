"""What every classifier here shares: the loss, metrics once per epoch, an optimizer for use without a config."""

from __future__ import annotations

from abc import ABC, abstractmethod

import pytorch_lightning as pl
import torch
import torch.nn.functional as F
from torch import Tensor

Batch = tuple[Tensor, Tensor]


class Classifier(pl.LightningModule, ABC):
    """Cross-entropy training of `forward`, which maps a batch of inputs to logits of shape (batch, classes).

    Logs `train_loss`, `val_loss` and `val_acc` (and `test_loss`, `test_acc`) as means over the epoch's samples. Sums
    are kept in tensors and logged once per epoch: logging each step costs more than a step of a small model.
    """

    def __init__(self, label_smoothing: float = 0.0) -> None:
        super().__init__()
        self._label_smoothing = label_smoothing
        self._sums: dict[str, Tensor] = {}

    @abstractmethod
    def forward(self, inputs: Tensor) -> Tensor:
        """Logits of shape (batch, classes)."""

    def training_step(self, batch: Batch) -> Tensor:
        """The mean loss of a batch."""
        inputs, targets = batch
        loss = F.cross_entropy(self(inputs), targets, label_smoothing=self._label_smoothing)
        self._add("train", torch.stack([loss.detach() * len(targets), loss.new_tensor(len(targets))]))
        return loss

    def validation_step(self, batch: Batch) -> None:
        """Add a batch to the sums of the validation epoch."""
        self._evaluate("val", batch)

    def test_step(self, batch: Batch) -> None:
        """Add a batch to the sums of the test epoch."""
        self._evaluate("test", batch)

    def on_train_epoch_end(self) -> None:
        """Log the epoch's mean training loss."""
        self._log_means("train", ("loss",))

    def on_validation_epoch_end(self) -> None:
        """Log the epoch's mean validation loss and the accuracy."""
        self._log_means("val", ("loss", "acc"))

    def on_test_epoch_end(self) -> None:
        """Log the mean test loss and the accuracy."""
        self._log_means("test", ("loss", "acc"))

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """AdamW at 1e-3; an `optimizer:` section of a LightningCLI config replaces it."""
        return torch.optim.AdamW(self.parameters(), lr=1e-3)

    def _evaluate(self, stage: str, batch: Batch) -> None:
        inputs, targets = batch
        logits = self(inputs)
        loss = F.cross_entropy(logits, targets, reduction="sum")
        hits = (logits.argmax(1) == targets).sum()
        self._add(stage, torch.stack([loss, hits.to(loss.dtype), loss.new_tensor(len(targets))]))

    def _add(self, stage: str, sums: Tensor) -> None:
        self._sums[stage] = self._sums[stage] + sums if stage in self._sums else sums

    def _log_means(self, stage: str, names: tuple[str, ...]) -> None:
        sums = self._sums.pop(stage, None)
        if sums is None:
            return
        means = sums[:-1] / sums[-1]
        self.log_dict({f"{stage}_{name}": mean for name, mean in zip(names, means, strict=True)}, batch_size=1)
