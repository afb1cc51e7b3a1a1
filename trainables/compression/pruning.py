"""Magnitude pruning: the smallest weights become zero and stay so, at once or little by little."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import pytorch_lightning as pl
import torch
from torch import Tensor
from torch.optim import Optimizer

from trainables.training.around_steps import AroundSteps
from trainables.training.parameters import matching, weight_normed, weights


class Pruning(AroundSteps):
    """Zeroes the weights of least magnitude, over the whole model, or whole filters and rows within each layer.

    Sparsity rises from `start_epoch` over `ramp_epochs` as in Zhu & Gupta 2018 (equation 1), once an epoch; each epoch
    chooses anew among all weights, but what is zero is smallest. Masks are applied after each step, so that what is
    saved, tested and exported is the pruned model itself: they are permanent without a conversion. They are part of the
    callback's state, so that a resumed training goes on. Logs `sparsity`, the share of zeros among what may be pruned.
    Of a filter that `weight_norm` splits the largest weight stays, since zeros alone have no direction.

    Args:
        sparsity: Share of the weights that are zero in the end, 0 to below 1.
        structured: Whether whole rows of a weight (filters of a convolution, units of a layer) are pruned, by their
            L2 norm and in each layer the same share, in place of single weights by magnitude over all layers.
        start_epoch: The first epoch that is pruned, from 0.
        ramp_epochs: Epochs until the whole sparsity is reached; 0 for all at once.
        keep: Patterns of parameter names that are never pruned; a pattern means what it matches and what it begins.
    """

    def __init__(
        self,
        sparsity: float = 0.5,
        structured: bool = False,  # noqa: FBT001, FBT002  # a knob of a config
        start_epoch: int = 0,
        ramp_epochs: int = 0,
        keep: tuple[str, ...] = (),
    ) -> None:
        super().__init__()
        if not 0 <= sparsity < 1 or start_epoch < 0 or ramp_epochs < 0:
            msg = f"sparsity {sparsity} must be in [0, 1), epochs {start_epoch} and {ramp_epochs} at least 0"
            raise ValueError(msg)
        self.sparsity, self.structured, self.keep = sparsity, structured, tuple(keep)
        self.start_epoch, self.ramp_epochs = start_epoch, ramp_epochs
        self._masks: dict[str, Tensor] = {}

    def target(self, epoch: int) -> float:
        """The sparsity of an epoch, from 0."""
        if epoch < self.start_epoch:
            return 0.0
        if self.ramp_epochs == 0:
            return self.sparsity
        done = min(1.0, (epoch - self.start_epoch + 1) / self.ramp_epochs)
        return self.sparsity * (1 - (1 - done) ** 3)

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Choose what is zero from this epoch on."""
        target = self.target(trainer.current_epoch)
        if target > 0:
            prunable = self._prunable(pl_module)
            self._masks = self.masks(prunable, target)
            for name in weight_normed(pl_module).keys() & prunable.keys():
                self._masks[name] = self._masks[name] | _largest(prunable[name])
            self._apply(pl_module)

    def after_step(self, trainer: pl.Trainer, pl_module: pl.LightningModule, optimizer: Optimizer) -> None:
        """Keep zeros zero, whatever momentum and decay have made of them."""
        self._apply(pl_module)

    def on_validation_batch_start(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        batch: Any,  # noqa: ANN401  # any batch
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Judge what is pruned, also where it is an average of weights from before."""
        if batch_idx == 0 and dataloader_idx == 0:
            self._apply(pl_module)

    def on_validation_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Say how sparse the model is."""
        pl_module.log("sparsity", sparsity_of(self._prunable(pl_module)), batch_size=1)

    def state_dict(self) -> dict[str, Any]:
        """The masks."""
        return {"masks": {name: mask.cpu() for name, mask in self._masks.items()}}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take the masks of a checkpoint."""
        self._masks = dict(state_dict["masks"])

    @torch.no_grad()
    def masks(self, prunable: Mapping[str, Tensor], sparsity: float) -> dict[str, Tensor]:
        """For each weight, which of its values stay, as booleans of its shape."""
        if self.structured:
            return {name: _rows_kept(weight, sparsity).expand_as(weight) for name, weight in prunable.items()}
        sizes = torch.cat([weight.detach().abs().flatten() for weight in prunable.values()])
        kept = torch.ones_like(sizes, dtype=torch.bool)
        kept[torch.topk(sizes, round(sparsity * len(sizes)), largest=False).indices] = False
        parts = torch.split(kept, [weight.numel() for weight in prunable.values()])
        return {name: part.view_as(weight) for (name, weight), part in zip(prunable.items(), parts, strict=True)}

    def _prunable(self, module: pl.LightningModule) -> dict[str, torch.nn.Parameter]:
        found = weights(module)
        kept = set(matching(found, self.keep))
        return {name: weight for name, weight in found.items() if name not in kept}

    @torch.no_grad()
    def _apply(self, module: pl.LightningModule) -> None:
        for name, mask in self._masks.items():
            weight = module.get_parameter(name)
            weight.mul_(mask.to(weight.device))


def sparsity_of(prunable: Mapping[str, Tensor]) -> float:
    """The share of zeros among the values of some weights."""
    zeros = sum(int((weight == 0).sum()) for weight in prunable.values())
    return zeros / max(1, sum(weight.numel() for weight in prunable.values()))


def _largest(weight: Tensor) -> Tensor:
    sizes = weight.detach().abs().flatten(1)
    return (sizes == sizes.amax(1, keepdim=True)).view_as(weight)


def _rows_kept(weight: Tensor, sparsity: float) -> Tensor:
    norms = weight.detach().flatten(1).norm(dim=1)
    kept = torch.ones_like(norms, dtype=torch.bool)
    kept[torch.topk(norms, math.floor(sparsity * len(norms)), largest=False).indices] = False
    return kept.view(-1, *[1] * (weight.ndim - 1))
