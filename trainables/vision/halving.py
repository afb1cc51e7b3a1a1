"""Convolution blocks that see ever more of an image: it gets smaller and wider as they go on."""

from __future__ import annotations

from collections.abc import Callable

from torch import nn


def halving_blocks(
    block: Callable[[int, int], list[nn.Module]], depth: int, channels: int, width: int
) -> tuple[list[nn.Module], int]:
    """The layers of `depth` blocks, and the channels that the last one gives.

    `block` makes the layers of one that keeps the size, from the channels that it takes and gives: `channels` to
    `width` in the first. After every second one the size is halved, and the width doubled.
    """
    layers: list[nn.Module] = []
    inputs, outputs = channels, width
    for i in range(depth):
        layers += block(inputs, outputs)
        inputs = outputs
        if i % 2:
            layers.append(nn.MaxPool2d(2, ceil_mode=True))
            outputs *= 2
    return layers, inputs
