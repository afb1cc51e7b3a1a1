"""Points of a search space that several searchers need: Sobol points, and points that no trial has tried yet."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator
from typing import Any, Final

from service.spec.space import Params, Space, identity
from service.tuning.history import History

DRAWS: Final = 64  # how often a repeated point is drawn again before the unused ones are looked up one by one


class Tried:
    """Which params the trials of a history have, as `identity` sees them."""

    def __init__(self) -> None:
        self._known: dict[int, tuple[Params, Hashable]] = {}

    def __call__(self, history: History) -> set[Hashable]:
        """One entry per different configuration; keeps what it computed for as long as a trial's params stay."""
        for trial in history.trials:
            known = self._known.get(trial.number)
            if known is None or known[0] is not trial.params:
                self._known[trial.number] = trial.params, identity(trial.params)
        return {self._known[trial.number][1] for trial in history.trials}


def untried(space: Space, tried: set[Hashable], draw: Callable[[], Params]) -> Params | None:
    """The first of `draw`'s points that is not in `tried`; None when a finite space has no such point left.

    When draws keep repeating what was tried, the first untried point of the grid is taken instead. In an infinite
    space the first draw is taken as it is.
    """
    if not space.is_finite:
        return draw()
    for _ in range(DRAWS):
        params = draw()
        if identity(params) not in tried:
            return params
    return next((params for params in all_points(space) if identity(params) not in tried), None)


def all_points(space: Space) -> Iterator[Params]:
    """Every point of a finite space, lazily."""
    return space.grid(max((parameter.size or 1 for _, parameter in space.items()), default=1))


class SobolPoints:
    """A scrambled Sobol sequence over the unit cube of `space`, addressed by index."""

    def __init__(self, space: Space, seed: int) -> None:
        self._space = space
        self._seed = seed
        self._engine: Any = None

    def at(self, index: int) -> Params:
        """The params at point `index` of the sequence."""
        if self._space.dimension == 0:
            return self._space.from_unit([])
        import numpy as np
        from scipy.stats import qmc

        if self._engine is None or self._engine.num_generated > index:
            rng = np.random.default_rng([self._seed, 0])
            self._engine = qmc.Sobol(self._space.dimension, scramble=True, rng=rng)
        if index > self._engine.num_generated:
            self._engine.fast_forward(index - self._engine.num_generated)
        return self._space.from_unit(self._engine.random(1)[0].tolist())
