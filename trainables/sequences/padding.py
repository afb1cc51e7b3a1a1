"""How sequences of unlike lengths share a batch: zeros after the end."""

from __future__ import annotations

from typing import Final

import torch
from torch import Tensor

PADDING: Final = 0


def lengths_of(tokens: Tensor) -> Tensor:
    """How many tokens each row of (batch, steps) has before its padding, at least 1 (an empty row has a padding)."""
    return (tokens != PADDING).sum(1).clamp(min=1)


def inside(lengths: Tensor, steps: int) -> Tensor:
    """True at the steps (batch, steps) before each sequence's end."""
    return torch.arange(steps, device=lengths.device) < lengths.unsqueeze(1)
