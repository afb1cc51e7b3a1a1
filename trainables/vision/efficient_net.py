"""EfficientNet: one coefficient makes a network deeper, wider and sharper-eyed together."""

from __future__ import annotations

import math
from typing import Final, Literal, NamedTuple

import torch.nn.functional as F
from torch import Tensor, nn

from trainables.tasks.classifier import Classifier
from trainables.vision.mb_conv import MBConv, Shape, conv_bn_act

Baseline = Literal["b0", "small"]
_CHANNEL_STEP: Final = 8
_MIN_KEPT: Final = 0.9


class Stage(NamedTuple):
    """A row of the paper's Table 1: `layers` blocks of the same shape, the first of which has the stride."""

    expansion: int
    channels: int
    layers: int
    kernel_size: int
    stride: int


class Plan(NamedTuple):
    """What is scaled: the side of the image in pixels, and the channels of stem and head around the stages."""

    resolution: int
    stem: int
    stem_stride: int
    stages: tuple[Stage, ...]
    head: int


_PLANS: Final[dict[str, Plan]] = {
    "b0": Plan(
        224, 32, 2,
        (Stage(1, 16, 1, 3, 1), Stage(6, 24, 2, 3, 2), Stage(6, 40, 2, 5, 2), Stage(6, 80, 3, 3, 2),
         Stage(6, 112, 3, 5, 1), Stage(6, 192, 4, 5, 2), Stage(6, 320, 1, 3, 1)),
        1280,
    ),
    "small": Plan(8, 16, 1, (Stage(1, 16, 1, 3, 1), Stage(4, 24, 2, 3, 2), Stage(4, 40, 1, 3, 2)), 96),
}  # fmt: skip


class EfficientNet(Classifier):
    """Stages of MBConv blocks, scaled together (Tan & Le 2019, https://arxiv.org/abs/1905.11946).

    For a coefficient c, depth grows as `depth_base` ** c, width as `width_base` ** c and the side of the image as
    `resolution_base` ** c; with the paper's bases the work grows about 2 ** c times. The published B1 to B7 are
    rounded by hand: give their factors as `depth_scale`, `width_scale` and `resolution` to have them exactly.

    Input (batch, channels, height, width) of any size, resized inside; output (batch, classes) logits.

    Args:
        compound: The coefficient c that scales all three; 0 is the baseline, and fractions are fine.
        baseline: What is scaled: `b0` (the paper's, for 224 pixels) or `small` (three stages, for 8 pixels).
        depth_base: Growth of the number of blocks per unit of `compound`.
        width_base: Growth of the channels per unit of `compound`.
        resolution_base: Growth of the image's side per unit of `compound`.
        depth_scale: Factor on the number of blocks in place of `depth_base` ** `compound`.
        width_scale: Factor on the channels in place of `width_base` ** `compound`.
        resolution: Side of the image in pixels in place of the scaled one.
        dropout: Probability of dropping a feature before the last layer.
        drop_path: Probability of dropping the last block for a sample; falls linearly to 0 at the first.
        label_smoothing: Share of the target spread over all classes (Szegedy et al. 2016).
        channels: Channels of the input image.
        classes: Number of classes.
    """

    def __init__(  # noqa: PLR0913, PLR0917  # knobs of a model are arguments
        self,
        compound: float = 0.0,
        baseline: Baseline = "small",
        depth_base: float = 1.2,
        width_base: float = 1.1,
        resolution_base: float = 1.15,
        depth_scale: float | None = None,
        width_scale: float | None = None,
        resolution: int | None = None,
        dropout: float = 0.2,
        drop_path: float = 0.0,
        label_smoothing: float = 0.0,
        channels: int = 1,
        classes: int = 10,
    ) -> None:
        super().__init__(label_smoothing)
        self.save_hyperparameters()
        plan = _PLANS[baseline]
        depth = depth_base**compound if depth_scale is None else depth_scale
        width = width_base**compound if width_scale is None else width_scale
        self.resolution = resolution or round(plan.resolution * resolution_base**compound)
        stem, head = scaled_channels(plan.stem, width), scaled_channels(plan.head, width)
        shapes = _shapes(plan, stem, depth, width)
        self.features = nn.Sequential(
            *conv_bn_act(channels, stem, 3, stride=plan.stem_stride),
            *(MBConv(shape, drop_path * i / len(shapes)) for i, shape in enumerate(shapes)),
            *conv_bn_act(shapes[-1].outputs, head, 1),
        )
        self.head = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Dropout(dropout), nn.Linear(head, classes))
        self._initialise()

    def forward(self, inputs: Tensor) -> Tensor:
        """Logits of shape (batch, classes)."""
        size = (self.resolution, self.resolution)
        if inputs.shape[-2:] != size:
            inputs = F.interpolate(inputs, size, mode="bilinear", antialias=True)
        logits: Tensor = self.head(self.features(inputs))
        return logits

    def _initialise(self) -> None:
        """Weights as in the paper's implementation: variance 2 / fan-out."""
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                fan_out = module.kernel_size[0] * module.kernel_size[1] * module.out_channels // module.groups
                nn.init.normal_(module.weight, std=math.sqrt(2 / fan_out))
                if module.bias is not None:
                    nn.init.zeros_(module.bias)


def scaled_channels(channels: int, scale: float) -> int:
    """`channels` * `scale` as the nearest multiple of 8 that is no more than a tenth below it."""
    wanted = channels * scale
    rounded = max(_CHANNEL_STEP, int(wanted + _CHANNEL_STEP / 2) // _CHANNEL_STEP * _CHANNEL_STEP)
    return rounded if rounded >= _MIN_KEPT * wanted else rounded + _CHANNEL_STEP


def _shapes(plan: Plan, stem: int, depth: float, width: float) -> list[Shape]:
    shapes: list[Shape] = []
    inputs = stem
    for stage in plan.stages:
        outputs = scaled_channels(stage.channels, width)
        for i in range(math.ceil(stage.layers * depth)):
            shapes.append(Shape(inputs, outputs, stage.kernel_size, stage.stride if i == 0 else 1, stage.expansion))
            inputs = outputs
    return shapes
