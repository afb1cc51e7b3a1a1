"""How models of tables read categories: each column's through vectors of its own."""

from __future__ import annotations

from torch import Tensor, nn


def category_vectors(embeddings: nn.ModuleList, categories: Tensor | None) -> list[Tensor]:
    """Each column's vectors (batch, size), of category numbers (batch, columns).

    ValueError where there are other columns than the model has embeddings.
    """
    given = 0 if categories is None else categories.shape[1]
    if given != len(embeddings):
        msg = f"the data have {given} categorical columns, the model {len(embeddings)}: say so in categories"
        raise ValueError(msg)
    return [] if categories is None else [embed(categories[:, i]) for i, embed in enumerate(embeddings)]
