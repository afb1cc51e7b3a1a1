"""A capsule network: classes are vectors whose length says how sure and whose direction says how the class looks."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from trainables.tasks.task import Batch, Sums, Task
from trainables.vision.capsules import RoutedCapsules, margin_loss, squash


class CapsuleNet(Task):
    """CapsNet with dynamic routing and a decoder that redraws the image (Sabour et al. 2017, arXiv:1710.09829).

    A convolution, a convolution into small capsules, and one capsule per class that gets votes from all of them. Trains
    on the margin loss plus `reconstruction_weight` times the squared error of the redrawn image, summed over its
    pixels; logs that sum as `loss`, beside `acc` and `redraw`, the squared error per pixel.

    Input (batch, channels, image_size, image_size) in [0, 1]; output (batch, classes), the lengths of the capsules.

    The defaults suit images of 8 pixels; the paper's network for MNIST is `image_size` 28, `width` 256, `kernel_size`
    9, `capsule_kinds` 32, `hidden` 512.

    Args:
        image_size: Side of the image in pixels.
        channels: Channels of the input image.
        classes: Number of classes.
        width: Channels of the first convolution.
        kernel_size: Side of the filters of both convolutions in pixels.
        capsule_kinds: Kinds of small capsules at each place.
        capsule_size: Numbers in a small capsule.
        class_size: Numbers in a class's capsule.
        iterations: Iterations of routing, at least 1.
        hidden: Units of the decoder's first layer; its second one has twice as many.
        reconstruction_weight: Weight of the redrawing error; 0 leaves the decoder out.
    """

    def __init__(  # noqa: PLR0913, PLR0917  # knobs of a model are arguments
        self,
        image_size: int = 8,
        channels: int = 1,
        classes: int = 10,
        width: int = 32,
        kernel_size: int = 3,
        capsule_kinds: int = 8,
        capsule_size: int = 8,
        class_size: int = 16,
        iterations: int = 3,
        hidden: int = 64,
        reconstruction_weight: float = 0.0005,
    ) -> None:
        super().__init__()
        side = (image_size - 2 * (kernel_size - 1) - 1) // 2 + 1
        if side < 1 or iterations < 1:
            msg = f"image_size {image_size} leaves nothing after two filters of {kernel_size}, or iterations below 1"
            raise ValueError(msg)
        self.save_hyperparameters()
        self.classes, self.capsule_size, self.weight = classes, capsule_size, reconstruction_weight
        self.convolution = nn.Conv2d(channels, width, kernel_size)
        self.primary = nn.Conv2d(width, capsule_kinds * capsule_size, kernel_size, stride=2)
        self.routed = RoutedCapsules(capsule_kinds * side**2, capsule_size, classes, class_size, iterations)
        self.decoder: nn.Module | None = None
        if reconstruction_weight > 0:
            self.decoder = nn.Sequential(
                nn.Linear(classes * class_size, hidden),
                nn.ReLU(),
                nn.Linear(hidden, 2 * hidden),
                nn.ReLU(),
                nn.Linear(2 * hidden, channels * image_size**2),
                nn.Sigmoid(),
            )

    def forward(self, inputs: Tensor) -> Tensor:
        """The length of each class's capsule, (batch, classes)."""
        lengths: Tensor = self.capsules(inputs).norm(dim=-1)
        return lengths

    def capsules(self, inputs: Tensor) -> Tensor:
        """One capsule per class, (batch, classes, class_size)."""
        primary = self.primary(F.relu(self.convolution(inputs)))
        grouped = primary.unflatten(1, (-1, self.capsule_size)).movedim(2, -1).flatten(1, -2)
        capsules: Tensor = self.routed(squash(grouped))
        return capsules

    def objective(self, batch: Batch) -> tuple[Tensor, int]:
        """Margin loss plus the weighted redrawing error, from the capsule of the right class alone."""
        margins, errors, _ = self._losses(batch)
        return (margins + self.weight * errors).mean(), len(margins)

    def score(self, batch: Batch) -> Sums:
        """Loss, hits of the longest capsule, and redrawing errors."""
        margins, errors, lengths = self._losses(batch)
        count, pixels = len(margins), batch[0][0].numel()
        hits = (lengths.argmax(1) == batch[-1]).sum()
        sums: Sums = {"loss": ((margins + self.weight * errors).sum(), count), "acc": (hits, count)}
        return sums if self.decoder is None else {**sums, "redraw": (errors.sum(), count * pixels)}

    def _losses(self, batch: Batch) -> tuple[Tensor, Tensor, Tensor]:
        images, targets = batch
        capsules = self.capsules(images)
        lengths = capsules.norm(dim=-1)
        margins = margin_loss(lengths, targets)
        if self.decoder is None:
            return margins, margins.new_zeros(()), lengths
        shown = capsules * F.one_hot(targets, self.classes).to(capsules.dtype).unsqueeze(-1)
        errors = ((self.decoder(shown.flatten(1)) - images.flatten(1)) ** 2).sum(1)
        return margins, errors, lengths
