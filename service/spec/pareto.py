"""The Pareto order of observations, and the compromise among those that no other beats: pure, over losses alone.

Non-dominated sorting as in Deb et al., A Fast and Elitist Multiobjective Genetic Algorithm: NSGA-II (2002). Within a
front the order is a greedy net, as in Schmucker et al., Multi-objective Asynchronous Successive Halving (2021): each
next point is the one farthest from all before it, so that the first few of a front, however few, are spread over it.
The net begins at the compromise: the least weighted Chebyshev distance from the front's ideal point, augmented by the
sum (Steuer and Choo 1983), with a penalty on what falls short of reference values (Wierzbicki 1980).
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from service.spec.objective import Observation

Losses = tuple[float, ...]
PENALTY: Final = 1000.0  # of falling short of a reference: nothing that can be gained elsewhere outweighs it
AUGMENTATION: Final = 0.05  # what the sum counts beside the maximum, so that no dominated point is ever preferred
MOST_NET: Final = 100  # points of a front that are spread one by one; the rest goes by its distance to these
_NO_SAY: Final = 1e3  # sizes of a loss that a span is taken for where the objective shall not choose
_HUGE: Final = 1e30  # beyond it is no measurement, and sums with it are none either


@dataclass(frozen=True, slots=True)
class Wish:
    """What is preferred among trade-offs: a weight per objective, and a loss that would be good enough, or None."""

    weights: Losses
    references: tuple[float | None, ...]

    @classmethod
    def even(cls, count: int) -> Wish:
        """No preference among `count` objectives."""
        return cls((1.0,) * count, (None,) * count)


@dataclass(frozen=True, slots=True)
class Achievement:
    """How far losses are from what is wished, in spans of a front; lower is better, and what dominates is lower.

    Points that are at least as good as every reference come first, else those that fall short of one by least; among
    these counts the distance from the ideal point, in the objective where it is largest by weight.
    """

    ideal: Losses
    factors: Losses  # weight / span
    references: Losses  # +inf: none

    @classmethod
    def of(cls, front: Sequence[Losses], wish: Wish, least_span: float = 0.0) -> Achievement:
        """Measured by `front`; an objective that moves by less than `least_span` of its size has next to no say."""
        columns = [[_bounded(x) for x in column] for column in zip(*front, strict=True)]
        spans = [_span(column, least_span) for column in columns]
        factors = tuple(weight / span for weight, span in zip(wish.weights, spans, strict=True))
        return cls(tuple(map(min, columns)), factors, tuple(math.inf if r is None else r for r in wish.references))

    def __call__(self, losses: Losses) -> float:
        """The distance of `losses`."""
        bounded = [_bounded(x) for x in losses]
        terms = [f * (x - least) for x, f, least in zip(bounded, self.factors, self.ideal, strict=True)]
        short = [f * max(0.0, x - r) for x, f, r in zip(bounded, self.factors, self.references, strict=True)]
        return max(terms) + AUGMENTATION * sum(terms) + PENALTY * max(short)


def _span(losses: list[float], least_share: float) -> float:
    span, size = max(losses) - min(losses), max(map(abs, losses))
    return (span if span >= least_share * size else _NO_SAY * size) or 1.0


def _bounded(loss: float) -> float:
    return min(_HUGE, max(-_HUGE, loss))


def pareto_fronts(observations: Sequence[Observation]) -> list[list[int]]:
    """Indices grouped into non-dominated fronts, best first (non-dominated sorting, Deb et al. 2002)."""
    by_violation: dict[float, list[int]] = {}
    for i, observation in enumerate(observations):
        by_violation.setdefault(observation.violation, []).append(i)
    fronts: list[list[int]] = []
    for _, members in sorted(by_violation.items()):
        losses = [observations[i].losses for i in members]
        ranks = _sweep_ranks(losses) if len(losses[0]) <= 2 else _matrix_ranks(losses)  # noqa: PLR2004  # a plane
        found: list[list[int]] = [[] for _ in range(max(ranks) + 1)]
        for i, rank in zip(members, ranks, strict=True):
            found[rank].append(i)
        fronts += found
    return fronts


def _sweep_ranks(losses: Sequence[Losses]) -> list[int]:
    """The front of each point with one or two losses: n log n, along the first loss (Jensen 2003)."""
    ranks = [0] * len(losses)
    lowest: list[float] = []  # per front, the smallest second loss so far: ascending
    previous = -1
    for i in sorted(range(len(losses)), key=losses.__getitem__):
        second = losses[i][-1] if len(losses[i]) > 1 else 0.0
        if previous >= 0 and losses[i] == losses[previous]:
            ranks[i] = ranks[previous]
        else:
            ranks[i] = bisect_right(lowest, second)
            lowest[ranks[i] : ranks[i] + 1] = [second]
        previous = i
    return ranks


def _matrix_ranks(losses: Sequence[Losses]) -> list[int]:
    """The front of each point with any number of losses: all pairs at once, then front after front taken away."""
    import numpy as np

    columns = np.asarray(losses, dtype=float).T
    dominates = np.logical_and.reduce([c[:, None] <= c[None, :] for c in columns])
    dominates &= np.logical_or.reduce([c[:, None] < c[None, :] for c in columns])
    dominators = dominates.sum(axis=0)
    ranks = np.full(len(losses), -1)
    rank = 0
    while (ranks < 0).any():
        front = (dominators == 0) & (ranks < 0)
        ranks[front] = rank
        dominators = dominators - dominates[front].sum(axis=0)
        rank += 1
    return [int(found) for found in ranks]


def pareto_places(observations: Sequence[Observation], wish: Wish) -> list[int]:
    """How many come before each observation: those of better fronts, then its own front as a net from the compromise.

    Observations with equal losses share their place.
    """
    places = [0] * len(observations)
    before = 0
    for front in pareto_fronts(observations):
        alike: dict[Losses, list[int]] = {}
        for i in front:
            alike.setdefault(observations[i].losses, []).append(i)
        for losses in _net(list(alike), wish):
            for i in alike[losses]:
                places[i] = before
            before += len(alike[losses])
    return places


def _net(front: list[Losses], wish: Wish) -> list[Losses]:
    """The points of a front: the compromise, then always the one farthest from all before it, in spans of the front."""
    achievement = Achievement.of(front, wish)
    first = min(range(len(front)), key=lambda i: achievement(front[i]))
    if len(front) <= 2:  # noqa: PLR2004  # nothing to spread
        return [front[first], *front[:first], *front[first + 1 :]]
    import numpy as np

    points = np.clip(np.asarray(front, dtype=float), -_HUGE, _HUGE)
    spans = points.max(axis=0) - points.min(axis=0)
    points = (points - points.min(axis=0)) / np.where(spans > 0, spans, 1.0)
    distance = np.full(len(front), np.inf)
    chosen, order = first, [first]
    while len(order) < min(len(front), MOST_NET):
        distance = np.minimum(distance, ((points - points[chosen]) ** 2).sum(axis=1))
        distance[chosen] = -1.0
        chosen = int(distance.argmax())
        order.append(chosen)
    distance[chosen] = -1.0
    rest = [int(i) for i in np.argsort(-distance, kind="stable") if distance[i] >= 0]
    return [front[i] for i in [*order, *rest]]
