"""A recurrent network that reads a text word by word and says what class it is of."""

from __future__ import annotations

from torch import Tensor, nn

from trainables.sequences.padding import PADDING, lengths_of
from trainables.sequences.recurrent import Cell, Recurrent
from trainables.tasks.classifier import Classifier


class TextRNN(Classifier):
    """Word vectors, LSTM or GRU layers, and a linear layer on the last state.

    Input (batch, words) of word numbers, 0 after the end; output (batch, classes) logits.

    Args:
        vocabulary: How many word numbers there are, with those for padding and unknown words.
        classes: Number of classes.
        embedding_size: Numbers in a word's vector.
        width: Units of each recurrent layer and direction.
        layers: Number of recurrent layers.
        cell: `lstm` or `gru`.
        bidirectional: Whether each layer also reads backwards.
        dropout: Probability of dropping a number of a word's vector, of the last state, and between layers.
        label_smoothing: Share of the target spread over all classes (Szegedy et al. 2016).
    """

    def __init__(  # noqa: PLR0913, PLR0917  # knobs of a model are arguments
        self,
        vocabulary: int = 2000,
        classes: int = 8,
        embedding_size: int = 32,
        width: int = 32,
        layers: int = 1,
        cell: Cell = "gru",
        bidirectional: bool = True,  # noqa: FBT001, FBT002  # a knob
        dropout: float = 0.2,
        label_smoothing: float = 0.0,
    ) -> None:
        super().__init__(label_smoothing)
        self.save_hyperparameters()
        self.words = nn.Embedding(vocabulary, embedding_size, padding_idx=PADDING)
        self.recurrent = Recurrent(embedding_size, width, layers, cell, bidirectional, dropout)
        self.head = nn.Linear(self.recurrent.outputs, classes)
        self.dropout = nn.Dropout(dropout)

    def forward(self, words: Tensor) -> Tensor:
        """Logits of shape (batch, classes)."""
        _, last = self.recurrent(self.dropout(self.words(words)), lengths_of(words))
        logits: Tensor = self.head(self.dropout(last))
        return logits
