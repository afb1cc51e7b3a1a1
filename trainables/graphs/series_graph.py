"""How related series hear of each other: a graph over them that is learnt with the forecast."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class SeriesGraph(nn.Module):
    """One step over a graph between series whose edges are learnt (adaptive adjacency, Wu et al. 2019, Graph WaveNet).

    The weight of the edge from series j to series i is softmax over j of relu(A_i . B_j), for vectors A and B of the
    series; a series' new state is its own through one matrix plus the weighted mean of all through another.
    """

    def __init__(self, series: int, width: int, embedding_size: int, dropout: float) -> None:
        super().__init__()
        self.hears, self.tells = (nn.Parameter(torch.randn(series, embedding_size)) for _ in range(2))
        self.own, self.others = nn.Linear(width, width), nn.Linear(width, width, bias=False)
        self.dropout = nn.Dropout(dropout)

    def edges(self) -> Tensor:
        """How much each series (rows) hears of each one; rows sum to 1."""
        return F.relu(self.hears @ self.tells.T).softmax(1)

    def forward(self, states: Tensor) -> Tensor:
        """States (batch, series, width) after one step."""
        heard = self.others(self.edges() @ states)
        changed: Tensor = self.dropout(F.relu(self.own(states) + heard))
        return states + changed
