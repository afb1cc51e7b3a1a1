"""Searcher `grid`: every combination of the parameters' values, once."""

from __future__ import annotations

from collections.abc import Iterator

from pydantic import Field

from service.spec.space import Params, Space, identity
from service.tuning.history import History
from service.tuning.strategy import Problem, Searcher, StrictOptions


class Options(StrictOptions):
    """Options of the searcher `grid`."""

    points: int = Field(default=5, ge=1)
    """How many values a number takes on the grid, from its minimum to its maximum evenly on its scale; a whole number
    or a stepped one with no more values than this takes all of them."""


def size(options: Options, space: Space) -> int:
    """How many points the grid has; `plan` and the cap on grids read it."""
    return space.grid_size(options.points)


def build(options: Options, problem: Problem) -> Searcher:
    """Grid search over the problem's space."""
    return Grid(options, problem.space)


class Grid:
    """Walks the grid in a fixed order; points that the defaults or start points cover already are left out."""

    def __init__(self, options: Options, space: Space) -> None:
        self._options = options
        self._space = space
        self._walk: Iterator[Params] = iter(())
        self._next = -1  # place of the walk's next point, counted without what is left out; -1: no walk yet
        self._left_out: set[object] = set()

    def propose(self, history: History) -> Params | None:
        """The grid point whose place is the number of earlier proposals, None after the last."""
        left_out: set[object] = {identity(t.params) for t in history.trials if t.proposal < 0}
        if not 0 <= self._next <= history.proposals or left_out != self._left_out:
            self._walk, self._next, self._left_out = self._space.grid(self._options.points), 0, left_out
        for params in self._walk:
            if identity(params) in left_out:
                continue
            self._next += 1
            if self._next > history.proposals:
                return params
        self._next = -1
        return None
