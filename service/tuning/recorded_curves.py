"""What a sweep's record knows of each configuration, as a task that a simulation can train: the curves of its trials.

A trial that was stopped has shown nothing beyond; there its curve is extrapolated, and said to be. The extrapolation is
the trial's last value plus what the trials that did go on changed by over those epochs, in the median.
"""

from __future__ import annotations

import statistics
from bisect import bisect_right
from collections.abc import Hashable, Iterable
from dataclasses import dataclass, field
from functools import cached_property
from itertools import pairwise

from service.errors import LedgerError
from service.spec.objective import DIVERGED_LOSS
from service.spec.space import Params, identity
from service.tuning.events import AttemptStarted, Record, Reported, TrialEnded, TrialProposed
from service.tuning.simulation import Breakdown

Metrics = dict[str, float]


@dataclass(slots=True)
class Curve:
    """One recorded trial: what it showed by epoch, its training time up to each, and whether it failed after them."""

    trial: int
    params: Params
    source: str
    metrics: dict[int, Metrics] = field(default_factory=dict)
    seconds: dict[int, float] = field(default_factory=dict)
    has_failed: bool = False
    has_changed: bool = False  # its params did while it trained, as population based training has it

    @property
    def last(self) -> int:
        """The last epoch on record; 0 without any."""
        return max(self.metrics, default=0)


def read_curves(records: Iterable[Record]) -> list[Curve]:
    """The trials of `records` in the order in which they were proposed; of several fits of one the first."""
    curves: list[Curve] = []
    repeats: set[int] = set()
    for record in records:
        match record.event:
            case TrialProposed() as event:
                curves.append(Curve(event.trial, event.params, event.source))
                if event.repeats is not None:
                    repeats.add(event.trial)
            case AttemptStarted() as event:
                curve = curves[event.trial]
                curve.has_changed |= identity(event.params) != identity(curve.params)
            case Reported() as event:
                curves[event.trial].metrics[event.epoch] = event.metrics
                curves[event.trial].seconds[event.epoch] = event.seconds
            case TrialEnded() as event:
                curves[event.trial].has_failed = event.ending == "failed"
    return [curve for curve in curves if curve.trial not in repeats]


class RecordedCurves:
    """The task of training recorded configurations again. Counts what it had to make up.

    `trained` are the epochs trained so far, `extrapolated` those of them that lie beyond the record.
    """

    def __init__(self, curves: Iterable[Curve]) -> None:
        self._curves: dict[Hashable, Curve] = {}
        for curve in curves:
            self._curves.setdefault(identity(curve.params), curve)
        self.trained = self.extrapolated = 0

    def train(self, params: Params, state: None, epoch: int) -> tuple[None, Metrics, float]:
        """One epoch of a recorded configuration; as the record has it where it goes so far. LedgerError where not."""
        curve = self._curve(params)
        if curve.has_failed and epoch > curve.last:
            raise Breakdown(kind="fatal")
        self.trained += 1
        if epoch <= curve.last:
            return state, self._recorded(curve, epoch), self._seconds(curve, epoch)
        self.extrapolated += 1
        return state, self._beyond(curve, epoch), self._seconds(curve, curve.last)

    def is_recorded(self, params: Params, epoch: int) -> bool:
        """Whether the record has a value of this configuration at this epoch."""
        return epoch in self._curve(params).metrics

    @cached_property
    def _usual_seconds(self) -> float:
        each = [curve.seconds[curve.last] / curve.last for curve in self._curves.values() if curve.last]
        return statistics.median(each) if each else 1.0

    @cached_property
    def _course(self) -> tuple[list[int], list[Metrics]]:
        """(epochs, changes): how much each metric has usually changed by each epoch since the first on record."""
        steps: dict[int, dict[str, list[float]]] = {}
        for curve in self._curves.values():
            for before, epoch in pairwise(sorted(curve.metrics)):
                for name, value in curve.metrics[epoch].items():
                    change = value - curve.metrics[before].get(name, value)
                    if abs(change) < DIVERGED_LOSS / 2:
                        steps.setdefault(epoch, {}).setdefault(name, []).append(change / (epoch - before))
        first = min((epoch for curve in self._curves.values() for epoch in curve.metrics), default=0)
        epochs, found = [first, *sorted(steps)], [dict[str, float]()]
        for before, epoch in pairwise(epochs):
            usual = {name: statistics.median(changes) * (epoch - before) for name, changes in steps[epoch].items()}
            found.append({name: found[-1].get(name, 0.0) + usual.get(name, 0.0) for name in {**found[-1], **usual}})
        return epochs, found

    def _curve(self, params: Params) -> Curve:
        curve = self._curves.get(identity(params))
        if curve is None:
            msg = f"the record cannot say how that would have gone: none of its trials has trained with {params}"
            raise LedgerError(msg)
        return curve

    @staticmethod
    def _recorded(curve: Curve, epoch: int) -> Metrics:
        """The newest value at `epoch`: where validation runs every n epochs only, those between have none."""
        epochs = sorted(curve.metrics)
        return curve.metrics[epochs[max(0, bisect_right(epochs, epoch) - 1)]]

    def _seconds(self, curve: Curve, epoch: int) -> float:
        """How long the epoch took; those between two reports took equally long."""
        epochs = sorted(curve.seconds)
        if not epochs:
            return self._usual_seconds
        place = min(len(epochs) - 1, bisect_right(epochs, epoch - 1))
        before = epochs[place - 1] if place else 0
        began = curve.seconds[before] if place else 0.0
        return max(0.0, curve.seconds[epochs[place]] - began) / (epochs[place] - before)

    def _beyond(self, curve: Curve, epoch: int) -> Metrics:
        epochs, changes = self._course
        until, since = (changes[max(0, bisect_right(epochs, e) - 1)] for e in (epoch, curve.last))
        last = curve.metrics[curve.last]
        return {name: value + until.get(name, 0.0) - since.get(name, 0.0) for name, value in last.items()}
