"""Transformer layers over padded batches, and what tells them the order of steps."""

from __future__ import annotations

import math
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

Positions = Literal["sinusoidal", "learned", "none"]


class EncoderLayer(nn.Module):
    """Self-attention and two dense layers, each added to its input (Vaswani et al. 2017).

    Computes what `torch.nn.TransformerEncoderLayer` does, without its switch to another kernel in evaluation.

    Args:
        width: Numbers per step, a multiple of `heads`.
        heads: Attention heads.
        hidden: Units between the two dense layers.
        dropout: Probability of dropping an attention weight, a hidden unit, or a number of what is added.
        norm_first: Whether layers see normalised steps (Xiong et al. 2020), or sums are normalised, as first published.
    """

    def __init__(self, width: int, heads: int, hidden: int, dropout: float, norm_first: bool) -> None:  # noqa: FBT001  # a knob
        super().__init__()
        if width % heads:
            msg = f"width {width} is not a multiple of heads {heads}"
            raise ValueError(msg)
        self.heads, self.drop, self.norm_first = heads, dropout, norm_first
        self.queries_keys_values, self.mix = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.dense = nn.Sequential(nn.Linear(width, hidden), nn.ReLU(), nn.Dropout(dropout), nn.Linear(hidden, width))
        self.attention_norm, self.dense_norm = nn.LayerNorm(width), nn.LayerNorm(width)
        self.dropout = nn.Dropout(dropout)

    def forward(self, steps: Tensor, is_inside: Tensor) -> Tensor:
        """(batch, steps, width) of the same shape; `is_inside` (batch, steps) is false where there is only padding."""
        if self.norm_first:
            steps = steps + self._attend(self.attention_norm(steps), is_inside)
            added: Tensor = self.dropout(self.dense(self.dense_norm(steps)))
            return steps + added
        steps = self.attention_norm(steps + self._attend(steps, is_inside))
        outputs: Tensor = self.dense_norm(steps + self.dropout(self.dense(steps)))
        return outputs

    def _attend(self, steps: Tensor, is_inside: Tensor) -> Tensor:
        parts = self.queries_keys_values(steps).unflatten(2, (3, self.heads, -1)).movedim(1, 3)
        queries, keys, values = parts.unbind(1)
        mixed = F.scaled_dot_product_attention(
            queries, keys, values, is_inside[:, None, None], self.drop if self.training else 0.0
        )
        attended: Tensor = self.dropout(self.mix(mixed.transpose(1, 2).flatten(2)))
        return attended


class Positional(nn.Module):
    """Adds to each step what says where it is: sines and cosines of 10,000 ** (-2i / width) (Vaswani et al. 2017).

    Or, with `learned`, a vector per place up to `longest`; or, with `none`, nothing.
    """

    def __init__(self, kind: Positions, width: int, longest: int) -> None:
        super().__init__()
        table = torch.zeros(longest, width)
        if kind == "sinusoidal":
            angles = torch.arange(longest).unsqueeze(1) * torch.exp(-math.log(1e4) * torch.arange(0, width, 2) / width)
            table[:, 0::2], table[:, 1::2] = angles.sin(), angles.cos()[:, : width // 2]
        if kind == "learned":
            self.table: Tensor = nn.Parameter(nn.init.normal_(table, std=0.02))
        else:
            self.register_buffer("table", table, persistent=False)
        self.longest = longest

    def forward(self, steps: Tensor) -> Tensor:
        """(batch, steps, width) of the same shape. ValueError for more than `longest` steps."""
        if steps.shape[1] > self.longest:
            msg = f"{steps.shape[1]} steps are more than the {self.longest} that the model was built for"
            raise ValueError(msg)
        return steps + self.table[: steps.shape[1]]
