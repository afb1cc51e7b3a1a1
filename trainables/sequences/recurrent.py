"""Recurrent layers over padded batches that read no length back to the host, so that they run on any device."""

from __future__ import annotations

from typing import Final, Literal

import torch
from torch import Tensor, nn

from trainables.sequences.padding import inside

Cell = Literal["lstm", "gru"]
_CELLS: Final[dict[str, type[nn.LSTM | nn.GRU]]] = {"lstm": nn.LSTM, "gru": nn.GRU}


class Recurrent(nn.Module):
    """LSTM (Hochreiter & Schmidhuber 1997) or GRU (Cho et al. 2014) layers, one or both ways (Schuster & Paliwal 1997).

    Gives what `torch.nn.LSTM` and `GRU` give for a packed sequence, without packing: that needs the lengths as numbers
    of the host. To go backwards, each sequence is turned round within its own length.

    Args:
        inputs: Numbers per step.
        width: Units of each layer and direction.
        layers: Number of layers.
        cell: `lstm` or `gru`.
        bidirectional: Whether every layer also reads backwards.
        dropout: Probability of dropping a number between layers.
    """

    def __init__(
        self,
        inputs: int,
        width: int,
        layers: int = 1,
        cell: Cell = "gru",
        bidirectional: bool = False,  # noqa: FBT001, FBT002  # a knob
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        kind, self.outputs = _CELLS[cell], width * (2 if bidirectional else 1)
        sizes = [inputs, *[self.outputs] * (layers - 1)]
        self.ahead = nn.ModuleList(kind(size, width, batch_first=True) for size in sizes)
        self.behind = nn.ModuleList(kind(size, width, batch_first=True) for size in sizes[: layers * bidirectional])
        self.dropout = nn.Dropout(dropout)

    def forward(self, inputs: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """Every step's output (batch, steps, outputs), zero after the end, and the last state (batch, outputs).

        `inputs` is (batch, steps, inputs) and `lengths` (batch,) counts each sequence's steps, at least 1. The last
        state holds each direction's after its own last step: the end ahead, the beginning behind.
        """
        steps = torch.arange(inputs.shape[1], device=inputs.device)
        is_inside = inside(lengths, inputs.shape[1])
        turned = torch.where(is_inside, lengths.unsqueeze(1) - 1 - steps, steps)
        outputs = ahead = inputs
        for i, layer in enumerate(self.ahead):
            if i:
                outputs = self.dropout(outputs)
            ahead = layer(outputs)[0]
            if len(self.behind):
                behind = _reorder(self.behind[i](_reorder(outputs, turned))[0], turned)
                outputs = torch.cat([ahead, behind], 2)
            else:
                outputs = ahead
        last = _reorder(ahead, (lengths - 1).unsqueeze(1))[:, 0]
        if len(self.behind):
            last = torch.cat([last, outputs[:, 0, ahead.shape[2] :]], 1)
        return outputs * is_inside.unsqueeze(2), last


def _reorder(values: Tensor, steps: Tensor) -> Tensor:
    """`values` (batch, steps, numbers) at the given steps (batch, chosen)."""
    return values.gather(1, steps.unsqueeze(2).expand(-1, -1, values.shape[2]))
