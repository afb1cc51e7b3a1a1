"""The four kinds of parameter, each a one-dimensional distribution that maps to and from the unit interval; pure.

They trust their bounds: `service/spec/parameters.py` is what refuses wrong ones from a sweep file, with line and
reason.
"""

from __future__ import annotations

import itertools
import math
from bisect import bisect_right
from collections.abc import Hashable, Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from functools import cached_property
from typing import Any, ClassVar, Literal, TypeAlias

from service.spec.priors import Prior, Warp, warp

JSON: TypeAlias = Any
Kind: TypeAlias = Literal["constant", "choice", "integer", "real"]


def identity(value: JSON) -> Hashable:
    """What two equal JSON values share: 1 and 1.0 are the same, 1 and true are not."""
    if isinstance(value, bool):
        return "bool", value
    if isinstance(value, dict):
        return "mapping", frozenset((key, identity(item)) for key, item in value.items())
    if isinstance(value, list | tuple):
        return "list", tuple(identity(item) for item in value)
    return value if isinstance(value, int | float) else (type(value).__name__, value)


def is_number(value: JSON) -> bool:
    """Whether `value` is a finite number; true and false are none."""
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _clip(u: float) -> float:
    return 0.5 if math.isnan(u) else min(1.0, max(0.0, float(u)))


