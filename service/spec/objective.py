"""What a sweep optimises: metrics with their goals and limits, and the one place where a goal's sign is flipped."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Literal

from service.spec.pareto import Achievement, Wish, pareto_fronts, pareto_places

Goal = Literal["minimize", "maximize"]
DIVERGED_LOSS: Final = 1e30  # a loss this large is no measurement; trials report it in place of what JSON cannot hold
_CONSTRAINT = re.compile(r"^\s*(?P<metric>[^\s<>=]+)\s*(?P<sign><=|>=)\s*(?P<limit>\S+)\s*$")


@dataclass(frozen=True, slots=True)
class Objective:
    """A metric and its goal; `target`, in the metric's own unit, ends the sweep once a trial reaches it.

    `weight` and `reference` (a value that would be good enough) choose among the trade-offs of several objectives.
    """

    name: str
    goal: Goal = "minimize"
    target: float | None = None
    weight: float = 1.0
    reference: float | None = None

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
        for loss in self.losses:  # a loop, as this is asked of all trials at every rung
            if not abs(loss) < DIVERGED_LOSS:
                return False
        return math.isfinite(self.violation)

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

    @property
    def is_single(self) -> bool:
        """Whether there is one objective only, so that nothing has to be traded off."""
        return len(self.objectives) == 1

    def scores(self, observations: Sequence[Observation]) -> list[float]:
        """One number per observation, lower is better: the loss itself for one objective, else the Pareto order.

        Infeasible observations come after all feasible ones, by their violation; diverged ones are +inf. Within a front
        the compromise comes first, and then what spreads best, so that a few of the best show the whole front.
        """
        if self.is_single:
            return _single_scores(observations)
        return self._of_finite(observations, [float(n) for n in pareto_places(_finite(observations), self._wish)])

    def layers(self, observations: Sequence[Observation]) -> list[float]:
        """As `scores`, but equal for all of one front: what no other dominates is never behind it."""
        if self.is_single:
            return _single_scores(observations)
        finite = _finite(observations)
        layers = [0.0] * len(finite)
        for number, front in enumerate(pareto_fronts(finite)):
            for i in front:
                layers[i] = float(number)
        return self._of_finite(observations, layers)

    def preference(self, observations: Sequence[Observation]) -> list[float]:
        """As `scores`, but a measure: with several objectives the distance from what is wished, in spans of the front.

        What that is, `weight` and `reference` of the objectives say; see `service.spec.pareto.Achievement`.
        """
        if self.is_single:
            return _single_scores(observations)
        measured = zip(observations, self._achievements(observations), strict=True)
        return _single_scores([Observation((distance,), o.violation) for o, distance in measured])

    def order(self, observations: Sequence[Observation]) -> list[int]:
        """Indices, the best first: by score; with several objectives front by front, the compromise before all.

        With one objective, of those that break their limits by as much the lower loss goes first.
        """
        layers = self.layers(observations)
        distances = [o.losses[0] for o in observations] if self.is_single else self._achievements(observations)
        return sorted(range(len(observations)), key=lambda i: (layers[i], distances[i], i))

    def compromise(self, observations: Sequence[Observation], least_span: float = 0.0) -> int:
        """The index of the one to take: with one objective the best, else the chosen compromise of the Pareto front.

        `least_span`: an objective that moves by less than this share of its size is no matter of choice.
        ValueError without observations.
        """
        if not observations:
            msg = "there is nothing to choose from"
            raise ValueError(msg)
        if self.is_single:
            return self.order(observations)[0]
        candidates = self._first_front(observations)
        distances = self._achievements(observations, least_span) if candidates else _single_scores(observations)
        return min(candidates or range(len(observations)), key=distances.__getitem__)

    def pareto(self, observations: Sequence[Observation]) -> list[int]:
        """Indices of those that break no limit and that no other dominates; none with a single objective."""
        if self.is_single:
            return []
        return [i for i in self._first_front(observations) if observations[i].violation == 0]

    def _achievements(self, observations: Sequence[Observation], least_span: float = 0.0) -> list[float]:
        """The distance of each observation from what is wished, measured by the first front; diverged ones are +inf."""
        front = [observations[i].losses for i in self._first_front(observations)]
        achievement = Achievement.of(front, self._wish, least_span) if front else None
        return [math.inf if achievement is None or not o.is_finite else achievement(o.losses) for o in observations]

    def _first_front(self, observations: Sequence[Observation]) -> list[int]:
        places = [i for i, o in enumerate(observations) if o.is_finite]
        fronts = pareto_fronts(_finite(observations))
        return [places[i] for i in fronts[0]] if fronts else []

    @property
    def _wish(self) -> Wish:
        references = [None if o.reference is None else o.loss(o.reference) for o in self.objectives]
        return Wish(tuple(o.weight for o in self.objectives), tuple(references))

    @staticmethod
    def _of_finite(observations: Sequence[Observation], found: Sequence[float]) -> list[float]:
        """`found`, which is of the finite observations, with +inf for the others."""
        left = iter(found)
        return [next(left) if o.is_finite else math.inf for o in observations]


def _finite(observations: Sequence[Observation]) -> list[Observation]:
    return [o for o in observations if o.is_finite]


def _single_scores(observations: Sequence[Observation]) -> list[float]:
    feasible = [o.losses[0] for o in observations if o.violation == 0 and o.is_finite]
    worst = max(feasible, default=0.0)
    scale = 1.0 + abs(worst)
    return [
        math.inf if not o.is_finite else o.losses[0] if o.violation == 0 else worst + scale * (1.0 + o.violation)
        for o in observations
    ]
