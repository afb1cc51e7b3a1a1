"""The orders that importance explains: one for each epoch at which trials were left behind, among its own trials."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Final

import numpy as np

from service.tuning.importance_basis import Floats
from service.tuning.rank_agreement import normal_scores

_FEWEST: Final = 20  # trials at a stage beyond the first


def orders(curves: Sequence[Mapping[int, float]], epochs: Sequence[int]) -> tuple[list[Floats], int]:
    """(the orders, the epoch of the last one). An order has one normal score per trial, higher is better.

    It is NaN for a trial that did not come so far. `curves`: epoch -> loss of each trial, by its best value so far; a
    loss that is not finite loses against all that are, at the first of `epochs` from there on, and leaves then.
    """
    tables = {epoch: [_loss(curve, epoch, before) for curve in curves] for before, epoch in _steps(epochs)}
    counts = {epoch: sum(loss is not None for loss in table) for epoch, table in tables.items()}
    chosen: list[int] = []
    for epoch in sorted(epochs, reverse=True):
        is_enough = counts[epoch] >= _FEWEST or epoch == min(epochs)
        if is_enough and (not chosen or counts[epoch] > counts[chosen[0]]):
            chosen.insert(0, epoch)
    return [_scores(tables[epoch]) for epoch in chosen], chosen[-1]


def _steps(epochs: Sequence[int]) -> list[tuple[int, int]]:
    ordered = sorted(epochs)
    return list(zip([0, *ordered], ordered, strict=False))


def _loss(curve: Mapping[int, float], epoch: int, before: int) -> float | None:
    """The best loss until `epoch`; None where the trial did not come so far, or broke at or before `before`."""
    broken = min((e for e, loss in curve.items() if not math.isfinite(loss)), default=None)
    if broken is not None and broken <= epoch:
        return math.inf if broken > before else None
    if max(curve, default=0) < epoch:
        return None
    seen = [loss for e, loss in curve.items() if e <= epoch] or [curve[min(curve)]]  # validated every n epochs only
    return min(seen)


def _scores(losses: Sequence[float | None]) -> Floats:
    found = np.full(len(losses), np.nan)
    rows = [i for i, loss in enumerate(losses) if loss is not None]
    found[rows] = normal_scores([-loss for loss in losses if loss is not None])
    return found
