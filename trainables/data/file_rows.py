"""Samples that are files: kept in memory where they fit, else read when a batch needs them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from trainables.data.batches import Batches
from trainables.data.splits import ArrayDataModule, Split, SplitPlan

Read = Callable[[Path], NDArray[np.float32]]
_FLOAT_BYTES = 4


class FileRows:
    """Rows of a tensor (rows, *shape) that are read from their files each time; for `Batches` in place of a tensor."""

    def __init__(self, paths: Sequence[Path], read: Read) -> None:
        self.paths, self._read = list(paths), read

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, rows: slice | Tensor) -> Tensor:
        chosen = self.paths[rows] if isinstance(rows, slice) else [self.paths[row] for row in rows.tolist()]
        return torch.from_numpy(np.stack([self._read(path) for path in chosen]))


class FileDataModule(ArrayDataModule):
    """A data module of samples that are files of one shape: a subclass hands them over in `load`, with `set_files`.

    They are kept in memory if all of them take `memory_bytes` at most, and read anew for each batch otherwise: by
    `workers` processes, or by the one that trains where that is 0. Batches are the same in either case.
    """

    def __init__(self, batch_size: int, plan: SplitPlan, memory_bytes: int, workers: int) -> None:
        super().__init__(batch_size, plan)
        self.memory_bytes, self.workers = memory_bytes, workers
        self.is_in_memory = True

    def set_files(
        self, paths: Sequence[Path], read: Read, shape: tuple[int, ...], *others: NDArray[Any], split: Split
    ) -> None:
        """Cut files, each of which `read` turns into an array of `shape`, and what goes with them into parts."""
        self.is_in_memory = len(paths) * int(np.prod(shape)) * _FLOAT_BYTES <= self.memory_bytes
        if self.is_in_memory:
            samples = np.empty((len(paths), *shape), dtype=np.float32)
            for row, path in enumerate(paths):
                samples[row] = read(path)
            self.set_parts(samples, *others, split=split)
            return
        self.set_parts(*others, split=split)
        for name, tensors in self.parts.items():
            rows = FileRows([paths[row] for row in getattr(split, name)], read)
            self.parts[name] = (cast("Tensor", rows), *tensors)  # `Batches` takes either

    def _evaluated_at_once(self, part: str) -> int:  # noqa: ARG002  # inherited
        """Samples are large: as many as are trained on."""
        return self.batch_size

    def _batches(self, part: str, batch_size: int, *, shuffle: bool = False, drop_last: bool = False) -> Any:  # noqa: ANN401  # two kinds of loader
        batches = super()._batches(part, batch_size, shuffle=shuffle, drop_last=drop_last)
        return batches if self.is_in_memory or not self.workers else read_ahead(batches, self.workers)


def read_ahead(batches: Batches, workers: int) -> DataLoader[tuple[Tensor, ...]]:
    """The same batches in the same order, made by other processes ahead of time."""
    seeds = torch.Generator()  # of the workers, who draw nothing: the global state gives the order alone
    return DataLoader(
        _OnDemand(batches), sampler=_Order(batches), batch_size=None, num_workers=workers, generator=seeds
    )  # fmt: skip


def batches_behind(loader: DataLoader[Any]) -> Batches | None:
    """What a loader of `read_ahead` reads; None for any other loader."""
    return loader.dataset.batches if isinstance(loader.dataset, _OnDemand) else None


class _OnDemand(Dataset[tuple[Tensor, ...]]):
    def __init__(self, batches: Batches) -> None:
        self.batches = batches

    def __getitem__(self, rows: slice | Tensor) -> tuple[Tensor, ...]:
        return self.batches.at(rows)


class _Order(Sampler[Any]):
    def __init__(self, batches: Batches) -> None:
        self._batches = batches

    def __len__(self) -> int:
        return len(self._batches)

    def __iter__(self) -> Iterator[slice | Tensor]:
        return self._batches.rows()
