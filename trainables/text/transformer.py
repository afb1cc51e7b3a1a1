"""A transformer encoder that reads a text at once and says what class it is of."""

from __future__ import annotations

import math

from torch import Tensor, nn

from trainables.sequences.attention import EncoderLayer, Positional, Positions
from trainables.sequences.padding import PADDING, inside, lengths_of
from trainables.tasks.classifier import Classifier


class TextTransformer(Classifier):
    """Word vectors with positions, `depth` encoder layers, and a linear layer on the words' mean (Vaswani et al. 2017).

    Input (batch, words) of word numbers, 0 after the end; output (batch, classes) logits.

    Args:
        vocabulary: How many word numbers there are, with those for padding and unknown words.
        classes: Number of classes.
        depth: Number of encoder layers.
        heads: Attention heads of each layer.
        head_width: Numbers per head; a word has `heads` * `head_width` of them.
        hidden_factor: Units of a layer's dense part per number of a word; 4 in the paper.
        positions: `sinusoidal` (as published), `learned` (Gehring et al. 2017), or `none`.
        max_words: The most words a text may have.
        dropout: Probability of dropping a word vector's number, an attention weight, or a unit.
        norm_first: Whether layers see normalised words (Xiong et al. 2020), or sums are normalised, as published.
        label_smoothing: Share of the target spread over all classes (Szegedy et al. 2016).
    """

    def __init__(  # noqa: PLR0913, PLR0917  # knobs of a model are arguments
        self,
        vocabulary: int = 2000,
        classes: int = 8,
        depth: int = 1,
        heads: int = 4,
        head_width: int = 8,
        hidden_factor: float = 2.0,
        positions: Positions = "sinusoidal",
        max_words: int = 128,
        dropout: float = 0.1,
        norm_first: bool = True,  # noqa: FBT001, FBT002  # a knob
        label_smoothing: float = 0.0,
    ) -> None:
        super().__init__(label_smoothing)
        self.save_hyperparameters()
        width = heads * head_width
        self.scale = math.sqrt(width)
        self.words = nn.Embedding(vocabulary, width, padding_idx=PADDING)
        nn.init.normal_(self.words.weight, std=1 / self.scale)
        self.positions = Positional(positions, width, max_words)
        hidden = int(width * hidden_factor)
        self.layers = nn.ModuleList(EncoderLayer(width, heads, hidden, dropout, norm_first) for _ in range(depth))
        self.norm = nn.LayerNorm(width) if norm_first else nn.Identity()
        self.dropout, self.head = nn.Dropout(dropout), nn.Linear(width, classes)

    def forward(self, words: Tensor) -> Tensor:
        """Logits of shape (batch, classes)."""
        steps = self.dropout(self.positions(self.words(words) * self.scale))
        lengths = lengths_of(words)
        is_inside = inside(lengths, words.shape[1])
        for layer in self.layers:
            steps = layer(steps, is_inside)
        mean = (self.norm(steps) * is_inside.unsqueeze(2)).sum(1) / lengths.unsqueeze(1)
        logits: Tensor = self.head(mean)
        return logits
