"""What another choice would have cost and found: another scheduler or searcher, played on a sweep's recorded curves.

Only configurations that are on record can be played. Another scheduler is given them in their recorded order; what
another searcher proposes is replaced by the nearest one that is still left. How much of the answer is recorded and how
much is made up stands beside it. Overheads are not simulated, so the recorded choice is played in the same way, too.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from service.errors import LedgerError
from service.spec.objective import Observation
from service.spec.space import Choice, Params, Space, identity
from service.spec.sweep_spec import SweepSpec
from service.tuning.assembly import build, history_of
from service.tuning.decisions import Decider
from service.tuning.events import Record, Reported
from service.tuning.history import History, Status
from service.tuning.recorded_curves import Curve, RecordedCurves, read_curves
from service.tuning.simulation import Simulation
from service.tuning.strategy import Searcher

if TYPE_CHECKING:
    import numpy as np

BROKEN: Final = (Status.DIVERGED, Status.FAILED)


@dataclass(frozen=True, slots=True)
class Course:
    """What a sweep cost and found. Times in seconds; values are the metric's own, of epochs on record only.

    `extrapolated` of the `epochs` lie beyond the record; `promised` is a value there that is better than `best`.
    `reached_s` is when the recorded best value was there, or None; `makespan_s` when the last trial had ended.
    """

    name: str
    trials: int
    epochs: int
    extrapolated: int
    train_s: float
    makespan_s: float
    best: float | None
    promised: float | None
    reached_s: float | None


@dataclass(frozen=True, slots=True)
class WhatIf:
    """The recorded course beside simulated ones, and what has to be known to believe them."""

    metric: str
    goal: str
    workers: int
    courses: tuple[Course, ...]
    notes: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Best:
    """The best that a record holds, and the active time at which it was there."""

    observation: Observation
    value: float
    at_s: float


class Recorded:
    """A sweep's record as something to play on. LedgerError where no trial has reported."""

    def __init__(self, records: Sequence[Record], spec: SweepSpec, defaults: Mapping[str, Any]) -> None:
        self.spec, self.defaults = spec, defaults
        self.curves = [c for c in read_curves(records) if c.metrics or c.has_failed]
        self.history, self.most_at_once, times = _folded(records, spec)
        ranking = self.history.ranking()
        if not ranking:
            msg = "no trial of this sweep has a result yet, so there is nothing to compare with"
            raise LedgerError(msg)
        trial, epoch = self.history.trials[ranking[0][0]], ranking[0][1]
        value = trial.metrics[epoch][spec.objectives.objectives[0].name]
        self.best = Best(trial.curve[epoch], value, times[trial.number, epoch])

    @property
    def has_changing_params(self) -> bool:
        """Whether trials changed their values while they trained, so that the recorded choice cannot be played."""
        return any(curve.has_changed for curve in self.curves)

    @property
    def validate_every(self) -> int:
        """How many epochs lay between two reports."""
        inner = [e for curve in self.curves for e in curve.metrics if e != self.spec.max_epochs]
        return math.gcd(*inner) if inner else self.spec.max_epochs

    def course(self) -> Course:
        """The sweep as it went."""
        history = self.history
        return Course(
            name="recorded",
            trials=history.configurations,
            epochs=sum(curve.last for curve in self.curves),
            extrapolated=0,
            train_s=sum(curve.seconds[curve.last] for curve in self.curves if curve.last),
            makespan_s=history.active_s,
            best=self.best.value,
            promised=None,
            reached_s=self.best.at_s,
        )


def _folded(records: Sequence[Record], spec: SweepSpec) -> tuple[History, int, dict[tuple[int, int], float]]:
    """(history, most trials at the same time, active seconds by (trial, epoch) when that was reported)."""
    history, most, times = History(spec.objectives), 0, dict[tuple[int, int], float]()
    for record in records:
        history.apply(record)
        most = max(most, history.counts[Status.RUNNING])
        if isinstance(record.event, Reported):
            times[record.event.trial, record.event.epoch] = history.active_s
    return history, max(1, most), times


