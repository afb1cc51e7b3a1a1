"""A callback that logs how good a model is on validation data that are damaged: how sturdy it is, as a metric."""

from __future__ import annotations

from typing import Any

import pytorch_lightning as pl
import torch
from torch import Tensor

from trainables.tasks.task import Sums, add_up, means_of


class DamagedInputs(pl.Callback):
    """Logs each validation metric again, as `val_damaged_<name>`, with a share of the first input's entries replaced.

    Of a text as word numbers that are words that nobody knows, of an image pixels. The damage is the same in every
    epoch, and draws nothing from the global random state. For models with the `score` of `trainables.tasks.task.Task`.

    Args:
        share: Probability that an entry is replaced, 0 to 1.
        value: What an entry is replaced by; 1 is the unknown word.
        spare: Entries with this value stay as they are; 0 is what pads a text.
        seed: Seed of the damage.
    """

    def __init__(self, share: float = 0.3, value: float = 1, spare: float = 0, seed: int = 0) -> None:
        if not 0 <= share <= 1:
            msg = f"share {share} must lie between 0 and 1"
            raise ValueError(msg)
        self.share, self.value, self.spare, self.seed = share, value, spare, seed
        self._sums: dict[str, Tensor] = {}

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """See that the model can be asked."""
        if not hasattr(pl_module, "score"):
            msg = f"{type(pl_module).__name__} has no method `score(batch)` with its metrics' sums, as a Task has"
            raise ValueError(msg)

    def on_validation_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Begin anew."""
        self._sums = {}

    def on_validation_batch_end(  # inherited
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        outputs: Any,  # noqa: ANN401  # inherited
        batch: Any,  # noqa: ANN401  # inherited
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Score the damaged batch."""
        with trainer.precision_plugin.val_step_context():  # as the batch itself was scored
            scores: Sums = pl_module.score((self.damaged(batch[0], batch_idx), *batch[1:]))  # type: ignore[operator]  # looked for in `setup`
        add_up(self._sums, scores)

    def on_validation_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Log the means."""
        means = {f"val_damaged_{name}": mean for name, mean in means_of(self._sums, trainer).items()}
        pl_module.log_dict(means, batch_size=1, sync_dist=True)

    def damaged(self, inputs: Tensor, number: int) -> Tensor:
        """The inputs of the batch with this number, some of their entries replaced."""
        generator = torch.Generator().manual_seed(self.seed + number)
        is_hit = torch.rand(inputs.shape, generator=generator).to(inputs.device) < self.share
        return inputs.masked_fill(is_hit & (inputs != self.spare), self.value)
