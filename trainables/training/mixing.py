"""Trains on mixtures of two samples: mixup and cutmix."""

from __future__ import annotations

import math
from typing import Any, Final

import pytorch_lightning as pl
import torch
import torch.nn.functional as F
from torch import Tensor

from trainables.training.batch_change import BatchChange

_IMAGE_DIMENSIONS: Final = 4


class Mixing(BatchChange):
    """Mixes each sample of a batch `(inputs, classes)` with another one, and its target with that one's.

    Mixup (Zhang et al. 2018) adds `share * one + (1 - share) * other`; cutmix (Yun et al. 2019) puts a rectangle of the
    other image into the first, of `1 - share` of its area. The share is drawn from Beta(alpha, alpha), once a batch.
    Targets become probabilities (batch, classes), which `torch.nn.functional.cross_entropy` takes, smoothing included.
    Where both are on, each batch gets one of the two, by a fair coin.

    Args:
        classes: Number of classes.
        mixup_alpha: Alpha of mixup; 0 for none. Inputs are real numbers of any shape.
        cutmix_alpha: Alpha of cutmix; 0 for none. Inputs are images (batch, channels, height, width).
    """

    def __init__(self, classes: int, mixup_alpha: float = 0.0, cutmix_alpha: float = 0.0) -> None:
        super().__init__()
        if mixup_alpha < 0 or cutmix_alpha < 0 or classes < 1:
            msg = f"mixup_alpha {mixup_alpha}, cutmix_alpha {cutmix_alpha} must be at least 0, classes {classes} 1"
            raise ValueError(msg)
        self.classes, self.mixup_alpha, self.cutmix_alpha = classes, mixup_alpha, cutmix_alpha

    def change(self, batch: Any, pl_module: pl.LightningModule) -> Any:  # noqa: ANN401  # as the base has it
        """A batch of mixtures, drawn with torch's global random state."""
        if not (self.mixup_alpha or self.cutmix_alpha):
            return batch
        if len(batch) != len(("inputs", "targets")) or batch[1].is_floating_point():
            given = ", ".join(f"{part.dtype} {tuple(part.shape)}" for part in batch)
            msg = f"mixing needs batches of inputs with class numbers as targets, got {given}"
            raise ValueError(msg)
        inputs, targets = batch
        cuts = self.cutmix_alpha > 0 and (self.mixup_alpha == 0 or bool(torch.rand(()) < 0.5))  # noqa: PLR2004  # a fair coin
        alpha = self.cutmix_alpha if cuts else self.mixup_alpha
        share = drawn_share(alpha)
        partners = torch.randperm(len(inputs)).to(inputs.device)
        mixed, share = cut(inputs, partners, share) if cuts else (torch.lerp(inputs[partners], inputs, share), share)
        hot = F.one_hot(targets, self.classes).to(inputs.dtype)
        return mixed, torch.lerp(hot[partners], hot, share)


def drawn_share(alpha: float) -> float:
    """A draw from Beta(alpha, alpha), which is near 0 or 1 for a small alpha.

    By logarithms of two gamma variables, each that of alpha + 1 times a uniform one to the power of 1 / alpha
    (Marsaglia & Tsang 2000): torch's own are both 0 for a small alpha, and then the share is a half.
    """
    logarithms = torch.distributions.Gamma(alpha + 1, 1.0).sample((2,)).log() + torch.rand(2).log() / alpha
    return float(torch.sigmoid(logarithms[0] - logarithms[1]))


def cut(images: Tensor, partners: Tensor, share: float) -> tuple[Tensor, float]:
    """Images with a rectangle of their partners, and the share of each image that is still its own."""
    if images.ndim != _IMAGE_DIMENSIONS:
        msg = f"cutmix needs images (batch, channels, height, width), got inputs of shape {tuple(images.shape)}"
        raise ValueError(msg)
    height, width = images.shape[-2:]
    side = math.sqrt(1 - share)
    top, bottom = _span(height, side)
    left, right = _span(width, side)
    mixed = images.clone()
    mixed[:, :, top:bottom, left:right] = images[partners][:, :, top:bottom, left:right]
    return mixed, 1 - (bottom - top) * (right - left) / (height * width)


def _span(length: int, side: float) -> tuple[int, int]:
    """A part of a length around a place drawn uniformly, cut off at the edges as in the paper."""
    half, middle = int(length * side) // 2, int(torch.randint(length, ()))
    return max(0, middle - half), min(length, middle + half)
