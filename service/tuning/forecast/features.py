"""Configurations as rows of numbers between which a kernel can measure distance, and draws of new ones."""

from __future__ import annotations

import math
from typing import Final

import numpy as np
from numpy.typing import NDArray

from service.spec.distributions import is_number
from service.spec.space import Choice, Parameter, Params, Space

Floats = NDArray[np.float64]
MAX_SNAPPED: Final = 64  # whole numbers with more values than this count as continuous
STEP_SIZES: Final = (0.25, 0.08, 0.025)
MAX_VALUES: Final = 8  # of a coordinate with few values that a step tries
DRAWN_SHARE: Final = 0.5  # of the moves of a parameter with few values
WIDEST, NARROWEST = 0.5, 0.01  # of the unit interval: how far a neighbour's coordinate may lie


class Features:
    """Columns for the parameters of a space; `groups` says to which dimension each column belongs.

    A number has one column, and so has a choice between numbers (their places in order); any other choice has one
    column per value, scaled so that two values are a distance of 1 apart. An inactive parameter counts as the middle:
    that it is inactive shows in its parent's columns.
    """

    def __init__(self, space: Space) -> None:
        self._space = space
        self._columns = [_column(space[name]) for name in space.dimensions]
        self._is_conditional = any(parameter.when for _, parameter in space.items())
        self._snaps = [_places(space[name]) for name in space.dimensions]
        widths = [column.shape[1] if column is not None else 1 for column in self._columns]
        self.groups: NDArray[np.intp] = np.repeat(np.arange(len(widths)), widths)

    def of(self, units: Floats) -> Floats:
        """The rows of points of the unit cube (NaN: inactive), n by len(groups)."""
        if not len(units) or not self._columns:
            return np.zeros((len(units), len(self.groups)))
        blocks = []
        for k, (column, values) in enumerate(zip(self._columns, self._snaps, strict=True)):
            places = units[:, k]
            if column is None or values is None:
                blocks.append(np.where(np.isnan(places), 0.5, places)[:, None])
            else:
                blocks.append(column[self._nearest(values, places)])
        return np.concatenate(blocks, axis=1)

    def canonical(self, units: Floats) -> Floats:
        """The same points as the space would read them: numbers on their steps, NaN where inactive."""
        if self._is_conditional:
            read = [self._space.to_unit(self.params(u)) for u in units]
            return np.array(read, dtype=float).reshape(units.shape)
        found = units.copy()
        for k, places in enumerate(self._snaps):
            if places is not None:
                found[:, k] = places[self._nearest(places, units[:, k])]
        return found

    def params(self, unit: Floats) -> Params:
        """The configuration at one point."""
        return self._space.from_unit(unit.tolist())

    def neighbours(self, centres: Floats, count: int, rng: np.random.Generator, scale: float = 1.0) -> Floats:
        """`count` points near some of the `centres`, each moved in some coordinates only; walls are often met."""
        dimension = centres.shape[1]
        found = np.nan_to_num(centres[rng.integers(len(centres), size=count)], nan=0.5)
        reach = scale * WIDEST * (NARROWEST / WIDEST) ** rng.random((count, 1))
        is_moved = rng.random((count, dimension)) < max(0.3, 2.0 / dimension)
        is_moved[np.arange(count), rng.integers(dimension, size=count)] = True
        steps = rng.standard_normal((count, dimension)) * reach
        for k, places in enumerate(self._snaps):
            if places is not None:  # a small step leads to no other value and would only repeat the centre
                is_drawn = rng.random(count) < DRAWN_SHARE
                steps[:, k] = np.where(is_drawn, rng.random(count) - found[:, k], steps[:, k])
        return np.asarray(np.clip(found + is_moved * steps, 0.0, 1.0))

    def steps(self, centres: Floats, most: int, rng: np.random.Generator) -> Floats:
        """Points that differ from a centre in one coordinate: both its ends, steps of all sizes, each of few values.

        At most `most` of them, drawn evenly.
        """
        found = []
        for k, places in enumerate(self._snaps):
            values = self._moves(np.nan_to_num(centres[:, k], nan=0.5), places)
            moved = np.repeat(centres, values.shape[1], axis=0)
            moved[:, k] = values.ravel()
            found.append(moved)
        every = np.concatenate(found)
        return every if len(every) <= most else every[np.sort(rng.permutation(len(every))[:most])]

    @staticmethod
    def _moves(at: Floats, places: Floats | None) -> Floats:
        """The values that a coordinate is moved to, one row for each of its values `at`."""
        if places is not None:
            some = np.unique(np.linspace(0, len(places) - 1, MAX_VALUES).round().astype(np.intp))
            return np.tile(places[some], (len(at), 1))
        ends = np.tile([0.0, 1.0], (len(at), 1))
        near = np.array([sign * size for size in STEP_SIZES for sign in (-1, 1)])
        return np.concatenate([ends, np.clip(at[:, None] + near[None], 0.0, 1.0)], axis=1)

    @staticmethod
    def _nearest(known: Floats, places: Floats) -> NDArray[np.intp]:
        edges = (known[1:] + known[:-1]) / 2
        return np.searchsorted(edges, np.where(np.isnan(places), 0.5, places))


def _places(parameter: Parameter) -> Floats | None:
    """Where the values of `parameter` stand in the unit interval, ascending; None for a continuous one."""
    if parameter.size is None or (parameter.size > MAX_SNAPPED and not isinstance(parameter, Choice)):
        return None
    return np.array([parameter.to_unit(value) for value in parameter.grid_values(parameter.size)])


def _column(parameter: Parameter) -> Floats | None:
    """The columns of each value of a choice, in the order of its values; None for a number, which is its own place."""
    if not isinstance(parameter, Choice):
        return None
    values = parameter.values
    if all(map(is_number, values)):
        order = sorted(range(len(values)), key=lambda i: float(values[i]))
        places = np.empty((len(values), 1))
        places[order, 0] = np.linspace(0.0, 1.0, len(values)) if len(values) > 1 else 0.5
        return places
    return np.asarray(np.eye(len(values)) / math.sqrt(2.0))