def what_if(recorded: Recorded, other: SweepSpec, workers: int | None = None) -> WhatIf:
    """The recorded sweep, the same played again, and `other` played, which differs in its searcher or scheduler.

    `workers` are as many as the record ever had at the same time where None. LedgerError where the record cannot tell,
    as with a scheduler that makes up values of its own.
    """
    count = workers or recorded.most_at_once
    objective = recorded.spec.objectives.objectives[0]
    decider = _decider(recorded, other)
    if _changes_params(decider):
        msg = (
            f"{other.scheduler.name} changes a trial's values as it goes, and no recorded curve is that of the values "
            "that it would make up: choose another scheduler"
        )
        raise LedgerError(msg)
    courses, notes = [recorded.course()], list(_left_out(recorded))
    listed = _Listed(recorded.curves)
    own = _decider(recorded, recorded.spec)
    if recorded.has_changing_params:
        notes.append("trials changed their values while they trained: a curve is that of its trial, not of its values")
    if not _changes_params(own):
        courses.append(_played("the same, simulated", recorded, own, listed, count))
    if recorded.spec.search == other.search:
        courses.append(_played(_name(other), recorded, decider, listed, count))
        notes.append(f"trials come in their recorded order: under other results {other.search.name} may propose others")
    else:
        nearest = _Nearest(decider.searcher, recorded)
        courses.append(_played(_name(other), recorded, decider, nearest, count))
        notes.append(
            f"what {other.search.name} proposed was replaced by the nearest of {len(recorded.curves)} recorded "
            f"configurations, {nearest.mean_distance:.2f} away in the mean (0: the same, 1: the opposite corner)"
        )
        if other.search.warm_start:
            notes.append(f"{other.search.name} was asked without what the earlier sweeps of search.warm_start suggest")
    return WhatIf(objective.name, objective.goal, count, tuple(courses), (*notes, *_made_up(courses)))


def _changes_params(decider: Decider) -> bool:
    return bool(getattr(decider.scheduler, "changes_params", False))


def _name(spec: SweepSpec) -> str:
    options = ", ".join(f"{key} {value}" for key, value in spec.scheduler.options.items())
    return f"{spec.search.name} with {spec.scheduler.name}" + (f" ({options})" if options else "")


def _made_up(courses: Sequence[Course]) -> Iterator[str]:
    for course in courses:
        if course.extrapolated:
            yield (
                f"{course.name}: {course.extrapolated} of {course.epochs} epochs are not on record; there a trial "
                "changes as those that went on did in the median, and counts for decisions, but not as a result"
            )


def _left_out(recorded: Recorded) -> Iterator[str]:
    fits = recorded.history.repeats
    if fits:
        yield f"{fits} further fits on other folds and seeds are left out; only the recorded makespan holds their time"


def _decider(recorded: Recorded, spec: SweepSpec) -> Decider:
    """The searcher and the scheduler of `spec`, made for as many configurations as are on record."""
    budget = spec.budget.model_copy(update={"max_trials": len(recorded.curves)})
    spec = spec.model_copy(update={"budget": budget})
    return build(spec, history_of(spec, ()), recorded.defaults).decider


def _played(name: str, recorded: Recorded, decider: Decider, searcher: Searcher, workers: int) -> Course:
    """The course of a simulated sweep over the recorded curves."""
    task = RecordedCurves(recorded.curves)
    simulation = Simulation(
        objectives=decider.history.objectives,
        searcher=searcher,
        scheduler=decider.scheduler,
        task=task,
        workers=workers,
        max_trials=len(recorded.curves),
        validate_every=recorded.validate_every,
        first_points=[(c.source, c.params) for c in recorded.curves if c.source in ("defaults", "start_point")],
    )
    history = simulation.run()
    value, promised = _best(history, task)
    return Course(
        name=name,
        trials=len(history.trials),
        epochs=task.trained,
        extrapolated=task.extrapolated,
        train_s=history.train_seconds,
        makespan_s=simulation.now,
        best=value,
        promised=promised,
        reached_s=_reached_s(simulation, task, recorded.best.observation),
    )


