"""Scheduler `pbt`: population based training, where trials that fall behind go on from a better one's checkpoint.

Jaderberg et al., Population Based Training of Neural Networks (2017): values are perturbed, or now and then drawn anew.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Self

from pydantic import Field, model_validator

from service.spec.space import Choice, Constant, Integer, Parameter, Params, Real, Space
from service.tuning.history import History, Trial
from service.tuning.population import Population, PopulationOptions, reach, rungs
from service.tuning.strategy import Problem, Scheduler

if TYPE_CHECKING:
    import numpy as np

__all__ = ["Options", "build", "mutate", "reach", "rungs"]
CHANGES_PARAMS = True  # a trial may end with other parameters than it began with


class Options(PopulationOptions):
    """Options of the scheduler `pbt`."""

    resample_probability: float = Field(default=0.25, ge=0, le=1)
    """How likely a parameter is drawn anew from the search space instead of being perturbed."""
    perturbation_factors: tuple[float, float] = (0.8, 1.2)
    """A log-scaled parameter is multiplied by one of these; any other number moves by (factor - 1) of its range."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        low, high = self.perturbation_factors
        if not 0 < low < 1 < high < math.inf:
            msg = f"perturbation_factors are one number between 0 and 1 and one above 1, not ({low:g}, {high:g})"
            raise ValueError(msg)
        return self


def build(options: Options, problem: Problem) -> Scheduler:
    """PBT over the problem's space."""
    return Population(options, problem, _Mutation(options, problem.space))


class _Mutation:
    def __init__(self, options: Options, space: Space) -> None:
        self._options, self._space = options, space

    def explore(self, history: History, trial: Trial, donor: Trial, rng: np.random.Generator) -> Params:  # noqa: ARG002  # it looks at nothing else
        """A neighbour of the donor's values."""
        return mutate(self._space, donor.params, self._options, rng)


def mutate(space: Space, params: Params, options: Options, rng: np.random.Generator) -> Params:
    """A neighbour of `params` in `space`; parameters that become active by it are drawn anew."""
    found: Params = {}
    for name, parameter in space.items():
        if not space.is_active(name, found):
            continue
        is_new = name not in params or not parameter.contains(params[name])
        if is_new or rng.random() < options.resample_probability:
            found[name] = parameter.from_unit(rng.random())
        else:
            found[name] = _perturb(parameter, params[name], options.perturbation_factors[int(rng.integers(2))])
    return found


def _perturb(parameter: Parameter, value: object, factor: float) -> object:
    direction = 1 if factor > 1 else -1
    if isinstance(parameter, Constant):
        return parameter.value
    if isinstance(parameter, Choice):
        place = parameter.index(value) + direction
        return parameter.values[min(len(parameter.values) - 1, max(0, place))]
    number = float(value)  # type: ignore[arg-type]  # a number, because it lies in a number's bounds
    moved = number * factor if parameter.log else number + (factor - 1) * (parameter.high - parameter.low)
    moved = min(float(parameter.high), max(float(parameter.low), moved))
    if isinstance(parameter, Integer) or parameter.step is not None:
        return _on_steps(parameter, number, moved, direction)
    return moved


def _on_steps(parameter: Integer | Real, number: float, moved: float, direction: int) -> object:
    """The step nearest to `moved`, but at least one away from `number` where the bounds allow it."""
    nearest = parameter.from_unit(parameter.to_unit(moved))
    if nearest != number:
        return nearest
    step = parameter.step or 1
    beyond = min(float(parameter.high), max(float(parameter.low), number + direction * step))
    return parameter.from_unit(parameter.to_unit(beyond))
