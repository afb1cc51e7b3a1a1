"""Curriculum learning: a training begins with the easy samples and takes in harder ones as it goes."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Iterator
from typing import Any, Literal

import pytorch_lightning as pl
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from trainables.data.batches import Batches, Samples
from trainables.data.file_rows import batches_behind, read_ahead
from trainables.training.pretraining import Pretraining
from trainables.training.transfer import load_given

Pacing = Literal["linear", "root", "step", "exponential"]
Difficulty = Callable[[Any], float]


def share_of(progress: float, pacing: Pacing, start: float) -> float:
    """The share of the samples, easiest first, that a training sees once `progress` (0 to 1) of its curriculum is done.

    `linear` and `root` as competence in Platanios et al. 2019 (equations 3 and 4); `exponential` doubles the share at
    even intervals and `step` goes from `start` to all at half way, as the pacings of Hacohen & Weinshall 2019.
    """
    done = min(1.0, max(0.0, progress))
    match pacing:
        case "linear":
            share = start + (1 - start) * done
        case "root":
            share = math.sqrt(start**2 + (1 - start**2) * done)
        case "exponential":
            share = start ** (1 - done)
        case "step":
            share = start if done < 0.5 else 1.0  # noqa: PLR2004  # half way
    return min(1.0, share)


class Curriculum(pl.LightningDataModule):
    """Any data module, with a training part that grows from its easiest samples to all of them.

    Each epoch has as many samples as ever, drawn from the share of them that `share_of` gives, each about equally often
    (as in Hacohen & Weinshall 2019, algorithm 1). Validation and test are the data module's own.

    Args:
        data: The data module whose training loader is a `Batches` or a DataLoader over a dataset with a length.
        difficulty: What a sample's difficulty is: a function of the sample, the greater the harder, as a class whose
            instances are callable; None takes `reference`.
        reference: A model whose loss on a sample is its difficulty (bootstrapping, Hacohen & Weinshall 2019): a
            LightningModule with its weights, or with `reference_checkpoint`. Its `training_step` gives the loss.
        reference_checkpoint: A checkpoint with the reference's weights; empty where it has them.
        reference_pretraining: How the reference is trained first, by default on `data`, where there is no checkpoint.
        pacing: How the share grows: `linear`, `root`, `step` or `exponential`.
        start: Share of the samples in the first epoch, above 0 and at most 1.
        epochs: Epochs until all samples are in.
    """

    def __init__(  # noqa: PLR0913, PLR0917  # knobs are arguments
        self,
        data: pl.LightningDataModule,
        difficulty: Difficulty | None = None,
        reference: pl.LightningModule | None = None,
        reference_checkpoint: str = "",
        reference_pretraining: Pretraining | None = None,
        pacing: Pacing = "root",
        start: float = 0.2,
        epochs: int = 10,
    ) -> None:
        super().__init__()
        if (difficulty is None) == (reference is None):
            msg = "a curriculum needs one of the two: a difficulty of samples, or a reference model"
            raise ValueError(msg)
        if reference_checkpoint and reference_pretraining:
            msg = f"the reference is in the checkpoint {reference_checkpoint} or trained first, not both"
            raise ValueError(msg)
        if not 0 < start <= 1 or epochs < 1:
            msg = f"start {start} must be above 0 and at most 1, epochs {epochs} at least 1"
            raise ValueError(msg)
        self.data, self.difficulty, self.reference = data, difficulty, reference
        self.reference_checkpoint, self.reference_pretraining = reference_checkpoint, reference_pretraining
        self.pacing, self.start, self.epochs = pacing, start, epochs
        self._order: Tensor | None = None

    def prepare_data(self) -> None:
        """As the data module."""
        self.data.prepare_data()

    def setup(self, stage: str) -> None:
        """As the data module."""
        self.data.trainer = self.trainer
        self.data.setup(stage)

    def train_dataloader(self) -> Batches | DataLoader[Any]:
        """A loader whose every pass draws from the share of the epoch that the trainer is in."""
        loader = self.data.train_dataloader()
        batches = loader if isinstance(loader, Batches) else batches_behind(loader)
        if self._order is None:
            self._order = torch.argsort(self._difficulties(loader if batches is None else batches), stable=True)
        sampler = EasiestFirst(self._order, self._share)
        if batches is not None:
            drawn = Batches(
                *batches.tensors, batch_size=batches.batch_size, drop_last=batches.drop_last, shared=batches.shared,
                sampler=sampler.draw,
            )  # fmt: skip
            return drawn if isinstance(loader, Batches) else read_ahead(drawn, loader.num_workers)
        return DataLoader(
            loader.dataset, loader.batch_size, sampler=sampler, num_workers=loader.num_workers,
            collate_fn=loader.collate_fn, drop_last=loader.drop_last, pin_memory=loader.pin_memory,
        )  # fmt: skip

    def val_dataloader(self) -> Any:  # noqa: ANN401  # whatever the data module has
        """The data module's own."""
        return self.data.val_dataloader()

    def test_dataloader(self) -> Any:  # noqa: ANN401  # whatever the data module has
        """The data module's own."""
        return self.data.test_dataloader()

    def predict_dataloader(self) -> Any:  # noqa: ANN401  # whatever the data module has
        """The data module's own."""
        return self.data.predict_dataloader()

    def _share(self) -> float:
        epoch = self.trainer.current_epoch if self.trainer else 0
        return share_of(epoch / self.epochs, self.pacing, self.start)

    def _difficulties(self, loader: Batches | DataLoader[Any]) -> Tensor:
        dataset: Dataset[Any] = Samples(loader.tensors) if isinstance(loader, Batches) else loader.dataset
        count = len(dataset)  # type: ignore[arg-type]  # a dataset without a length cannot be ordered
        if self.difficulty is not None:
            return torch.tensor([float(self.difficulty(dataset[i])) for i in range(count)])
        if self.reference is None:
            return torch.zeros(count)
        if self.reference_checkpoint or self.reference_pretraining:
            load_given(self.reference, self.reference_checkpoint, self.reference_pretraining, self.data)
        return reference_losses(self.reference, dataset)


class EasiestFirst(Sampler[int]):
    """Draws as many samples as there are, from the first `share()` of `order`, with torch's global random state."""

    def __init__(self, order: Tensor, share: Callable[[], float]) -> None:
        self.order, self.share = order, share

    def __len__(self) -> int:
        return len(self.order)

    def __iter__(self) -> Iterator[int]:
        return iter(self.draw().tolist())

    def draw(self) -> Tensor:
        """The numbers of the samples of one pass."""
        count = len(self.order)
        taken = self.order[: max(1, math.ceil(self.share() * count))]
        rounds = -(-count // len(taken))
        return torch.cat([taken[torch.randperm(len(taken))] for _ in range(rounds)])[:count]


def reference_losses(model: pl.LightningModule, dataset: Dataset[Any]) -> Tensor:
    """The loss of `model` on each sample alone, which is a batch of one; its own mode and weights stay as they were."""
    was_training = model.training
    model.eval()
    losses, taken = [], len(inspect.signature(model.training_step).parameters)
    with torch.no_grad():
        own = torch.Generator()  # a loader draws a seed even where it does not shuffle
        for number, batch in enumerate(DataLoader(dataset, batch_size=1, generator=own)):
            said: Any = model.training_step(*(batch, number)[:taken])
            losses.append(float(said["loss"] if isinstance(said, dict) else said))
    model.train(was_training)
    return torch.tensor(losses)
