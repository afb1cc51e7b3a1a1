"""The split that every data module here makes: a test part first, then folds or one validation part."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import pytorch_lightning as pl
import torch
from numpy.typing import NDArray
from torch import Tensor

from trainables.data.batches import Batches

_EVALUATED_AT_ONCE: Final = 1024
_NUMBERS_AT_ONCE: Final = 2**22


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
        search, test = self.tested(labels)
        return Split(*self.validated(search, labels), test)

    def tested(self, labels: NDArray[Any]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """The rows of `labels` that the search sees and those that test, stratified."""
        from sklearn.model_selection import train_test_split

        search, test = train_test_split(
            np.arange(len(labels)), test_size=self.test_share, stratify=labels, random_state=self.seed
        )
        return search, test

    def validated(self, search: NDArray[np.int64], labels: NDArray[Any]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """The rows of `search` that train and those that validate, stratified by `labels`, which are of all rows."""
        from sklearn.model_selection import StratifiedKFold, train_test_split

        if self.folds > 1:
            folds = StratifiedKFold(self.folds, shuffle=True, random_state=self.seed)
            train, validation = (search[part] for part in list(folds.split(search, labels[search]))[self.fold])
        else:
            train, validation = train_test_split(
                search, test_size=self.validation_share, stratify=labels[search], random_state=self.seed
            )
        return train, validation

    def split_evenly(self, count: int) -> Split:
        """Parts of `count` rows at random: for targets that are no classes. The same for the same plan."""
        return self.split(np.zeros(count, dtype=np.int64))

    def split_in_time(self, count: int, gap: int = 0) -> Split:
        """Parts of `count` rows that are in order of time: the last ones test, those before them validate.

        `gap` rows are left out between parts, for rows that reach into their successors. With `folds`, the search's
        rows are cut into `folds` + 1 blocks; block `fold` + 1 validates what is trained on all blocks before it, and
        later ones are left out, so that nothing is predicted from its own future. ValueError where a part is empty.
        """
        search = self.search_in_time(count)
        start, end = self.validated_in_time(search)
        rows = np.arange(count)
        split = Split(rows[: max(0, start - gap)], rows[start : max(0, end - gap)], rows[search:])
        if not (len(split.train) and len(split.validation)):
            msg = f"{count} rows in time are too few for folds {self.folds} with {gap} left out between parts"
            raise ValueError(msg)
        return split

    def search_in_time(self, count: int) -> int:
        """How many of `count` rows in order of time come before the test part."""
        return count - max(1, round(count * self.test_share))

    def validated_in_time(self, search: int) -> tuple[int, int]:
        """The first row that validates, of `search` rows in order of time, and the first one after those."""
        if self.folds > 1:
            start, end = (search * (self.fold + k) // (self.folds + 1) for k in (1, 2))
            return start, end
        return search - max(1, round(search * self.validation_share)), search


class ArrayDataModule(pl.LightningDataModule, ABC):
    """A data module over arrays in memory: a subclass fills `parts` in `load`, with (*inputs, targets) of each part.

    `shared` are tensors that every batch holds whole, between its inputs and its targets: a graph, say. Of a user's own
    data `load` also tells `classes`, their names by their numbers, and `sizes`, what a model must be told.
    """

    def __init__(self, batch_size: int, plan: SplitPlan) -> None:
        super().__init__()
        self.batch_size, self.plan = batch_size, plan
        self.parts: dict[str, tuple[Tensor, ...]] = {}
        self.shared: tuple[Tensor, ...] = ()
        self.classes: list[str] = []
        self.sizes: dict[str, Any] = {}

    def setup(self, stage: str | None = None) -> None:  # noqa: ARG002  # every stage needs the same parts
        """Load the data and split them, once."""
        if not self.parts:
            self.load()

    @abstractmethod
    def load(self) -> None:
        """Read the data and fill `parts`, by `set_parts`."""

    def set_parts(self, *arrays: NDArray[Any], split: Split) -> None:
        """Cut aligned arrays, the targets last, into parts; real numbers become float32, others int64."""
        tensors = [torch.from_numpy(a).to(torch.float32 if a.dtype.kind == "f" else torch.int64) for a in arrays]
        for name in ("train", "validation", "test"):
            rows = torch.from_numpy(getattr(split, name))
            self.parts[name] = tuple(tensor[rows] for tensor in tensors)

    def train_dataloader(self) -> Batches:
        """Shuffled batches; a last one that is not full is left out, since batch norm cannot take a single sample."""
        samples = len(self.parts["train"][0])
        return self._batches("train", min(self.batch_size, samples), shuffle=True, drop_last=True)

    def val_dataloader(self) -> Batches:
        """All validation samples, in order, in few large batches."""
        return self._batches("validation", self._evaluated_at_once("validation"))

    def test_dataloader(self) -> Batches:
        """All test samples, in order."""
        return self._batches("test", self._evaluated_at_once("test"))

    def _evaluated_at_once(self, part: str) -> int:
        """Many small samples; of large ones no more than are trained on, so that they fit where those do."""
        numbers = sum(tensor[:1].numel() for tensor in self.parts[part])
        return max(self.batch_size, min(_EVALUATED_AT_ONCE, _NUMBERS_AT_ONCE // max(1, numbers)))

    def _batches(self, part: str, batch_size: int, *, shuffle: bool = False, drop_last: bool = False) -> Batches:
        devices = self.trainer.world_size if self.trainer else 1
        if devices > 1:
            msg = f"{type(self).__name__} has its data for one device, the trainer has {devices}: set trainer.devices 1"
            raise ValueError(msg)
        tensors = self.parts[part]
        return Batches(*tensors, batch_size=batch_size, shuffle=shuffle, drop_last=drop_last, shared=self.shared)


def standardised(values: NDArray[Any], rows: NDArray[np.int64]) -> NDArray[Any]:
    """`values` less their mean over `rows`, over their deviation there; a constant column becomes zeros."""
    mean, deviation = values[rows].mean(0), values[rows].std(0)
    shifted: NDArray[Any] = (values - mean) / np.where(deviation > 0, deviation, 1.0)
    return shifted
