"""A small convolutional network with the knobs that matter most when an image classifier is tuned."""

from __future__ import annotations

from typing import Final, Literal

from torch import Tensor, nn
from torch.nn.utils import parametrizations

from trainables.tasks.classifier import Classifier
from trainables.vision.halving import halving_blocks

Normalization = Literal["batch", "layer", "weight", "none"]
Activation = Literal["relu", "leaky_relu", "gelu", "silu", "tanh"]
_ACTIVATIONS: Final[dict[str, type[nn.Module]]] = {
    "relu": nn.ReLU,
    "leaky_relu": nn.LeakyReLU,
    "gelu": nn.GELU,
    "silu": nn.SiLU,
    "tanh": nn.Tanh,
}
_POOLED: Final = 2


class ConvNet(Classifier):
    """`depth` blocks of convolution, normalisation, activation, dropout; width doubles and size halves at every second.

    Input (batch, channels, height, width) of any size from 2 x 2; output (batch, classes) logits.

    Args:
        depth: Number of convolution blocks.
        width: Channels of the first block; doubled after every second block.
        kernel_size: Side of the square filters in pixels, odd, so that the size is kept.
        normalization: `batch` (Ioffe & Szegedy 2015), `layer` (Ba et al. 2016, over channels and space), `weight`
            (Salimans & Kingma 2016), or `none`.
        dropout: Probability of dropping a whole channel in each block, and a feature before the last layer.
        activation: The non-linearity of each block.
        label_smoothing: Share of the target spread over all classes (Szegedy et al. 2016).
        channels: Channels of the input image.
        classes: Number of classes.
    """

    def __init__(  # noqa: PLR0913, PLR0917  # knobs of a model are arguments
        self,
        depth: int = 3,
        width: int = 16,
        kernel_size: int = 3,
        normalization: Normalization = "batch",
        dropout: float = 0.0,
        activation: Activation = "relu",
        label_smoothing: float = 0.0,
        channels: int = 1,
        classes: int = 10,
    ) -> None:
        super().__init__(label_smoothing)
        if depth < 1 or width < 1 or kernel_size < 1 or kernel_size % 2 == 0:
            msg = f"depth {depth} and width {width} must be at least 1, kernel_size {kernel_size} odd and at least 1"
            raise ValueError(msg)
        self.save_hyperparameters()

        def block(inputs: int, outputs: int) -> list[nn.Module]:
            normed = _normed(inputs, outputs, kernel_size, normalization)
            return [*normed, _ACTIVATIONS[activation](), nn.Dropout2d(dropout)]

        layers, last = halving_blocks(block, depth, channels, width)
        self.features = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(_POOLED), nn.Flatten(), nn.Dropout(dropout))
        self.head = nn.Linear(last * _POOLED**2, classes)

    def forward(self, inputs: Tensor) -> Tensor:
        """Logits of shape (batch, classes)."""
        logits: Tensor = self.head(self.features(inputs))
        return logits


def _normed(inputs: int, outputs: int, kernel_size: int, normalization: Normalization) -> list[nn.Module]:
    has_own_shift = normalization in ("batch", "layer")
    convolution = nn.Conv2d(inputs, outputs, kernel_size, padding=kernel_size // 2, bias=not has_own_shift)
    match normalization:
        case "batch":
            return [convolution, nn.BatchNorm2d(outputs)]
        case "layer":
            return [convolution, nn.GroupNorm(1, outputs)]
        case "weight":
            return [parametrizations.weight_norm(convolution)]
        case _:
            return [convolution]
