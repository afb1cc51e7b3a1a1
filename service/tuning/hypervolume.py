"""The hypervolume of two objectives over time: how much of what could be had a sweep has found, exactly.

Zitzler and Thiele, Multiobjective Evolutionary Algorithms (1999): the area that the points dominate, up to a reference.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Iterable
from dataclasses import dataclass, field

Point = tuple[float, float]


@dataclass(slots=True)
class Staircase:
    """The area that points so far dominate within the box up to `reference`; lower is better in both."""

    reference: Point
    area: float = 0.0
    _steps: list[Point] = field(default_factory=list)  # non-dominated: the first loss ascends, the second falls

    def add(self, point: Point) -> bool:
        """Take a point in; whether it grew the area."""
        if not (point[0] < self.reference[0] and point[1] < self.reference[1] and all(map(math.isfinite, point))):
            return False
        at = bisect_left(self._steps, point)
        if at and self._steps[at - 1][1] <= point[1]:
            return False
        ceiling = self._steps[at - 1][1] if at else self.reference[1]
        left, gained = point[0], 0.0
        end = at
        while end < len(self._steps) and self._steps[end][1] >= point[1]:
            gained += (self._steps[end][0] - left) * (ceiling - point[1])
            left, ceiling = self._steps[end]
            end += 1
        right = self._steps[end][0] if end < len(self._steps) else self.reference[0]
        gained += (right - left) * (ceiling - point[1])
        if end < len(self._steps) and self._steps[end] == point:
            return False
        self._steps[at:end] = [point]
        self.area += gained
        return gained > 0


def hypervolume(points: Iterable[Point], reference: Point) -> float:
    """The area that `points` dominate within the box up to `reference`."""
    stairs = Staircase(reference)
    for point in points:
        stairs.add(point)
    return stairs.area
