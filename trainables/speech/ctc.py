"""A recurrent network that listens and writes what was said, without being told when."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from trainables.sequences.edit_distance import edit_distances
from trainables.sequences.padding import PADDING, inside
from trainables.sequences.recurrent import Cell, Recurrent
from trainables.speech.log_mel import LogMel
from trainables.tasks.task import Batch, Sums, Task

BLANK = PADDING
"""The symbol of a frame that says nothing; no target holds it but as padding."""


class SpeechCTC(Task):
    """Log-mel bands, recurrent layers, and connectionist temporal classification (Graves et al. 2006).

    Trains on the mean over sounds of the negative log-likelihood per symbol; logs it as `loss`, and `error`, the edits
    that greedy decoding needs over the number of right symbols.

    Input: sounds (batch, samples) and how many samples of each count (batch,); output (batch, frames, symbols)
    log-probabilities, in which symbol 0 is the blank. Targets (batch, longest) from 1, 0 after the end.

    Args:
        symbols: How many symbols there are, with the blank.
        sample_rate: Samples per second.
        bands: Bands of pitch.
        window: Samples of a window.
        hop: Samples from one window's start to the next.
        width: Units of each recurrent layer and direction.
        layers: Number of recurrent layers.
        cell: `lstm` or `gru`.
        bidirectional: Whether each layer also listens backwards.
        dropout: Probability of dropping a number between layers and before the last one.
    """

    def __init__(  # noqa: PLR0913, PLR0917  # knobs of a model are arguments
        self,
        symbols: int = 11,
        sample_rate: int = 4000,
        bands: int = 20,
        window: int = 128,
        hop: int = 64,
        width: int = 32,
        layers: int = 1,
        cell: Cell = "gru",
        bidirectional: bool = True,  # noqa: FBT001, FBT002  # a knob
        dropout: float = 0.1,
    ) -> None:
        super().__init__()
        self.save_hyperparameters()
        self.bands, self.norm = LogMel(bands, window, hop, sample_rate), nn.LayerNorm(bands)
        self.recurrent = Recurrent(bands, width, layers, cell, bidirectional, dropout)
        self.dropout, self.head = nn.Dropout(dropout), nn.Linear(self.recurrent.outputs, symbols)

    def forward(self, waves: Tensor, samples: Tensor) -> Tensor:
        """Log-probabilities (batch, frames, symbols); those after a sound's end mean nothing."""
        steps, _ = self.recurrent(self.norm(self.bands(waves)), self.bands.frames(samples))
        return F.log_softmax(self.head(self.dropout(steps)), 2)

    def objective(self, batch: Batch) -> tuple[Tensor, int]:
        """Mean negative log-likelihood per symbol, and the number of sounds."""
        return self._losses(self(*self.inputs_of(batch)), batch).mean(), len(batch[-1])

    def score(self, batch: Batch) -> Sums:
        """Likelihoods, and edits after greedy decoding."""
        answers, targets = self(*self.inputs_of(batch)), batch[-1]
        edits = edit_distances(greedy(answers, self.bands.frames(batch[1])), targets)
        return {
            "loss": (self._losses(answers, batch).sum(), len(targets)),
            "error": (edits.sum(), (targets != BLANK).sum()),
        }

    def _losses(self, answers: Tensor, batch: Batch) -> Tensor:
        samples, targets = batch[1:]
        symbols = (targets != BLANK).sum(1)
        exact = answers.to(torch.promote_types(answers.dtype, torch.float32))  # as torch's loss needs them
        losses = F.ctc_loss(
            exact.transpose(0, 1), targets, self.bands.frames(samples), symbols, BLANK, "none", zero_infinity=True
        )  # a sound with fewer frames than symbols has no likelihood; it teaches nothing
        return losses / symbols.clamp(min=1)


def greedy(answers: Tensor, frames: Tensor) -> Tensor:
    """Each frame's likeliest symbol without repetitions and blanks (batch, frames), 0 after the end."""
    best = answers.argmax(2) * inside(frames, answers.shape[1])
    is_new = torch.ones_like(best, dtype=torch.bool)
    is_new[:, 1:] = best[:, 1:] != best[:, :-1]
    kept = best * is_new
    order = (kept == BLANK).long().argsort(dim=1, stable=True)
    return kept.gather(1, order)
