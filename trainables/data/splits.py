"""The split that every data module here makes: a test part first, then folds or one validation part, all stratified."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pytorch_lightning as pl
import torch
from numpy.typing import NDArray
from torch import Tensor

from trainables.data.batches import Batches


@dataclass(frozen=True, slots=True)
class Split:
    """Row numbers of each part; no row is in two of them."""

    train: NDArray[np.int64]
    validation: NDArray[np.int64]
    test: NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class SplitPlan:
    """How to split. `folds` 1: one validation part of `validation_share`; else `fold` (from 0) is the validation part.

    ValueError says which number is out of range.
    """

    seed: int = 0
    folds: int = 1
    fold: int = 0
    validation_share: float = 0.2
    test_share: float = 0.2

    def __post_init__(self) -> None:
        if not 0 <= self.fold < self.folds:
            msg = f"fold {self.fold} is not among the {self.folds} folds, which count from 0"
            raise ValueError(msg)
        if not (0 < self.validation_share < 1 and 0 < self.test_share < 1):
            msg = f"validation_share {self.validation_share} and test_share {self.test_share} must lie between 0 and 1"
            raise ValueError(msg)

    def split(self, labels: NDArray[Any]) -> Split:
        """Stratified parts of the rows of `labels`; the same for the same plan, whatever the random state."""
        from sklearn.model_selection import StratifiedKFold, train_test_split

        rows = np.arange(len(labels))
        search, test = train_test_split(rows, test_size=self.test_share, stratify=labels, random_state=self.seed)
        if self.folds > 1:
            folds = StratifiedKFold(self.folds, shuffle=True, random_state=self.seed)
            train, validation = (search[part] for part in list(folds.split(search, labels[search]))[self.fold])
        else:
            train, validation = train_test_split(
                search, test_size=self.validation_share, stratify=labels[search], random_state=self.seed
            )
        return Split(train, validation, test)


class ArrayDataModule(pl.LightningDataModule):
    """A data module over arrays in memory: a subclass fills `parts` in `setup`, with (inputs, targets) of each part."""

    def __init__(self, batch_size: int, plan: SplitPlan) -> None:
        super().__init__()
        self.batch_size, self.plan = batch_size, plan
        self.parts: dict[str, tuple[Tensor, Tensor]] = {}

    def set_parts(self, inputs: NDArray[Any], targets: NDArray[Any], split: Split) -> None:
        """Cut the arrays into parts: inputs become float32, targets int64."""
        features, labels = torch.from_numpy(inputs).float(), torch.from_numpy(targets).long()
        for name in ("train", "validation", "test"):
            rows = torch.from_numpy(getattr(split, name))
            self.parts[name] = (features[rows], labels[rows])

    def train_dataloader(self) -> Batches:
        """Shuffled batches; a last one that is not full is left out, since batch norm cannot take a single sample."""
        samples = len(self.parts["train"][0])
        return Batches(*self.parts["train"], batch_size=min(self.batch_size, samples), shuffle=True, drop_last=True)

    def val_dataloader(self) -> Batches:
        """All validation samples, in order, in few large batches."""
        return Batches(*self.parts["validation"], batch_size=1024)

    def test_dataloader(self) -> Batches:
        """All test samples, in order."""
        return Batches(*self.parts["test"], batch_size=1024)
