"""Scheduler `pbt`: population based training, where trials that fall behind go on from a better one's checkpoint.

Jaderberg et al., Population Based Training of Neural Networks (2017). Asynchronous: a trial is compared with all that
have reached the same epoch by then, and waits only until the population has begun.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Self

from pydantic import Field, model_validator

from service.space import Choice, Constant, Integer, Parameter, Params, Real, Space
from service.tuning.history import History, Status, Trial
from service.tuning.rungs import diverged, paused, rung_crossed, rung_reached, standings
from service.tuning.strategy import Drop, Problem, Resume, Scheduler, StrictOptions, Verdict

if TYPE_CHECKING:
    import numpy as np


class Options(StrictOptions):
    """Options of the scheduler `pbt`."""

    max_epochs: int = Field(ge=1)
    """Epochs after which a trial is complete."""
    interval_epochs: int = Field(default=1, ge=1)
    """Epochs between two comparisons of a trial with the population."""
    quantile: float = Field(default=0.25, gt=0, le=0.5)
    """The worst part of the population that gives up its state, and the best part that it is replaced from."""
    resample_probability: float = Field(default=0.25, ge=0, le=1)
    """How likely a parameter is drawn anew from the search space instead of being perturbed."""
    perturbation_factors: tuple[float, float] = (0.8, 1.2)
    """A log-scaled parameter is multiplied by one of these; any other number moves by (factor - 1) of its range."""
    population_size: int | None = Field(default=None, ge=2)
    """Paused trials go on once this many have begun; unset: once no new trial will come."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        low, high = self.perturbation_factors
        if not 0 < low < 1 < high < math.inf:
            msg = f"perturbation_factors are one number between 0 and 1 and one above 1, not ({low:g}, {high:g})"
            raise ValueError(msg)
        return self


def rungs(options: Options) -> tuple[int, ...]:
    """Every `interval_epochs`, and the end."""
    return (*range(options.interval_epochs, options.max_epochs, options.interval_epochs), options.max_epochs)


def reach(options: Options, trials: int) -> tuple[int, ...]:
    """Every trial passes every rung or jumps over it to a better state; none is stopped."""
    return tuple(trials for _ in rungs(options))


def build(options: Options, problem: Problem) -> Scheduler:
    """PBT over the problem's space."""
    return Pbt(options, problem)


class Pbt:
    """Pauses every trial at each interval; then it goes on as it is, or as a mutated copy of one of the best."""

    def __init__(self, options: Options, problem: Problem) -> None:
        self.rungs = rungs(options)
        self._options = options
        self._objectives = problem.objectives
        self._space = problem.space
        self._seed = problem.seed

    def judge(self, history: History, trial: int, epoch: int) -> Verdict:
        """Pause at every interval."""
        own = history.trials[trial]
        if diverged(own, epoch):
            return Verdict("stop", "diverged")
        rung = rung_crossed(self.rungs, own, epoch)
        if rung is None or rung >= self.rungs[-1]:
            return Verdict("continue", "")
        return Verdict("pause", f"rung {rung}: compared with the population")

    def release(self, history: History, *, is_drained: bool) -> list[Resume | Drop]:
        """Those that are least far go on first, so that the population advances together."""
        size = self._options.population_size
        if not is_drained and (size is None or len(history.trials) < size):
            return []
        waiting = sorted(paused(history), key=lambda t: (t.epoch, t.number))
        tables: dict[int, list[tuple[float, int]]] = {}
        return [self._go_on(history, trial, tables) for trial in waiting]

    def _go_on(self, history: History, trial: Trial, tables: dict[int, list[tuple[float, int]]]) -> Resume:
        rung = rung_reached(self.rungs, trial.epoch) or self.rungs[0]
        if rung not in tables:
            tables[rung] = standings(self.rungs, rung, history.trials, self._objectives)
        table = tables[rung]
        count = math.floor(len(table) * self._options.quantile)
        place = [number for _, number in table].index(trial.number)
        own_score = table[place][0]
        donors = [n for score, n in table[:count] if score < own_score and self._can_give(history.trials[n], trial)]
        if place < len(table) - count or not donors:
            reason = f"rung {rung}: place {place + 1} of {len(table)}, goes on as it is"
            return Resume(trial.number, trial.number, trial.params, reason)
        import numpy as np

        rng = np.random.default_rng([self._seed, trial.number, rung])  # not of attempts: a lost worker changes nothing
        donor = history.trials[donors[int(rng.integers(len(donors)))]]
        params = mutate(self._space, donor.params, self._options, rng)
        reason = f"rung {rung}: place {place + 1} of {len(table)}, goes on from trial {donor.number}"
        return Resume(trial.number, donor.number, params, reason)

    def _can_give(self, donor: Trial, trial: Trial) -> bool:
        """Whether the donor's state is no step back for `trial` and leaves something to train."""
        checkpoint = donor.latest_checkpoint
        if donor.status in (Status.DIVERGED, Status.FAILED):
            return False
        return checkpoint is not None and trial.epoch <= checkpoint.epoch < self.rungs[-1]


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
