"""What a sweep optimises: metrics with their goals and limits, and the one place where a goal's sign is flipped."""

from __future__ import annotations

import math
import re
from bisect import bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Literal

Goal = Literal["minimize", "maximize"]
DIVERGED_LOSS: Final = 1e30  # a loss this large is no measurement; trials report it in place of what JSON cannot hold
_CONSTRAINT = re.compile(r"^\s*(?P<metric>[^\s<>=]+)\s*(?P<sign><=|>=)\s*(?P<limit>\S+)\s*$")


@dataclass(frozen=True, slots=True)
class Objective:
    """A metric and its goal; `target`, in the metric's own unit, ends the sweep once a trial reaches it."""

    name: str
    goal: Goal = "minimize"
    target: float | None = None

    def loss(self, value: float) -> float:
        """`value` with the sign that makes lower better; NaN becomes +inf."""
        if math.isnan(value):
            return math.inf
        return value if self.goal == "minimize" else -value

    def value(self, loss: float) -> float:
        """The metric's own value of a `loss`: the inverse of `loss`."""
        return loss if self.goal == "minimize" else -loss

    def reached(self, value: float) -> bool:
        """Whether `value` is at least as good as the target; False without one."""
        return self.target is not None and self.loss(value) <= self.loss(self.target)


@dataclass(frozen=True, slots=True)
class Constraint:
    """A limit that a trial's metric must keep, as in `latency_ms <= 20`."""

    metric: str
    sign: Literal["<=", ">="]
    limit: float

    @classmethod
    def parse(cls, text: str) -> Constraint:
        """Read `metric <= number` or `metric >= number`; ValueError says what is wrong."""
        match = _CONSTRAINT.match(text)
        if match is None:
            msg = "a constraint reads `metric <= number` or `metric >= number`"
            raise ValueError(msg)
        limit = float(match["limit"])
        if not math.isfinite(limit):
            msg = "the limit of a constraint must be a finite number"
            raise ValueError(msg)
        return cls(match["metric"], "<=" if match["sign"] == "<=" else ">=", limit)

    def violation(self, value: float) -> float:
        """By how much `value` breaks the limit; 0 where it is kept, +inf for NaN."""
        if math.isnan(value):
            return math.inf
        return max(0.0, value - self.limit if self.sign == "<=" else self.limit - value)

    def __str__(self) -> str:
        return f"{self.metric} {self.sign} {self.limit:g}"


@dataclass(frozen=True, slots=True)
class Observation:
    """What one epoch of a trial showed: a loss per objective (lower is better) and the sum of constraint violations."""

    losses: tuple[float, ...]
    violation: float = 0.0

    @property
    def is_finite(self) -> bool:
        """False for a diverged epoch, which ranks behind every finite one."""
        return all(abs(loss) < DIVERGED_LOSS for loss in self.losses) and math.isfinite(self.violation)

    def dominates(self, other: Observation) -> bool:
        """Pareto dominance, where a smaller constraint violation goes first (Deb et al. 2002)."""
        if self.violation != other.violation:
            return self.violation < other.violation
        return all(a <= b for a, b in zip(self.losses, other.losses, strict=True)) and self.losses != other.losses


@dataclass(frozen=True, slots=True)
class Objectives:
    """All objectives and constraints of a sweep; `scores` makes any set of observations comparable."""

    objectives: tuple[Objective, ...]
    constraints: tuple[Constraint, ...] = ()

    @property
    def metrics(self) -> tuple[str, ...]:
        """Every metric a trial has to report."""
        names = [o.name for o in self.objectives] + [c.metric for c in self.constraints]
        return tuple(dict.fromkeys(names))

    def observe(self, metrics: Mapping[str, float]) -> Observation:
        """The observation of one report; KeyError names a metric that is missing."""
        losses = tuple(o.loss(metrics[o.name]) for o in self.objectives)
        return Observation(losses, sum(c.violation(metrics[c.metric]) for c in self.constraints))

    def reached(self, metrics: Mapping[str, float]) -> bool:
        """Whether every objective that has a target meets it and no constraint is broken; False without targets."""
        targets = [o for o in self.objectives if o.target is not None]
        kept = all(c.violation(metrics[c.metric]) == 0 for c in self.constraints)
        return bool(targets) and kept and all(o.reached(metrics[o.name]) for o in targets)

    def scores(self, observations: Sequence[Observation]) -> list[float]:
        """One number per observation, lower is better: the loss itself for one objective, else the Pareto order.

        Infeasible observations come after all feasible ones, by their violation; diverged ones are +inf.
        """
        if len(self.objectives) == 1:
            return _single_scores(observations)
        finite = [i for i, o in enumerate(observations) if o.is_finite]
        scores = [math.inf] * len(observations)
        for i, place in zip(finite, pareto_order([observations[i] for i in finite]), strict=True):
            scores[i] = float(place)
        return scores


def _single_scores(observations: Sequence[Observation]) -> list[float]:
    feasible = [o.losses[0] for o in observations if o.violation == 0 and o.is_finite]
    worst = max(feasible, default=0.0)
    scale = 1.0 + abs(worst)
    return [
        math.inf if not o.is_finite else o.losses[0] if o.violation == 0 else worst + scale * (1.0 + o.violation)
        for o in observations
    ]


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


def _sweep_ranks(losses: Sequence[tuple[float, ...]]) -> list[int]:
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


def _matrix_ranks(losses: Sequence[tuple[float, ...]]) -> list[int]:
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


def pareto_order(observations: Sequence[Observation]) -> list[int]:
    """The place of each observation when sorted by front, then by crowding distance, the emptier region first."""
    place = [0] * len(observations)
    position = 0
    for front in pareto_fronts(observations):
        crowding = _crowding([observations[i] for i in front])
        for _, i in sorted(zip([-c for c in crowding], front, strict=True)):
            place[i] = position
            position += 1
    return place


def _crowding(front: Sequence[Observation]) -> list[float]:
    distance = [0.0] * len(front)
    for k in range(len(front[0].losses)):
        order = sorted(range(len(front)), key=lambda i: front[i].losses[k])
        span = front[order[-1]].losses[k] - front[order[0]].losses[k]
        distance[order[0]] = distance[order[-1]] = math.inf
        if not (math.isfinite(span) and span > 0):
            continue
        for before, i, after in zip(order, order[1:], order[2:], strict=False):
            distance[i] += (front[after].losses[k] - front[before].losses[k]) / span
    return distance