@dataclass(frozen=True, slots=True, kw_only=True)
class _Conditional:
    when: Mapping[str, tuple[JSON, ...]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Constant(_Conditional):
    """One value; takes no dimension of the unit cube."""

    value: JSON
    kind: ClassVar[Kind] = "constant"
    size: ClassVar[int] = 1

    def contains(self, value: JSON) -> bool:
        """Whether `value` is the constant."""
        return identity(value) == identity(self.value)

    def to_unit(self, value: JSON) -> float:  # noqa: ARG002  # the same shape as its siblings
        """The middle of the interval, whatever is given."""
        return 0.5

    def from_unit(self, u: float) -> JSON:  # noqa: ARG002  # the same shape as its siblings
        """The constant."""
        return self.value

    def grid_values(self, points: int) -> list[JSON]:  # noqa: ARG002  # the same shape as its siblings
        """The constant alone."""
        return [self.value]


@dataclass(frozen=True)
class Choice(_Conditional):
    """One of `values` (any JSON, no two equal), drawn by `weights` (positive, any scale) or evenly, and by `prior`."""

    values: tuple[JSON, ...]
    weights: tuple[float, ...] | None = None
    prior: Prior | None = None
    kind: ClassVar[Kind] = "choice"

    @property
    def size(self) -> int:
        """How many values there are."""
        return len(self.values)

    def index(self, value: JSON) -> int:
        """The place of `value` among `values`; ValueError where it is none of them."""
        place = self._places.get(identity(value))
        if place is None:
            msg = f"{value!r} is none of the values"
            raise ValueError(msg)
        return place

    def contains(self, value: JSON) -> bool:
        """Whether `value` is one of `values`."""
        return identity(value) in self._places

    @cached_property
    def _places(self) -> dict[Hashable, int]:
        return {identity(value): i for i, value in enumerate(self.values)}

    @cached_property
    def probabilities(self) -> tuple[float, ...]:
        """How likely each of `values` is drawn."""
        weights = self.weights or (1.0,) * len(self.values)
        total = math.fsum(weights)
        even = tuple(weight / total for weight in weights)
        return even if self.prior is None else self.prior.probabilities(even, self.index(self.prior.around))

    @cached_property
    def _edges(self) -> list[float]:
        return [0.0, *itertools.accumulate(self.probabilities)]

    def to_unit(self, value: JSON) -> float:
        """The middle of the part of the interval that `value` owns; its length is the value's probability."""
        edges, i = self._edges, self.index(value)
        return (edges[i] + edges[i + 1]) / 2

    def from_unit(self, u: float) -> JSON:
        """The value that owns `u`."""
        return self.values[min(len(self.values), bisect_right(self._edges, _clip(u))) - 1]

    def grid_values(self, points: int) -> list[JSON]:  # noqa: ARG002  # the same shape as its siblings
        """All values."""
        return list(self.values)


@dataclass(frozen=True)
class Integer(_Conditional):
    """low, low + step, … up to `high`, evenly or log-uniformly (then low ≥ 1)."""

    low: int
    high: int
    log: bool = False
    step: int = 1
    prior: Prior | None = None
    kind: ClassVar[Kind] = "integer"

    @property
    def size(self) -> int:
        """How many values there are."""
        return (self.high - self.low) // self.step + 1

    def contains(self, value: JSON) -> bool:
        """Whether `value` is a whole number of the range and on its steps."""
        inside = is_number(value) and value == int(value) and self.low <= value <= self.high
        return inside and (int(value) - self.low) % self.step == 0

    def to_unit(self, value: JSON) -> float:
        """A point inside the part of the interval that `value` owns; the middle of it without a prior."""
        place = self._place(value)
        return place if self._warp is None else self._warp.back(place)

    def _place(self, value: JSON) -> float:
        k = min(self.size - 1, max(0, round((float(value) - self.low) / self.step)))
        return self._lattice.unit(k)

    @cached_property
    def _lattice(self) -> _Lattice:
        return _Lattice(self.low, self.step, self.size, self.log)

    @cached_property
    def _warp(self) -> Warp | None:
        return None if self.prior is None else warp(self._place(self.prior.around), self.prior.strength)

    def from_unit(self, u: float) -> int:
        """The value that owns `u`."""
        return self._at(_clip(u) if self._warp is None else self._warp.onto(_clip(u)))

    def _at(self, place: float) -> int:
        return self.low + self.step * self._lattice.index(place)

    def grid_values(self, points: int) -> list[JSON]:
        """All values where there are at most `points`, else `points` of them from `low` up, evenly in their scale."""
        if self.size <= points:
            return list(range(self.low, self.high + 1, self.step))
        return list(dict.fromkeys(self._at(place) for place in _evenly(points)))


@dataclass(frozen=True)
class Real(_Conditional):
    """A number from `low` to `high`, inclusive, evenly or log-uniformly (then low > 0); on low + k·step if given."""

    low: float
    high: float
    log: bool = False
    step: float | None = None
    prior: Prior | None = None
    kind: ClassVar[Kind] = "real"

    @cached_property
    def size(self) -> int | None:
        """How many values there are; None where they are not counted."""
        if self.step is None:
            return None
        span = Decimal(repr(float(self.high))) - Decimal(repr(float(self.low)))
        # The small part forgives a step like 1/3 that floats make a little too large.
        return int(span / Decimal(repr(float(self.step))) + Decimal("1e-9")) + 1

    @cached_property
    def _lattice(self) -> _Lattice | None:
        size = self.size
        return None if size is None or self.step is None else _Lattice(self.low, self.step, size, self.log)

    @cached_property
    def _warp(self) -> Warp | None:
        return None if self.prior is None else warp(self._place(self.prior.around), self.prior.strength)

    def _step(self, k: int) -> float:
        # In decimals, so that 0.1 + 2 * 0.1 is 0.3.
        return min(self.high, float(Decimal(repr(float(self.low))) + k * Decimal(repr(float(self.step or 0.0)))))

    def contains(self, value: JSON) -> bool:
        """Whether `value` is a number of the range and, within rounding, on its steps."""
        if not (is_number(value) and self.low <= value <= self.high):
            return False
        if self.step is None:
            return True
        nearest = self._step(round((value - self.low) / self.step))
        return math.isclose(nearest, value, rel_tol=1e-9, abs_tol=1e-9 * self.step)

    def to_unit(self, value: JSON) -> float:
        """The place of `value` in the interval: on the parameter's scale where it has no prior."""
        place = self._place(value)
        return place if self._warp is None else self._warp.back(place)

    def _place(self, value: JSON) -> float:
        value = min(self.high, max(self.low, float(value)))
        lattice = self._lattice
        if lattice is not None and self.step is not None:
            return lattice.unit(min(lattice.size - 1, round((value - self.low) / self.step)))
        if self.log:
            return _clip(math.log(value / self.low) / math.log(self.high / self.low))
        return _clip((value - self.low) / (self.high - self.low))

    def from_unit(self, u: float) -> float:
        """The value at `u`; always inside the bounds."""
        return self._at(_clip(u) if self._warp is None else self._warp.onto(_clip(u)))

    def _at(self, place: float) -> float:
        lattice = self._lattice
        if lattice is not None:
            return self._step(lattice.index(place))
        value = self.low * (self.high / self.low) ** place if self.log else self.low + place * (self.high - self.low)
        return min(float(self.high), max(float(self.low), value))

    def grid_values(self, points: int) -> list[JSON]:
        """All steps where there are at most `points`, else `points` values from `low` up, evenly in their scale."""
        size = self.size
        if size is not None and size <= points:
            return [self._step(k) for k in range(size)]
        return list(dict.fromkeys(self._at(place) for place in _evenly(points)))


Parameter: TypeAlias = Constant | Choice | Integer | Real


def _evenly(points: int) -> list[float]:
    return [0.5] if points == 1 else [i / (points - 1) for i in range(points)]


@dataclass(frozen=True, slots=True)
class _Lattice:
    """`size` points low + k·step; each owns an equal part of the unit interval, or its share of the logarithm."""

    low: float
    step: float
    size: int
    log: bool

    def _log_edges(self) -> tuple[float, float]:
        first = max(self.low - self.step / 2, self.low / 2)
        last = self.low + (self.size - 0.5) * self.step
        return math.log(first), math.log(last)

    def unit(self, k: int) -> float:
        if not self.log:
            return (k + 0.5) / self.size
        first, last = self._log_edges()
        return _clip((math.log(self.low + k * self.step) - first) / (last - first))

    def index(self, u: float) -> int:
        if not self.log:
            return min(self.size - 1, int(u * self.size))
        first, last = self._log_edges()
        k = round((math.exp(first + u * (last - first)) - self.low) / self.step)
        return min(self.size - 1, max(0, k))
