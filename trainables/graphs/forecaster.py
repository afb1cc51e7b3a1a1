"""Forecasts several related series at once: each is read on its own, then they hear of each other."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from trainables.graphs.series_graph import SeriesGraph
from trainables.sequences.recurrent import Cell, Recurrent
from trainables.tasks.predictor import Predictor
from trainables.tasks.targets import Numbers


class Forecaster(Predictor):
    """A recurrent network that all series share, steps over a learnt graph between them, a linear layer per horizon.

    A recurrent network with a graph network (as Seo et al. 2018 and Wu et al. 2019 join them). Each series has a vector
    of its own beside its values, so that the shared network can tell them apart.

    Input (batch, window, series) of what is known; output (batch, horizon, series). Trains on the squared error; logs
    it as `loss`, and the absolute error as `mae`.

    Args:
        series: Number of series.
        horizon: Steps to forecast.
        width: Numbers in the state of a series.
        layers: Recurrent layers.
        cell: `lstm` or `gru`.
        graph_steps: Steps over the graph; 0 forecasts each series from itself alone.
        embedding_size: Numbers in a series' vectors, which its edges are made of.
        dropout: Probability of dropping a number of a series' state.
    """

    def __init__(  # noqa: PLR0913, PLR0917  # knobs of a model are arguments
        self,
        series: int = 12,
        horizon: int = 4,
        width: int = 16,
        layers: int = 1,
        cell: Cell = "gru",
        graph_steps: int = 1,
        embedding_size: int = 4,
        dropout: float = 0.2,
    ) -> None:
        super().__init__(Numbers())
        self.save_hyperparameters()
        self.names = nn.Parameter(torch.randn(series, embedding_size))
        self.recurrent = Recurrent(1 + embedding_size, width, layers, cell, dropout=dropout)
        self.exchange = nn.Sequential(
            *(SeriesGraph(series, width, embedding_size, dropout) for _ in range(graph_steps))
        )
        self.dropout, self.head = nn.Dropout(dropout), nn.Linear(width, horizon)

    def forward(self, known: Tensor) -> Tensor:
        """Forecasts (batch, horizon, series)."""
        batch, window, series = known.shape
        values = known.transpose(1, 2).unsqueeze(3)
        named = torch.cat([values, self.names[:, None].expand(batch, -1, window, -1)], 3)
        lengths = torch.full((batch * series,), window, device=known.device)
        _, states = self.recurrent(named.flatten(0, 1), lengths)
        states = self.exchange(states.unflatten(0, (batch, series)))
        forecasts: Tensor = self.head(self.dropout(states))
        return forecasts.transpose(1, 2)
