"""Attention of one reader to the steps of a sequence that was read before."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn

Attention = Literal["additive", "multiplicative"]


class Memory(nn.Module):
    """How a query reads a padded sequence: a mean of its steps, weighted by how well each answers.

    Scores are v tanh(W query + U step), `additive` (Bahdanau et al. 2015), or query W step, `multiplicative`
    ("general" in Luong et al. 2015).
    """

    def __init__(self, kind: Attention, query_size: int, step_size: int, width: int) -> None:
        super().__init__()
        self.kind = kind
        self.queries = nn.Linear(query_size, width if kind == "additive" else step_size, bias=False)
        if kind == "additive":
            self.steps, self.score = nn.Linear(step_size, width), nn.Linear(width, 1, bias=False)

    def forward(self, query: Tensor, steps: Tensor, is_inside: Tensor) -> tuple[Tensor, Tensor]:
        """What (batch, step_size) the query (batch, query_size) reads, and each step's weight (batch, steps)."""
        asked = self.queries(query).unsqueeze(1)
        if self.kind == "additive":
            scores = self.score(torch.tanh(asked + self.steps(steps))).squeeze(2)
        else:
            scores = (asked @ steps.transpose(1, 2)).squeeze(1)
        weights = scores.masked_fill(~is_inside, float("-inf")).softmax(1)
        return (weights.unsqueeze(1) @ steps).squeeze(1), weights
