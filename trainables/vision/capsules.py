"""What capsule networks compute: squashing, routing by agreement, and the margin loss on capsules' lengths."""

from __future__ import annotations

from typing import Final

import torch
import torch.nn.functional as F
from torch import Tensor, nn

_LEAST: Final = 1e-8  # under the root, so that a capsule of zeros has a gradient


def squash(capsules: Tensor) -> Tensor:
    """Shorten vectors (.., size) to a length below 1, n² / (1 + n²), and keep their direction (equation 1)."""
    squared = (capsules**2).sum(-1, keepdim=True)
    return capsules * (squared / (1 + squared) / torch.sqrt(squared + _LEAST))


def margin_loss(lengths: Tensor, targets: Tensor) -> Tensor:
    """Loss per sample (batch,) of lengths (batch, classes): the right one above 0.9, others below 0.1 (equation 4)."""
    right = F.one_hot(targets, lengths.shape[1]).to(lengths.dtype)
    losses = right * F.relu(0.9 - lengths) ** 2 + 0.5 * (1 - right) * F.relu(lengths - 0.1) ** 2
    return losses.sum(1)


def route(votes: Tensor, iterations: int) -> Tensor:
    """Capsules (batch, outputs, size) on which the votes (batch, inputs, outputs, size) agree (procedure 1)."""
    agreement = torch.zeros_like(votes[..., 0])
    capsules = votes.new_empty(0)
    for i in range(iterations):
        capsules = squash((agreement.softmax(2).unsqueeze(-1) * votes).sum(1))
        if i < iterations - 1:
            agreement = agreement + (votes * capsules.unsqueeze(1)).sum(-1)
    return capsules


class RoutedCapsules(nn.Module):
    """A layer of capsules, each of which gets a vote from every capsule below through a matrix of its own."""

    def __init__(self, inputs: int, input_size: int, outputs: int, output_size: int, iterations: int) -> None:
        super().__init__()
        self.matrices = nn.Parameter(torch.randn(inputs, outputs, input_size, output_size) * 0.1)
        self.iterations = iterations

    def forward(self, inputs: Tensor) -> Tensor:
        """(batch, inputs, input_size) to (batch, outputs, output_size)."""
        return route(torch.einsum("nid,iodk->niok", inputs, self.matrices), self.iterations)
