"""The MBConv block that EfficientNets are built of."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import torch
from torch import Tensor, nn

# The paper's implementation keeps 0.99 of its running statistics per step, which takes an epoch of hundreds of steps.
_MOMENTUM: Final = 0.1
_EPSILON: Final = 1e-3


@dataclass(frozen=True, slots=True)
class Shape:
    """One block: channels in and out, side of the filter and stride in pixels, and how much wider it is inside."""

    inputs: int
    outputs: int
    kernel_size: int
    stride: int
    expansion: int
    squeeze: float = 0.25


class MBConv(nn.Module):
    """Inverted bottleneck with squeeze and excitation (Sandler et al. 2018; Hu et al. 2018; Tan & Le 2019).

    Widens by 1 x 1, filters each channel alone, weighs the channels by what the whole image shows, narrows by 1 x 1.
    Where the shape is kept, the input is added, and the rest is dropped for a sample with probability `drop`
    (stochastic depth, Huang et al. 2016).
    """

    def __init__(self, shape: Shape, drop: float = 0.0) -> None:
        super().__init__()
        inside = shape.inputs * shape.expansion
        layers = [] if shape.expansion == 1 else conv_bn_act(shape.inputs, inside, 1)
        layers += conv_bn_act(inside, inside, shape.kernel_size, stride=shape.stride, groups=inside)
        layers.append(SqueezeExcitation(inside, max(1, int(shape.inputs * shape.squeeze))))
        layers += conv_bn_act(inside, shape.outputs, 1)[:-1]
        self.layers = nn.Sequential(*layers)
        self.keeps_shape = shape.stride == 1 and shape.inputs == shape.outputs
        self.drop = drop

    def forward(self, inputs: Tensor) -> Tensor:
        """(batch, inputs, height, width) to (batch, outputs, height / stride, width / stride)."""
        outputs: Tensor = self.layers(inputs)
        if not self.keeps_shape:
            return outputs
        if self.training and self.drop > 0:
            keep = torch.full((len(inputs), 1, 1, 1), 1 - self.drop, dtype=inputs.dtype, device=inputs.device)
            outputs = outputs * torch.bernoulli(keep) / keep
        return inputs + outputs


class SqueezeExcitation(nn.Module):
    """Scales each channel by a number in (0, 1) that two layers make of all channels' means (Hu et al. 2018)."""

    def __init__(self, channels: int, squeezed: int) -> None:
        super().__init__()
        self.gate = nn.Sequential(
            nn.AdaptiveAvgPool2d(1),
            nn.Conv2d(channels, squeezed, 1),
            nn.SiLU(),
            nn.Conv2d(squeezed, channels, 1),
            nn.Sigmoid(),
        )

    def forward(self, inputs: Tensor) -> Tensor:
        """Inputs of any size, scaled."""
        gate: Tensor = self.gate(inputs)
        return inputs * gate


def conv_bn_act(inputs: int, outputs: int, kernel_size: int, *, stride: int = 1, groups: int = 1) -> list[nn.Module]:
    """A convolution that keeps the size but for its stride, batch normalisation, SiLU."""
    convolution = nn.Conv2d(inputs, outputs, kernel_size, stride, kernel_size // 2, groups=groups, bias=False)
    return [convolution, nn.BatchNorm2d(outputs, _EPSILON, _MOMENTUM), nn.SiLU()]
