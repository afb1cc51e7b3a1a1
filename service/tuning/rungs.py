"""Rungs: the epochs at which schedulers compare trials, where a trial stands on them, and what stands on each."""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Iterable, Sequence

from service.spec.objective import Objectives, Observation
from service.tuning.history import History, Status, Trial


def ladder(first: int, factor: int, last: int) -> tuple[int, ...]:
    """`first`, `first * factor`, ... as far as they stay below `last`, then `last`; whole numbers only."""
    rungs = []
    epoch = first
    while epoch < last:
        rungs.append(epoch)
        epoch *= factor
    return (*rungs, last)


def rung_reached(rungs: Sequence[int], epoch: int) -> int | None:
    """The highest rung at or below `epoch`, or None below the first."""
    place = bisect_right(rungs, epoch)
    return rungs[place - 1] if place else None


def rung_crossed(rungs: Sequence[int], trial: Trial, epoch: int) -> int | None:
    """The highest rung that `trial` reached with its report of `epoch`, or None.

    A report counts for a rung when it is the first at or after it, as where validation runs every n epochs only. Rungs
    that a donor's checkpoint jumped over are not crossed.
    """
    before = max((e for e in trial.curve if e < epoch), default=0)
    stride = min(epoch - before, next(iter(trial.curve), epoch))
    rung = rung_reached(rungs, epoch)
    return rung if rung is not None and rung > epoch - stride else None


def value_at(trial: Trial, rung: int) -> Observation | None:
    """What `trial` showed at its first report at or after `rung`, or None if it has not come that far."""
    found = trial.curve.get(rung)
    if found is None and trial.epoch > rung:
        found = trial.curve[min(e for e in trial.curve if e > rung)]
    return found


def standings(
    rungs: Sequence[int], rung: int, trials: Iterable[Trial], objectives: Objectives, *, by_layer: bool = False
) -> list[tuple[float, int]]:
    """(score, trial) of every trial on `rung`, best first; equal scores in the order of their numbers.

    `by_layer` gives all of a Pareto front one score, see `Objectives.layers`.

    A trial that diverged on its way to this rung stands on it as the worst, and so does one that was here and broke
    later: its place is free for another.
    """
    place = bisect_right(rungs, rung - 1)
    below = rungs[place - 1] if place else 0
    worst = Observation((math.inf,) * len(objectives.objectives))
    numbers, observations = [], []
    for trial in trials:
        value = value_at(trial, rung)
        broke_on_the_way = trial.status is Status.DIVERGED and trial.epoch >= below
        broke_later = trial.status is Status.FAILED and value is not None
        if broke_on_the_way or broke_later:
            value = worst
        if value is not None:
            numbers.append(trial.number)
            observations.append(value)
    scores = objectives.layers(observations) if by_layer else objectives.scores(observations)
    return sorted(zip(scores, numbers, strict=True))


def diverged(trial: Trial, epoch: int) -> bool:
    """Whether the report of `epoch` shows that the training broke down, after which no scheduler lets it go on."""
    return not trial.curve[epoch].is_finite


def paused(history: History) -> list[Trial]:
    """Trials that wait for a scheduler's release, in the order of their numbers."""
    return [trial for trial in history.unfinished() if trial.status is Status.PAUSED]
