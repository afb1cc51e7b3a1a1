"""L1 and L2 penalties as knobs of their own, for any optimizer, without norms and biases."""

from __future__ import annotations

import pytorch_lightning as pl
import torch
from torch import Tensor
from torch.optim import Optimizer

from trainables.training.around_steps import AroundSteps
from trainables.training.parameters import weight_normed, weights


class Penalties(AroundSteps):
    """Trains on `loss + l1 * sum|w| + l2 / 2 * sum w^2` over the weights w.

    L2 adds its gradient before a step. L1 shrinks each weight by `lr * l1` after it and stops at zero (proximal
    gradient, Beck & Teboulle 2009), so that weights become exactly zero, which a subgradient never reaches. Neither is
    part of the loss that is logged. With an adaptive optimizer L2 is not what weight decay is (Loshchilov & Hutter
    2019): for that use AdamW's `weight_decay`. Of a weight that `weight_norm` splits the lengths are w: how long the
    directions themselves are changes nothing, and one that shrinks to nothing is none.

    Args:
        l1: Weight of the absolute values, 0 or more.
        l2: Weight of half the squares, 0 or more: what SGD calls `weight_decay`.
        with_norms_and_biases: Whether parameters of normalisations and those of one dimension are penalised, too.
    """

    def __init__(self, l1: float = 0.0, l2: float = 0.0, with_norms_and_biases: bool = False) -> None:  # noqa: FBT001, FBT002  # a knob of a config
        super().__init__()
        if l1 < 0 or l2 < 0:
            msg = f"l1 {l1} and l2 {l2} must be at least 0"
            raise ValueError(msg)
        self.l1, self.l2, self.with_norms_and_biases = l1, l2, with_norms_and_biases

    def on_before_optimizer_step(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, optimizer: Optimizer
    ) -> None:
        """Add the gradient of L2; mixed precision has unscaled the others by now."""
        if self.l2:
            for weight in self._weights(pl_module, optimizer):
                if weight.grad is not None:
                    weight.grad.add_(weight.detach(), alpha=self.l2)

    @torch.no_grad()
    def after_step(self, trainer: pl.Trainer, pl_module: pl.LightningModule, optimizer: Optimizer) -> None:
        """Shrink towards zero, each weight by its own group's learning rate."""
        if not self.l1:
            return
        penalised = {id(one) for one in self._weights(pl_module, optimizer)}
        for group in optimizer.param_groups:
            for weight in group["params"]:
                if id(weight) in penalised and weight.grad is not None:
                    weight.copy_(torch.nn.functional.softshrink(weight, float(group["lr"]) * self.l1))

    def _weights(self, module: pl.LightningModule, optimizer: Optimizer) -> list[Tensor]:
        own = {id(parameter) for group in optimizer.param_groups for parameter in group["params"]}
        named = weights(module, with_norms_and_biases=self.with_norms_and_biases)
        for direction, length in weight_normed(module).items():
            if named.pop(direction, None) is not None:
                named[length] = module.get_parameter(length)
        return [parameter for parameter in named.values() if id(parameter) in own]
