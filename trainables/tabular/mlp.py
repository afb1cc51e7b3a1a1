"""A multi-layer perceptron for rows of numbers."""

from __future__ import annotations

from typing import Final, Literal

from torch import Tensor, nn

from trainables.classifier import Classifier

Activation = Literal["relu", "gelu", "silu", "tanh"]
_ACTIVATIONS: Final[dict[str, type[nn.Module]]] = {"relu": nn.ReLU, "gelu": nn.GELU, "silu": nn.SiLU, "tanh": nn.Tanh}


class MLP(Classifier):
    """`depth` hidden layers of `width` units, each followed by normalisation, activation and dropout.

    Input (batch, inputs) of standardised columns; output (batch, classes) logits.

    Args:
        inputs: Number of columns.
        classes: Number of classes.
        depth: Number of hidden layers; 0 is logistic regression.
        width: Units of each hidden layer.
        normalization: `batch` (Ioffe & Szegedy 2015), `layer` (Ba et al. 2016), or `none`.
        dropout: Probability of dropping a hidden unit.
        activation: The non-linearity.
        label_smoothing: Share of the target spread over all classes (Szegedy et al. 2016).
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
    ) -> None:
        super().__init__(label_smoothing)
        self.save_hyperparameters()
        layers: list[nn.Module] = []
        before = inputs
        for _ in range(depth):
            layers.append(nn.Linear(before, width))
            if normalization != "none":
                layers.append(nn.BatchNorm1d(width) if normalization == "batch" else nn.LayerNorm(width))
            layers += [_ACTIVATIONS[activation](), nn.Dropout(dropout)]
            before = width
        self.layers = nn.Sequential(*layers, nn.Linear(before, classes))

    def forward(self, inputs: Tensor) -> Tensor:
        """Logits of shape (batch, classes)."""
        logits: Tensor = self.layers(inputs)
        return logits
