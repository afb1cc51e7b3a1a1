"""A multi-layer perceptron for rows of numbers and categories."""

from __future__ import annotations

from typing import Final, Literal

import torch
from torch import Tensor, nn

from trainables.tabular.categories import category_vectors
from trainables.tasks.predictor import Predictor
from trainables.tasks.targets import TargetKind, targets_of

Activation = Literal["relu", "gelu", "silu", "tanh"]
_ACTIVATIONS: Final[dict[str, type[nn.Module]]] = {"relu": nn.ReLU, "gelu": nn.GELU, "silu": nn.SiLU, "tanh": nn.Tanh}


class MLP(Predictor):
    """`depth` hidden layers of `width` units, each followed by normalisation, activation and dropout.

    Input (batch, inputs) of standardised columns and, where there are `categories`, (batch, categorical columns) of
    category numbers from 0, each of which becomes a vector that is learnt (Guo & Berkhahn 2016). Output (batch,
    classes) logits, or (batch,) numbers.

    Args:
        inputs: Number of numerical columns.
        classes: Number of classes; not used where `target` is `number`.
        depth: Number of hidden layers; 0 is logistic regression.
        width: Units of each hidden layer.
        normalization: `batch` (Ioffe & Szegedy 2015), `layer` (Ba et al. 2016), or `none`.
        dropout: Probability of dropping a hidden unit.
        activation: The non-linearity.
        label_smoothing: Share of the target spread over all classes (Szegedy et al. 2016).
        categories: How many categories each categorical column has.
        embedding_size: Numbers in a category's vector, at most one less than the column has categories.
        target: `class` or `number`: what is predicted.
    """

    def __init__(  # noqa: PLR0913, PLR0917  # knobs of a model are arguments
        self,
        inputs: int = 30,
        classes: int = 2,
        depth: int = 2,
        width: int = 64,
        normalization: Literal["batch", "layer", "none"] = "none",
        dropout: float = 0.0,
        activation: Activation = "relu",
        label_smoothing: float = 0.0,
        categories: list[int] | None = None,
        embedding_size: int = 8,
        target: TargetKind = "class",
    ) -> None:
        super().__init__(targets_of(target, label_smoothing))
        self.save_hyperparameters()
        sizes = [(count, max(1, min(embedding_size, count - 1))) for count in categories or []]
        self.embeddings = nn.ModuleList(nn.Embedding(count, size) for count, size in sizes)
        layers: list[nn.Module] = []
        before = inputs + sum(size for _, size in sizes)
        for _ in range(depth):
            layers.append(nn.Linear(before, width))
            if normalization != "none":
                layers.append(nn.BatchNorm1d(width) if normalization == "batch" else nn.LayerNorm(width))
            layers += [_ACTIVATIONS[activation](), nn.Dropout(dropout)]
            before = width
        last = nn.Linear(before, classes) if target == "class" else nn.Linear(before, 1)
        self.layers = nn.Sequential(*layers, last, *([] if target == "class" else [nn.Flatten(0)]))

    def forward(self, inputs: Tensor, categories: Tensor | None = None) -> Tensor:
        """Logits of shape (batch, classes), or numbers of shape (batch,)."""
        vectors = category_vectors(self.embeddings, categories)
        outputs: Tensor = self.layers(torch.cat([inputs, *vectors], 1) if vectors else inputs)
        return outputs
