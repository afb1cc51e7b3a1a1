"""A small training for tests of callbacks: a linear model on fixed data, with any optimizer, schedule and callbacks."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.data import DataLoader, TensorDataset

Configure = Callable[[nn.Module], Any]
ROWS, FEATURES, CLASSES = 32, 4, 3


class Small(pl.LightningModule):
    """Two layers with a norm between them; notes the learning rate of each step and the batches that it saw."""

    def __init__(self, configure: Configure) -> None:
        super().__init__()
        self.first, self.norm, self.head = nn.Linear(FEATURES, 8), nn.BatchNorm1d(8), nn.Linear(8, CLASSES)
        self.configure = configure
        self.batches: list[tuple[Tensor, ...]] = []
        self.losses: list[float] = []

    def forward(self, inputs: Tensor) -> Tensor:
        logits: Tensor = self.head(self.norm(self.first(inputs)).relu())
        return logits

    def training_step(self, batch: tuple[Tensor, ...], _number: int) -> Tensor:
        self.batches.append(tuple(part.clone() for part in batch))
        loss = functional.cross_entropy(self(batch[0]), batch[1])
        self.losses.append(float(loss.detach()))
        return loss

    def validation_step(self, batch: tuple[Tensor, ...], _number: int) -> None:
        self.log("val_loss", functional.cross_entropy(self(batch[0]), batch[1]))

    def configure_optimizers(self) -> Any:  # noqa: ANN401  # as Lightning has it
        return self.configure(self)


def rows(count: int = ROWS) -> TensorDataset:
    drawn = torch.Generator().manual_seed(7)
    return TensorDataset(torch.randn(count, FEATURES, generator=drawn), torch.arange(count) % CLASSES)


def sgd(rate: float = 0.1, **options: Any) -> Configure:  # noqa: ANN401  # of SGD
    return lambda module: torch.optim.SGD(module.parameters(), rate, **options)


def trainer(folder: Path, callbacks: Sequence[pl.Callback], epochs: int, **options: Any) -> pl.Trainer:  # noqa: ANN401  # of the trainer
    quiet: dict[str, Any] = {
        "accelerator": "cpu", "logger": False, "enable_progress_bar": False, "enable_model_summary": False,
        "enable_checkpointing": False, "num_sanity_val_steps": 0, "default_root_dir": folder,
    }  # fmt: skip
    return pl.Trainer(max_epochs=epochs, callbacks=list(callbacks), **{**quiet, **options})


def fitted(folder: Path, configure: Configure, *callbacks: pl.Callback, epochs: int = 2, **options: Any) -> Small:  # noqa: ANN401  # of the trainer
    """A module after a training with batches of 8 in a fixed order; weights and data are the same each time."""
    torch.manual_seed(3)
    module = Small(configure)
    running = trainer(folder, callbacks, epochs, **options)
    running.fit(module, DataLoader(rows(), 8), DataLoader(rows(), 32))
    return module
