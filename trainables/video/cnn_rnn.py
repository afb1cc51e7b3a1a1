"""A convolutional network that sees each frame, and a recurrent one that follows what it saw."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from trainables.sequences.recurrent import Cell, Recurrent
from trainables.tasks.classifier import Classifier
from trainables.vision.halving import halving_blocks

_GRID = 4


class VideoNet(Classifier):
    """The same convolutions for every frame, recurrent layers over time (LRCN, Donahue et al. 2015), a linear layer.

    Input (batch, frames, channels, height, width) of any size from 4 x 4; output (batch, classes) logits.

    Args:
        depth: Convolution blocks per frame; every second one halves the frame.
        channels_first: Channels of the first block; doubled after every second block.
        features: Numbers that describe a frame, after the convolutions.
        width: Units of each recurrent layer and direction.
        layers: Number of recurrent layers.
        cell: `lstm` or `gru`.
        bidirectional: Whether each recurrent layer also reads backwards.
        dropout: Probability of dropping a number of a frame's description, of the last state, and between layers.
        label_smoothing: Share of the target spread over all classes (Szegedy et al. 2016).
        channels: Channels of a frame.
        classes: Number of classes.
    """

    def __init__(  # noqa: PLR0913, PLR0917  # knobs of a model are arguments
        self,
        depth: int = 3,
        channels_first: int = 8,
        features: int = 32,
        width: int = 32,
        layers: int = 1,
        cell: Cell = "gru",
        bidirectional: bool = False,  # noqa: FBT001, FBT002  # a knob
        dropout: float = 0.0,
        label_smoothing: float = 0.0,
        channels: int = 1,
        classes: int = 4,
    ) -> None:
        super().__init__(label_smoothing)
        self.save_hyperparameters()
        convolutions, channels_last = halving_blocks(_block, depth, channels, channels_first)
        self.frame = nn.Sequential(
            *convolutions,
            nn.AdaptiveAvgPool2d(_GRID),
            nn.Flatten(),
            nn.Linear(channels_last * _GRID**2, features),
            nn.ReLU(),
        )
        self.recurrent = Recurrent(features, width, layers, cell, bidirectional, dropout)
        self.dropout, self.head = nn.Dropout(dropout), nn.Linear(self.recurrent.outputs, classes)

    def forward(self, videos: Tensor) -> Tensor:
        """Logits of shape (batch, classes)."""
        batch, frames = videos.shape[:2]
        seen = self.frame(videos.flatten(0, 1)).unflatten(0, (batch, frames))
        lengths = torch.full((batch,), frames, device=videos.device)
        _, last = self.recurrent(self.dropout(seen), lengths)
        logits: Tensor = self.head(self.dropout(last))
        return logits


def _block(inputs: int, outputs: int) -> list[nn.Module]:
    return [nn.Conv2d(inputs, outputs, 3, padding=1), nn.BatchNorm2d(outputs), nn.ReLU()]
