"""A recurrent network that reads one sequence and writes another, looking back at what it read."""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from trainables.sequences.memory import Attention, Memory
from trainables.sequences.padding import PADDING, inside, lengths_of
from trainables.sequences.recurrent import Cell, Recurrent
from trainables.tasks.task import Batch, Sums, Task

END = 1
"""The symbol after a written sequence, which also starts one."""


class Encoded(NamedTuple):
    """What the encoder gives: each step (batch, steps, numbers), the last state, and which steps are no padding."""

    steps: Tensor
    last: Tensor
    is_inside: Tensor


class SequenceToSequence(Task):
    """An encoder that reads both ways and a GRU that writes with attention (Bahdanau et al. 2015, Luong et al. 2015).

    With `additive` attention the writer looks before each symbol and is fed what it saw; with `multiplicative` it looks
    after its step. Trains on the cross-entropy per symbol; logs `loss` and `exact`, the share of sequences that it
    writes without a fault on its own, taking the likeliest symbol each time.

    Input: symbols to read (batch, steps), 0 after the end, and the symbols before each one to write (batch, steps),
    `END` first. Output (batch, steps, target_symbols) logits. Targets end with `END`, then 0.

    Args:
        source_symbols: How many symbols can be read, padding among them.
        target_symbols: How many symbols can be written, padding and `END` among them.
        embedding_size: Numbers in a symbol's vector.
        width: Units of the encoder per direction; the writer has twice as many.
        layers: Layers of the encoder.
        cell: The encoder's cells, `lstm` or `gru`.
        attention: `additive` or `multiplicative`.
        dropout: Probability of dropping a number of a symbol's vector, or of what a symbol is chosen by.
        teacher_forcing: Probability that training feeds the right symbol, not the likeliest one (Bengio et al. 2015).
    """

    def __init__(  # noqa: PLR0913, PLR0917  # knobs of a model are arguments
        self,
        source_symbols: int = 14,
        target_symbols: int = 65,
        embedding_size: int = 32,
        width: int = 32,
        layers: int = 1,
        cell: Cell = "gru",
        attention: Attention = "additive",
        dropout: float = 0.0,
        teacher_forcing: float = 1.0,
    ) -> None:
        super().__init__()
        self.save_hyperparameters()
        self.attention, self.teacher_forcing = attention, teacher_forcing
        self.read, self.written = (
            nn.Embedding(symbols, embedding_size, padding_idx=PADDING) for symbols in (source_symbols, target_symbols)
        )  # fmt: skip
        self.encoder = Recurrent(embedding_size, width, layers, cell, bidirectional=True, dropout=dropout)
        seen = self.encoder.outputs
        self.memory = Memory(attention, seen, seen, width)
        self.start = nn.Linear(seen, seen)
        self.writer = nn.GRUCell(embedding_size + (seen if attention == "additive" else 0), seen)
        self.combine, self.head = nn.Linear(2 * seen, seen), nn.Linear(seen, target_symbols)
        self.dropout = nn.Dropout(dropout)

    def forward(self, source: Tensor, previous: Tensor) -> Tensor:
        """Logits (batch, steps, target_symbols) of each symbol, given the ones before it."""
        return self._write(self._encoded(source), previous, 1.0)

    def inputs_of(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """What is read, and the targets a step later."""
        source, targets = batch
        return source, torch.cat([torch.full_like(targets[:, :1], END), targets[:, :-1]], 1)

    def objective(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Cross-entropy per symbol, and the number of symbols."""
        source, previous = self.inputs_of(batch)
        logits = self._write(self._encoded(source), previous, self.teacher_forcing)
        return _cross_entropy(logits, batch[1], "mean"), (batch[1] != PADDING).sum()

    def score(self, batch: Batch) -> Sums:
        """Cross-entropy of symbols whose predecessors are right, and sequences written without a fault."""
        source, previous = self.inputs_of(batch)
        targets, encoded = batch[1], self._encoded(source)
        symbols = (targets != PADDING).sum()
        alone = self._write(encoded, previous, 0.0).argmax(2)
        exact = ((alone == targets) | (targets == PADDING)).all(1).sum()
        loss = _cross_entropy(self._write(encoded, previous, 1.0), targets, "sum")
        return {"loss": (loss, symbols), "exact": (exact, len(targets))}

    def predict_step(self, batch: Batch) -> Tensor:
        """What is written of what is read alone, as many symbols as the targets could have."""
        return self.decode(batch[0], batch[1].shape[1])

    def decode(self, source: Tensor, steps: int) -> Tensor:
        """The likeliest symbols (batch, steps), one after the other; 0 after `END`."""
        previous = torch.full((len(source), steps), END, device=source.device)
        written = self._write(self._encoded(source), previous, 0.0).argmax(2)
        is_after = (written == END).cumsum(1) - (written == END).long() > 0
        return written.masked_fill(is_after, PADDING)

    def _encoded(self, source: Tensor) -> Encoded:
        lengths = lengths_of(source)
        steps, last = self.encoder(self.dropout(self.read(source)), lengths)
        return Encoded(steps, last, inside(lengths, source.shape[1]))

    def _write(self, encoded: Encoded, previous: Tensor, teacher_forcing: float) -> Tensor:
        """Logits of each step; the first of `previous` is always fed, the others with the given probability."""
        steps, last, is_inside = encoded
        state, fed = torch.tanh(self.start(last)), previous[:, 0]
        logits: list[Tensor] = []
        for i in range(previous.shape[1]):
            if i and teacher_forcing > 0:
                fed = previous[:, i]
            if i and teacher_forcing < 1:
                own = logits[-1].detach().argmax(1)
                fed = torch.where(torch.rand(len(own), device=own.device) < teacher_forcing, fed, own)
            state, seen = self._step(state, self.dropout(self.written(fed)), steps, is_inside)
            logits.append(self.head(self.dropout(torch.tanh(self.combine(torch.cat([state, seen], 1))))))
        return torch.stack(logits, 1)

    def _step(self, state: Tensor, fed: Tensor, steps: Tensor, is_inside: Tensor) -> tuple[Tensor, Tensor]:
        if self.attention == "additive":
            seen, _ = self.memory(state, steps, is_inside)
            return self.writer(torch.cat([fed, seen], 1), state), seen
        state = self.writer(fed, state)
        return state, self.memory(state, steps, is_inside)[0]


def _cross_entropy(logits: Tensor, targets: Tensor, reduction: str) -> Tensor:
    return F.cross_entropy(logits.flatten(0, 1), targets.flatten(), ignore_index=PADDING, reduction=reduction)