def _best(history: History, task: RecordedCurves) -> tuple[float | None, float | None]:
    """(the best value that is on record, a better one that is not), None where there is none."""
    found = [
        (observation, trial.metrics[epoch], task.is_recorded(trial.params, epoch))
        for trial in history.trials
        for epoch, observation in trial.curve.items()
        if trial.status not in BROKEN and observation.is_finite
    ]
    objective = history.objectives.objectives[0]
    scores = history.objectives.scores([observation for observation, _, _ in found])
    best: dict[bool, tuple[float, float]] = {}
    for score, (_, metrics, is_recorded) in zip(scores, found, strict=True):
        best[is_recorded] = min(best.get(is_recorded, (math.inf, math.nan)), (score, metrics[objective.name]))
    real, made_up = best.get(True), best.get(False)
    is_better = made_up is not None and (real is None or made_up[0] < real[0])
    return real[1] if real else None, made_up[1] if made_up and is_better else None


def _reached_s(simulation: Simulation, task: RecordedCurves, best: Observation) -> float | None:
    """When an epoch that is on record was as good as `best`."""
    start = simulation.records[0].at
    params = {trial.number: trial.params for trial in simulation.history.trials}
    for record in simulation.records:
        event = record.event
        if isinstance(event, Reported) and task.is_recorded(params[event.trial], event.epoch):
            observation = simulation.objectives.observe(event.metrics)
            if observation == best or observation.dominates(best):
                return record.at - start
    return None


class _Listed:
    """Proposes the recorded configurations in their order."""

    def __init__(self, curves: Sequence[Curve]) -> None:
        self._curves = curves

    def propose(self, history: History) -> Params | None:
        """The next one."""
        number = len(history.trials)
        return self._curves[number].params if number < len(self._curves) else None


class _Nearest:
    """Proposes the recorded configuration nearest to what a searcher proposes, each once."""

    def __init__(self, searcher: Searcher, recorded: Recorded) -> None:
        self._searcher, self._space = searcher, recorded.spec.space
        self._params = {identity(curve.params): curve.params for curve in recorded.curves}
        self._distances: list[float] = []

    @property
    def mean_distance(self) -> float:
        """How far the searcher's own proposals were from what was tried instead, by parameter, in the mean."""
        return sum(self._distances) / max(1, len(self._distances))

    def propose(self, history: History) -> Params | None:
        """None once the searcher has no more, or every recorded configuration was tried."""
        import numpy as np

        wanted = self._searcher.propose(history)
        tried = {identity(trial.params) for trial in history.trials}
        free = [params for key, params in self._params.items() if key not in tried]
        if wanted is None or not free:
            return None
        far = _distances(self._space, wanted, free)
        nearest = int(np.argmin(far))
        self._distances.append(float(far[nearest]))
        return free[nearest]


def _distances(space: Space, wanted: Params, params: Sequence[Params]) -> np.ndarray:
    """From `wanted` to each of `params`: root mean square over parameters; other choices, and no value, are 1 apart."""
    import numpy as np

    if not space.dimension:
        return np.zeros(len(params))
    rows = np.array([space.to_unit(p) for p in params], dtype=float)
    apart = np.abs(rows - np.array(space.to_unit(wanted), dtype=float))
    for d, name in enumerate(space.dimensions):
        if isinstance(space[name], Choice):
            apart[:, d] = [identity(p.get(name)) != identity(wanted.get(name)) for p in params]
        absent = [(name in p) != (name in wanted) for p in params]
        apart[absent, d] = 1.0
    return np.asarray(np.sqrt((np.nan_to_num(apart) ** 2).mean(axis=1)))
