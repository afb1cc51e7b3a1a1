"""What every model shares that gives one answer per sample, whatever its targets are."""

from __future__ import annotations

from abc import ABC

from torch import Tensor

from trainables.tasks.targets import Targets
from trainables.tasks.task import Batch, Sums, Task


class Predictor(Task, ABC):
    """Training of `forward`, whose outputs for a batch's inputs `targets` compares with the batch's last tensor."""

    def __init__(self, targets: Targets) -> None:
        super().__init__()
        self._targets = targets

    def objective(self, batch: Batch) -> tuple[Tensor, int]:
        """The mean loss of a batch, and the number of its samples."""
        return self._targets.loss(self(*self.inputs_of(batch)), batch[-1]), len(batch[-1])

    def score(self, batch: Batch) -> Sums:
        """The sums of a batch's loss and metrics."""
        return self._targets.score(self(*self.inputs_of(batch)), batch[-1])
