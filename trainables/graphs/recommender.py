"""Who likes what: tastes that spread over a graph of users and items, and the context of the moment."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn

from trainables.tasks.predictor import Predictor
from trainables.tasks.targets import Numbers, YesNo


class Recommender(Predictor):
    """LightGCN vectors of user and item (He et al. 2020, arXiv:2002.02126) and the context, judged by dense layers.

    Each user and item has a vector; over `graph_steps` steps it becomes the mean of its neighbours', weighted by one
    over the root of both degrees, and the mean of all steps counts. The answer is the product of both vectors plus what
    the dense layers make of them, of their product number by number, and of the context.

    Input: users (batch,), items (batch,), context (batch, context), and the graph's edges (2, edges) from users to
    items; output (batch,) logits of a click, or ratings.

    Args:
        users: Number of users.
        items: Number of items.
        context: Numbers that describe an impression.
        embedding_size: Numbers in a user's or an item's vector.
        graph_steps: Steps over the graph; 0 takes each vector as it is (matrix factorisation).
        depth: Number of hidden layers.
        width: Units of each hidden layer.
        dropout: Probability of dropping a hidden unit.
        answer: `click` (binary cross-entropy and `acc`) or `rating` (squared error and `mae`).
    """

    def __init__(  # noqa: PLR0913, PLR0917  # knobs of a model are arguments
        self,
        users: int = 200,
        items: int = 100,
        context: int = 4,
        embedding_size: int = 16,
        graph_steps: int = 2,
        depth: int = 1,
        width: int = 32,
        dropout: float = 0.0,
        answer: Literal["click", "rating"] = "click",
    ) -> None:
        from torch_geometric.nn import LGConv

        super().__init__(YesNo() if answer == "click" else Numbers())
        self.save_hyperparameters()
        self.users = users
        self.vectors = nn.Parameter(torch.randn(users + items, embedding_size) * 0.3)
        self.spread, self.graph_steps = LGConv(), graph_steps
        layers: list[nn.Module] = []
        before = 3 * embedding_size + context
        for _ in range(depth):
            layers += [nn.Linear(before, width), nn.ReLU(), nn.Dropout(dropout)]
            before = width
        self.layers = nn.Sequential(*layers, nn.Linear(before, 1), nn.Flatten(0))

    def forward(self, users: Tensor, items: Tensor, context: Tensor, edges: Tensor) -> Tensor:
        """A logit or a rating for each impression (batch,)."""
        vectors = self.spread_vectors(edges)
        user, item = vectors[users], vectors[self.users + items]
        match = user * item
        judged: Tensor = self.layers(torch.cat([user, item, match, context], 1))
        return judged + match.sum(1)

    def spread_vectors(self, edges: Tensor) -> Tensor:
        """The vectors of all users, then of all items, as the graph makes them."""
        there = torch.stack([edges[0], self.users + edges[1]])
        both_ways = torch.cat([there, there.flip(0)], 1)
        vectors = total = self.vectors
        for _ in range(self.graph_steps):
            vectors = self.spread(vectors, both_ways)
            total = total + vectors
        return total / (1 + self.graph_steps)
