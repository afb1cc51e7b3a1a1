"""How alike two orders of trials are, and what that says of those that were stopped in between; pure.

A scheduler lets only the best of an early epoch reach a later one. Among them the early values lie close together, so
their rank correlation understates how well the early epoch foretells the later one. As what was selected on is known,
that can be mended (Thorndike's case 2: one straight relation over all normal scores).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist, pstdev
from typing import Final

FEWEST: Final = 5  # trials; below it a rank correlation says nothing
_NORMAL: Final = 1.6449  # 90 % interval
_MOST: Final = 0.9999
_PLAYS, _MOST_PLAYED = 1000, 400


@dataclass(frozen=True, slots=True)
class Agreement:
    """Spearman's correlation between the orders at two epochs, of the trials that reached both.

    `mended`, `low` and `high`: the estimate for all trials of the early epoch, with its 90 % interval.
    """

    epoch: int  # the later one
    correlation: float
    mended: float
    low: float
    high: float
    trials: int


def agreement(epoch: int, early: Sequence[float], late: Sequence[float | None]) -> Agreement | None:
    """How well `early` foretells `late` (at `epoch`; None where a trial did not come so far). Lower is better in both.

    None with fewer than FEWEST trials in both, or where all of them are equal. The interval is that of Bonett and
    Wright (2000) on Fisher's scale.
    """
    both = [i for i, score in enumerate(late) if score is not None]
    if len(both) < FEWEST:
        return None
    found = spearman([early[i] for i in both], [score for score in late if score is not None])
    if found is None:
        return None
    scores = normal_scores(early)
    narrow = pstdev([scores[i] for i in both])
    wide = max(1.0, pstdev(scores) / narrow) if narrow > 0 else 1.0
    middle = math.atanh(max(-_MOST, min(_MOST, found)))
    half = _NORMAL * math.sqrt((1 + found**2 / 2) / (len(both) - 3))
    low, high = (_mended(math.tanh(end), wide) for end in (middle - half, middle + half))
    return Agreement(epoch, found, _mended(found, wide), low, high, len(both))


def chance_of_missing(correlation: float, trials: int, kept: int) -> float:
    """The probability that the later best of `trials` is not among the first `kept` of an early order.

    The two orders are those of normal variables with that rank correlation; always the same answer.
    """
    import numpy as np

    shown = min(trials, _MOST_PLAYED)
    limit = max(1, round(kept * shown / trials))
    rng = np.random.default_rng(0)
    late, other = rng.standard_normal((2, _PLAYS, shown))
    linear = _linear(correlation)
    early = linear * late + math.sqrt(max(0.0, 1 - linear**2)) * other
    winner = early[np.arange(_PLAYS), late.argmin(axis=1)]
    return float(((early < winner[:, None]).sum(axis=1) >= limit).mean())


def spearman(first: Sequence[float], second: Sequence[float]) -> float | None:
    """The rank correlation, ties sharing their mean rank; None where all values of one side are equal."""
    a, b = _ranks(first), _ranks(second)
    middle = (len(a) - 1) / 2
    spread = math.sqrt(sum((x - middle) ** 2 for x in a) * sum((y - middle) ** 2 for y in b))
    return sum((x - middle) * (y - middle) for x, y in zip(a, b, strict=True)) / spread if spread else None


def _ranks(values: Sequence[float]) -> list[float]:
    order = sorted(range(len(values)), key=values.__getitem__)
    ranks = [0.0] * len(values)
    start = 0
    while start < len(order):
        end = start
        while end < len(order) and values[order[end]] == values[order[start]]:
            end += 1
        for i in order[start:end]:
            ranks[i] = (start + end - 1) / 2
        start = end
    return ranks


def normal_scores(values: Sequence[float]) -> list[float]:
    """The places of `values` as a normal variable has them, the lowest first; equal values share their mean place."""
    normal = NormalDist()
    return [normal.inv_cdf((rank + 0.5) / len(values)) for rank in _ranks(values)]


def _linear(rank_correlation: float) -> float:
    """The correlation of two normal variables with that rank correlation."""
    return 2 * math.sin(math.pi * rank_correlation / 6)


def _mended(rank_correlation: float, wide: float) -> float:
    """The rank correlation where the early values spread `wide` times as much as among those that were seen again."""
    seen = _linear(rank_correlation)
    whole = seen * wide / math.sqrt(1 + seen**2 * (wide**2 - 1))
    return 6 / math.pi * math.asin(whole / 2)
