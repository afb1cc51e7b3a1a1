"""Tastes spread over the graph as LightGCN's formula says, and no answer is among the edges that predict it."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from trainables.data.impressions import Impressions, generate
from trainables.graphs.recommender import Recommender


def test_vectors_spread_as_light_gcn_s_formula_says() -> None:
    edges = torch.tensor([[0, 0, 1, 2], [0, 1, 1, 1]])
    model = Recommender(users=3, items=2, embedding_size=4, graph_steps=2)
    adjacency = torch.zeros(5, 5)
    adjacency[edges[0], 3 + edges[1]] = 1
    adjacency = adjacency + adjacency.T
    degrees = adjacency.sum(1)
    step = adjacency / (degrees[:, None] * degrees).sqrt()
    expected = (model.vectors + step @ model.vectors + step @ step @ model.vectors) / 3
    torch.testing.assert_close(model.spread_vectors(edges), expected)


def test_a_user_without_edges_has_a_vector_and_the_context_counts() -> None:
    model = Recommender(users=3, items=2, context=2).eval()
    edges = torch.tensor([[0], [0]])
    users, items, context = torch.tensor([2, 2]), torch.tensor([1, 1]), torch.tensor([[0.0, 0.0], [1.0, 0.0]])
    answers = model(users, items, context, edges)
    assert torch.isfinite(answers).all()
    assert answers[0] != answers[1]


def test_the_graph_is_of_what_was_liked_before_anything_that_is_predicted() -> None:
    data = Impressions(users=30, items=20, impressions=2000, history_share=0.4)
    data.setup()
    log = generate("click", 30, 20, 2000, 0)
    early = {(u, i) for u, i, c in zip(log.users[:800], log.items[:800], log.answers[:800], strict=True) if c}
    assert {tuple(edge) for edge in data.shared[0].T.tolist()} == early
    later = torch.cat([part[2] for part in data.parts.values()])
    assert sorted(later[:, 2].tolist()) == sorted(log.context[800:, 2].astype(np.float32).tolist())
    with pytest.raises(ValueError, match="history_share 1 must lie between"):
        Impressions(history_share=1)


def test_clicks_happen_as_often_as_their_probability_says() -> None:
    log = generate("click", 200, 100, 30000, 1)
    for low in np.arange(0, 1, 0.1):
        chosen = (log.probabilities >= low) & (log.probabilities < low + 0.1)
        assert log.answers[chosen].mean() == pytest.approx(log.probabilities[chosen].mean(), abs=0.03)


def test_ratings_are_predicted_as_numbers() -> None:
    data = Impressions(answer="rating", impressions=2000)
    data.setup()
    batch = next(iter(data.val_dataloader()))
    assert set(batch[-1].tolist()) == {1.0, 2.0, 3.0, 4.0, 5.0}
    sums = Recommender(answer="rating").score(batch)
    assert set(sums) == {"loss", "mae"}
    assert sums["loss"][1] == len(batch[-1])
