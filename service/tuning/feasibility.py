"""Whether a trial's broken constraint is certain to stay broken: a pure function of what all trials have shown so far.

Two kinds of evidence, both about how much this sweep's own trials have moved the metric. A metric that has hardly moved
in any trial (a latency, a size), two of them trained to the end, belongs to the configuration: one report tells. Of one
that moves, the complete trials tell how far it can still come back. Were trials exchangeable, a new one would outdo the
furthest of n with a probability of 1 / (n + 1); what stops here is short of twice that, in its unit and in proportion.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Final

from service.spec.objective import Constraint
from service.tuning.history import History, Status, Trial

STEADY_TRIALS: Final = 3  # so many have shown that the metric does not move
STEADY_EPOCHS: Final = 3  # each over so many reports at least
STEADY_COMPLETE: Final = 2  # of them trained to the end: what happens late has been seen, too
STEADY_CHANGE: Final = 0.05  # relative to the metric's size; beyond it, it is no property of the configuration
MOVING_TRIALS: Final = 10  # trained to the end, for a metric that moves
MARGIN: Final = 2.0  # the violation has to be more than so many times what was ever made up for
ROUNDING: Final = 1e-9  # of a value's size: what changes by less has not changed
MOST_TRIALS: Final = 300  # the newest that are asked, so that a report stays cheap


def certain_violation(history: History, trial: int, epoch: int) -> str | None:
    """Which constraint `trial` will break at every later epoch, too, and how that is known; None while it is open.

    A trial that has kept all constraints at any epoch is never certain to break them: that epoch may count.
    """
    own = history.trials[trial]
    broken = [c for c in history.objectives.constraints if c.violation(own.metrics[epoch][c.metric]) > 0]
    if not broken or any(seen.violation == 0 for seen in own.curve.values()):
        return None
    found = (_certain(history, own, epoch, constraint) for constraint in broken)
    return next((reason for reason in found if reason is not None), None)


def _certain(history: History, own: Trial, epoch: int, constraint: Constraint) -> str | None:
    value = own.metrics[epoch][constraint.metric]
    least = min(constraint.violation(metrics[constraint.metric]) for metrics in own.metrics.values())
    size = max(abs(value), ROUNDING)
    tried = _tried(history)
    complete = [t for t in tried if t.status is Status.COMPLETED and t is not own]
    change = _steady_change(tried, own, complete, constraint.metric)
    if change is not None:
        if least > (MARGIN * change + ROUNDING) * size:
            return _reason(constraint, value, f"no trial has changed it by more than {100 * change:.2g} %")
        return None
    made_up = [found for t in complete if (found := _made_up(t.metrics, epoch, constraint)) is not None]
    if len(made_up) < MOVING_TRIALS:
        return None
    furthest, share = max(far for far, _ in made_up), max(part for _, part in made_up)
    if least > MARGIN * furthest + ROUNDING * size and least / size > MARGIN * share + ROUNDING:
        text = f"from epoch {epoch} on, {len(made_up)} complete trials made up for {furthest:.4g} at most"
        return _reason(constraint, value, text)
    return None


def _steady_change(tried: list[Trial], own: Trial, complete: list[Trial], name: str) -> float | None:
    """By which share a metric changed within a trial at most, where that is next to nothing; None where it moves."""
    changes = [_change(t.metrics, name) for t in tried if len(t.metrics) >= STEADY_EPOCHS]
    if len(changes) < STEADY_TRIALS or len(complete) < STEADY_COMPLETE:
        return None
    change = max(*changes, _change(own.metrics, name))
    return change if change <= STEADY_CHANGE else None


def _reason(constraint: Constraint, value: float, evidence: str) -> str:
    return f"certain to break {constraint}: {constraint.metric} is {value:.6g}, and {evidence}"


def _tried(history: History) -> list[Trial]:
    """The newest trials that tell something: those that failed tell nothing."""
    told: Iterable[Trial] = (t for t in reversed(history.trials) if t.metrics and t.status is not Status.FAILED)
    return [trial for trial, _ in zip(told, range(MOST_TRIALS), strict=False)]


def _change(metrics: Mapping[int, Mapping[str, float]], name: str) -> float:
    """How far a metric moved in one trial, as a share of its largest size; infinite where it was no number."""
    values = [seen[name] for seen in metrics.values()]
    if not all(map(math.isfinite, values)):
        return math.inf
    return (max(values) - min(values)) / max(*map(abs, values), ROUNDING)


def _made_up(
    metrics: Mapping[int, Mapping[str, float]], epoch: int, constraint: Constraint
) -> tuple[float, float] | None:
    """How far a metric came towards the limit after `epoch`, in its unit and as a share of its size there."""
    later = [seen[constraint.metric] for e, seen in metrics.items() if e > epoch]
    if epoch not in metrics or not later:
        return None
    start = metrics[epoch][constraint.metric]
    if not all(map(math.isfinite, (start, *later))):
        return math.inf, math.inf
    moved = max(0.0, start - min(later) if constraint.sign == "<=" else max(later) - start)
    return moved, moved / max(abs(start), ROUNDING)
