"""How far written sequences are from the right ones, for a whole batch at once and on any device."""

from __future__ import annotations

import torch
from torch import Tensor


def edit_distances(written: Tensor, right: Tensor) -> Tensor:
    """The fewest insertions, deletions and replacements (batch,) that turn rows of `written` into those of `right`.

    Both are (batch, symbols), 0 after the end (Levenshtein 1966). An insertion depends on the cell to its left; since
    each costs 1, a row's least cost there is a running minimum once the column's number is taken off.
    """
    written_lengths, right_lengths = (written != 0).sum(1), (right != 0).sum(1)
    columns = torch.arange(right.shape[1] + 1, device=right.device)
    costs = columns.expand(len(right), -1)
    for i in range(written.shape[1]):
        replaced = costs[:, :-1] + (written[:, i : i + 1] != right)
        best = torch.cat([costs[:, :1] + 1, torch.minimum(replaced, costs[:, 1:] + 1)], 1)
        best = (best - columns).cummin(1).values + columns
        costs = torch.where((i < written_lengths).unsqueeze(1), best, costs)
    return costs.gather(1, right_lengths.unsqueeze(1))[:, 0]
