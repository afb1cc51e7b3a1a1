"""Each parameter, and each pair, as columns of numbers in which any effect of it can be written; numpy only.

The columns of one group have mean 0 and are orthonormal over the parameter's own scale (cosines for numbers, contrasts
for choices), and 0 where a parameter is inactive. So a group's effect has the variance of its coefficients' squares,
different groups share none of it, and what a conditional parameter does is told apart from what its parent does.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, TypeAlias

import numpy as np
from numpy.typing import NDArray

Floats: TypeAlias = NDArray[np.float64]
WAVES: Final = 6  # cosines of a number's own effect: a cliff still shows
PAIR_WAVES: Final = 3  # cosines of each number in a pair
MOST_VALUES: Final = 24  # of a choice: the most frequent have columns, the others stand for none of them
PAIR_VALUES: Final = 5  # of a choice in a pair


@dataclass(frozen=True, slots=True)
class Column:
    """One parameter over all trials: places in the unit interval, NaN where inactive; `is_choice` has no order.

    `when`: the places of each parent at which the parameter is active; conditions of the parents themselves are theirs.
    """

    name: str
    places: Sequence[float]
    is_choice: bool = False
    when: Mapping[str, tuple[float, ...]] = field(default_factory=dict)


class Axis:
    """One parameter's scale: `at(places)` gives its columns, 0 where a place is NaN."""

    def __init__(self, column: Column, rows: NDArray[np.intp]) -> None:
        self.places = np.asarray(column.places, dtype=np.float64)[rows]
        self.is_active = np.isfinite(self.places)
        self.name, self.is_choice = column.name, column.is_choice
        self.values = self.seen(self.is_active, MOST_VALUES if column.is_choice else None)

    @property
    def trials(self) -> int:
        """In how many trials it is active."""
        return int(self.is_active.sum())

    def seen(self, where: NDArray[np.bool_], most: int | None) -> Floats:
        """The places among the trials `where`, ascending; of more than `most`, the most frequent."""
        values, counts = np.unique(self.places[where], return_counts=True)
        return np.sort(values[np.argsort(-counts, kind="stable")[:most]])

    def decay(self, waves: int, values: Floats | None = None) -> Floats:
        """The share of each of its columns."""
        count = len(self.values if values is None else values) - 1
        if self.is_choice:
            return np.full(max(0, count), 1.0 / max(1, count))
        raw = np.arange(1, min(waves, count) + 1, dtype=np.float64) ** -2.0
        return np.asarray(raw / raw.sum(), dtype=np.float64) if len(raw) else raw

    def at(self, places: Floats, waves: int, values: Floats | None = None) -> Floats:
        """Its columns at `places`; `values` narrows it to some of its values."""
        values = self.values if values is None else values
        known = np.isfinite(places)
        if self.is_choice:
            found = _contrasts(values, places)
        else:
            count = len(self.decay(waves, values))
            found = np.sqrt(2.0) * np.cos(np.pi * np.outer(np.where(known, places, 0.0), np.arange(1, count + 1)))
        return np.asarray(np.where(known[:, None], found, 0.0), dtype=np.float64)


def _contrasts(values: Floats, places: Floats) -> Floats:
    """Orthonormal contrasts between `values`, each of which counts the same; 0 for a place that is none of them."""
    count = len(values)
    start = np.column_stack([np.ones(count), np.eye(count)[:, : count - 1]])
    table = np.linalg.qr(start)[0][:, 1:] * np.sqrt(count)
    return np.asarray((places[:, None] == values[None, :]).astype(np.float64) @ table, dtype=np.float64)


class PairAxes:
    """The scale of two parameters at once, over the trials in which both are active."""

    def __init__(self, first: Axis, second: Axis) -> None:
        self._axes = (first, second)
        both = first.is_active & second.is_active
        self.trials = int(both.sum())
        self._values = [axis.seen(both, PAIR_VALUES if axis.is_choice else None) for axis in self._axes]

    @property
    def decay(self) -> Floats:
        """The share of each of its columns; empty where one of the two never varies beside the other."""
        first, second = (axis.decay(PAIR_WAVES, v) for axis, v in zip(self._axes, self._values, strict=True))
        return np.asarray(np.outer(first, second).ravel(), dtype=np.float64)

    def at(self, first: Floats, second: Floats) -> Floats:
        """Its columns at pairs of places."""
        left = self._axes[0].at(first, PAIR_WAVES, self._values[0])
        right = self._axes[1].at(second, PAIR_WAVES, self._values[1])
        return np.asarray(np.einsum("na,nb->nab", left, right).reshape(len(first), -1), dtype=np.float64)

    def observed(self) -> Floats:
        """Its columns in the trials."""
        return self.at(self._axes[0].places, self._axes[1].places)
