"""What a model's outputs are compared with: classes, numbers, or yes and no; a loss and metrics for each."""

from __future__ import annotations

from typing import Literal, Protocol

import torch.nn.functional as F
from torch import Tensor

from trainables.tasks.task import Sums

TargetKind = Literal["class", "number"]


class Targets(Protocol):
    """How outputs are judged. `loss` is a mean over samples, `score` gives sums over them."""

    def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """The mean loss, to train on."""

    def score(self, outputs: Tensor, targets: Tensor) -> Sums:
        """Sum and weight of the plain loss and of each metric."""


class Classes:
    """One class number per sample against logits (batch, classes): cross-entropy, and `acc`.

    `label_smoothing` is the share of the target that is spread over all classes (Szegedy et al. 2016), in training
    alone, so that losses of different shares compare.
    """

    def __init__(self, label_smoothing: float = 0.0) -> None:
        self.label_smoothing = label_smoothing

    def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Mean cross-entropy with smoothed labels, in nats."""
        return F.cross_entropy(outputs, targets, label_smoothing=self.label_smoothing)

    def score(self, outputs: Tensor, targets: Tensor) -> Sums:
        """Cross-entropy in nats, and hits."""
        hits = (outputs.argmax(1) == targets).sum()
        return {
            "loss": (F.cross_entropy(outputs, targets, reduction="sum"), len(targets)),
            "acc": (hits, len(targets)),
        }


class Numbers:
    """Real numbers against outputs of the same shape: squared error, and `mae`, the mean absolute error."""

    def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Mean squared error."""
        return F.mse_loss(outputs, targets)

    def score(self, outputs: Tensor, targets: Tensor) -> Sums:
        """Squared and absolute errors."""
        return {
            "loss": (F.mse_loss(outputs, targets, reduction="sum"), targets.numel()),
            "mae": (F.l1_loss(outputs, targets, reduction="sum"), targets.numel()),
        }


class YesNo:
    """Zeros and ones against logits of the same shape: binary cross-entropy in nats, and `acc`."""

    def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Mean binary cross-entropy."""
        return F.binary_cross_entropy_with_logits(outputs, targets.to(outputs.dtype))

    def score(self, outputs: Tensor, targets: Tensor) -> Sums:
        """Binary cross-entropy, and hits of the likelier answer."""
        loss = F.binary_cross_entropy_with_logits(outputs, targets.to(outputs.dtype), reduction="sum")
        hits = ((outputs > 0) == (targets > 0)).sum()
        return {"loss": (loss, targets.numel()), "acc": (hits, targets.numel())}


def targets_of(kind: TargetKind, label_smoothing: float) -> Targets:
    """How to judge outputs for targets of a kind; numbers have no labels to smooth."""
    return Classes(label_smoothing) if kind == "class" else Numbers()
