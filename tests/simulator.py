"""Simulated sweeps for tests and benchmarks: the product's own simulation, and how good what it found is."""

from __future__ import annotations

import math

from service.tuning.history import History
from service.tuning.simulation import MAX_EVENTS, Breakdown, Curves, Simulation, Task

__all__ = ["MAX_EVENTS", "Breakdown", "Curves", "Simulation", "Task", "best_loss"]


def best_loss(history: History) -> float:
    """The first objective's loss at the best epoch of the best trial; inf where there is none."""
    ranking = history.ranking()
    return history.trials[ranking[0][0]].curve[ranking[0][1]].losses[0] if ranking else math.inf
