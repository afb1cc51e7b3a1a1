"""Small Lightning classes with one peculiarity each, for the tests of training: stand-ins for a user's code."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytorch_lightning as pl
import torch
from pytorch_lightning.cli import LightningArgumentParser, LightningCLI
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset


class Toy(pl.LightningModule):
    """Regression with dropout, so that a lost random state shows in the loss."""

    def __init__(self, width: int = 8, dropout: float = 0.5, say: str = "") -> None:
        super().__init__()
        self.save_hyperparameters()
        self.say = say
        self.net = nn.Sequential(nn.Linear(4, width), nn.ReLU(), nn.Dropout(dropout), nn.Linear(width, 1))

    def training_step(self, batch: list[Tensor]) -> Tensor:
        return nn.functional.mse_loss(self.net(batch[0]), batch[1])

    def validation_step(self, batch: list[Tensor]) -> None:
        self.log("val_loss", nn.functional.mse_loss(self.net(batch[0]), batch[1]))
        if self.say:
            print(self.say)  # noqa: T201  # what it prints must reach the log

    def on_validation_epoch_end(self) -> None:
        group = self.trainer.optimizers[0].param_groups[0]
        self.log("lr", group["lr"])
        self.log("momentum", group.get("momentum", -1.0))


class TrainOnly(pl.LightningModule):
    """No validation loop at all."""

    def __init__(self) -> None:
        super().__init__()
        self.net = nn.Linear(4, 1)

    def training_step(self, batch: list[Tensor]) -> Tensor:
        loss = nn.functional.mse_loss(self.net(batch[0]), batch[1])
        self.log("train_loss", loss, on_epoch=True, on_step=False)
        return loss


class Diverging(Toy):
    """Its loss is NaN from the second epoch on."""

    def validation_step(self, batch: list[Tensor]) -> None:  # noqa: ARG002  # inherited
        self.log("val_loss", float("nan") if self.current_epoch else 1.0)


class Raising(Toy):
    """Fails as user code does."""

    def validation_step(self, batch: list[Tensor]) -> None:
        msg = f"expected 5 columns, got {batch[0].shape[1]}"
        raise ValueError(msg)


class Exiting(Toy):
    """Calls sys.exit, as scripts turned into modules do."""

    def validation_step(self, batch: list[Tensor]) -> None:  # noqa: ARG002  # inherited
        sys.exit(3)


class Rows(pl.LightningDataModule):
    """Shuffled batches through an ordinary DataLoader. Counts how often it is set up."""

    set_up = 0

    def __init__(self, batch_size: int = 8, rows: int = 32) -> None:
        super().__init__()
        self.batch_size, self.rows = batch_size, rows

    def setup(self, stage: str) -> None:  # noqa: ARG002  # inherited
        type(self).set_up += 1
        inputs = torch.linspace(-1, 1, self.rows * 4).reshape(self.rows, 4)
        self.data = TensorDataset(inputs, inputs.sum(1, keepdim=True))

    def train_dataloader(self) -> DataLoader[Any]:
        return DataLoader(self.data, self.batch_size, shuffle=True)

    def val_dataloader(self) -> DataLoader[Any]:
        return DataLoader(self.data, self.batch_size)


class TrainRows(Rows):
    """Has nothing to validate with."""

    val_dataloader = pl.LightningDataModule.val_dataloader


class DrawingRows(Rows):
    """Its noise comes from the global random state, so it must be set up anew for each trial."""

    def setup(self, stage: str) -> None:
        super().setup(stage)
        inputs, targets = self.data.tensors
        self.data = TensorDataset(inputs, targets + torch.randn_like(targets))


class GeneratorRows(Rows):
    """Shuffles with generators of its own, which move on with each pass."""

    def __init__(self, batch_size: int = 8, rows: int = 32) -> None:
        super().__init__(batch_size, rows)
        self.order = torch.Generator().manual_seed(5)
        self.noise = np.random.default_rng(5)

    def train_dataloader(self) -> DataLoader[Any]:
        inputs, targets = self.data.tensors
        noisy = TensorDataset(inputs, targets + float(self.noise.normal()))
        return DataLoader(noisy, self.batch_size, shuffle=True, generator=self.order)


class LinkingCLI(LightningCLI):
    """A user's own CLI: one more argument, linked to the model, and a default of its own."""

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        parser.add_argument("--size", type=int, default=3)
        parser.link_arguments("size", "model.init_args.width")


class SlowUntil(pl.Callback):
    """Until there is a file at `path`, each epoch but the first `free` ones of all trials begins `wait_s` s late."""

    def __init__(self, path: str, wait_s: float, free: int = 0) -> None:
        self.path, self.wait_s, self.free = Path(path), wait_s, free

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:  # noqa: ARG002  # inherited
        with self.path.with_name(f"{self.path.name}-epochs").open("a") as begun:
            begun.write(".")
            begun.flush()
            if begun.tell() <= self.free:
                return
        deadline = time.monotonic() + self.wait_s
        while time.monotonic() < deadline and not self.path.exists():
            time.sleep(0.1)
