"""What the next trial is expected to gain, from the losses of the trials before it alone: no model of the space.

Peaks over a threshold (Pickands 1975; Davison and Smith 1990): the best losses of recent trials fall below a threshold
by amounts that are taken as exponential, whose mean is estimated by their average. That is the heaviest tail that a
loss with a bound below has, so the estimate errs towards going on.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Final

LEAST: Final = 10  # finished trials before there is an estimate
WINDOW: Final = 50  # the newest trials that count: a searcher that learns proposes better ones as it goes
TAIL: Final = 5  # one of so many trials is below the threshold


def expected_gain(losses: Sequence[float]) -> float | None:
    """E[max(0, best - next)] of trials that ended with these `losses`, in their order; +inf: without a result.

    In the unit of `losses`. None before 10 trials, or while fewer than 4 have a result.
    """
    recent = sorted(losses[-WINDOW:])
    finite = [loss for loss in recent if math.isfinite(loss)]
    below = max(3, len(recent) // TAIL)
    if len(losses) < LEAST or len(finite) <= below:
        return None
    threshold = finite[below]
    mean_excess = sum(threshold - loss for loss in finite[:below]) / below
    if mean_excess == 0:
        return 0.0
    excess_of_best = max(0.0, threshold - min(losses))
    return below / len(recent) * mean_excess * math.exp(-excess_of_best / mean_excess)
