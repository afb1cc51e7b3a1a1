"""Batches of tensors that are already in memory: slicing them costs a tenth of collating samples one by one."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Protocol

import torch
from torch import Tensor
from torch.utils.data import Dataset


class Rows(Protocol):
    """A tensor, or what gives rows of one when they are asked for."""

    def __len__(self) -> int: ...
    def __getitem__(self, rows: slice | Tensor, /) -> Tensor:
        """Some rows, in the order asked for."""


class Samples(Dataset[tuple[Tensor, ...]]):
    """Aligned rows one by one, for a DataLoader."""

    def __init__(self, tensors: tuple[Rows, ...]) -> None:
        self._tensors = tensors

    def __len__(self) -> int:
        return len(self._tensors[0])

    def __getitem__(self, row: int) -> tuple[Tensor, ...]:
        return tuple(rows[torch.tensor([row])][0] for rows in self._tensors)


class Batches:
    """An iterable over batches of aligned tensors (or `Rows`), in a new random order per pass if `shuffle`.

    The order comes from torch's global random state, as with a DataLoader, so a seed fixes it and a restored random
    state continues it. `drop_last` leaves out a last batch of one sample or more that is not full. `shared` tensors are
    whole in every batch, before its last tensor. `sampler` gives the rows of each pass in place of all of them, as many
    as there are. For one device.
    """

    def __init__(
        self,
        *tensors: Rows,
        batch_size: int,
        shuffle: bool = False,
        drop_last: bool = False,
        shared: tuple[Tensor, ...] = (),
        sampler: Callable[[], Tensor] | None = None,
    ) -> None:
        if batch_size < 1:
            msg = f"batch_size must be at least 1, got {batch_size}"
            raise ValueError(msg)
        self.tensors, self.batch_size = tensors, batch_size
        self.shuffle, self.drop_last, self.shared = shuffle, drop_last, shared
        self._sampler = sampler

    def __len__(self) -> int:
        samples = len(self.tensors[0])
        return samples // self.batch_size if self.drop_last else -(-samples // self.batch_size)

    def __iter__(self) -> Iterator[tuple[Tensor, ...]]:
        return (self.at(rows) for rows in self.rows())

    def rows(self) -> Iterator[slice | Tensor]:
        """The rows of each batch of one pass."""
        order = self._order()
        for i in range(len(self)):
            part = slice(i * self.batch_size, (i + 1) * self.batch_size)
            yield part if order is None else order[part]

    def at(self, rows: slice | Tensor) -> tuple[Tensor, ...]:
        """The batch of some rows."""
        *inputs, targets = (rows_of[rows] for rows_of in self.tensors)
        return (*inputs, *self.shared, targets)

    def _order(self) -> Tensor | None:
        """The rows of one pass; None for all of them as they are."""
        if self._sampler is not None:
            return self._sampler()
        return torch.randperm(len(self.tensors[0])) if self.shuffle else None
