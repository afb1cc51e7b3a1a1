"""What MLflow is still owed, as a fold over the ledger: one delivery per run, pure, with no clock and no network.

Everything in a delivery is a function of the ledger alone (a point's timestamp is the record's), so delivering it a
second time, after a lost reply or a restart, changes nothing in MLflow.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from service.spec.objective import Objectives, Observation
from service.tuning.events import (
    Artifacts,
    AttemptEnded,
    AttemptStarted,
    DriverStarted,
    HeldOutEnded,
    Params,
    Record,
    Reported,
    SweepEnded,
    SweepExtended,
    SweepPaused,
    SweepStarted,
    TrialEnded,
    TrialProposed,
)
from service.tuning.history import best_epoch_of
from service.tuning.tracking_crown import Crown
from service.tuning.tracking_folds import FoldRuns
from service.tuning.tracking_names import clean_key, cut, metric_value, milliseconds, param_text, tag_text
from service.tuning.tracking_points import Delivery, Point, RunStatus
from service.tuning.tracking_runs import FitKey, RunKey, tags_of
from service.tuning.tracking_subject import Subject, read_subject

_STATUS: Final[dict[str, RunStatus]] = {"completed": "FINISHED", "stopped": "FINISHED"}  # all else: FAILED
_CAUSE: Final = 4000  # characters of a failure's cause that a tag keeps


@dataclass(slots=True)
class _Trial:
    """A trial that is not over yet."""

    params: Params
    attempts: int = 0
    epoch: int = 0
    seconds: float = 0.0
    curve: dict[int, Observation] = field(default_factory=dict)
    best_epoch: int = 0
    changed: dict[str, float] = field(default_factory=dict)  # numeric parameters that an exploit has changed
    is_paused: bool = False


class Outbox:
    """All deliveries that are due, in the order in which their runs came up. `settle` takes out what has arrived."""

    def __init__(self, read: Callable[[SweepStarted], Subject] = read_subject) -> None:
        self._read = read
        self.subject: Subject | None = None
        self.due: dict[RunKey, Delivery] = {}
        self.sequence = 0  # records folded so far
        self.epochs = 0
        self.is_over = False
        self.is_paused = False
        self.driver_pid: int | None = None  # of the newest driver
        self.checkpoints: dict[int, str] = {}  # trial -> the checkpoint that the sweep keeps of it
        self.crown = Crown()
        self.standing: dict[RunKey, tuple[RunStatus, int | None]] = {}  # every run's newest status, and its end
        self._live: dict[int, _Trial] = {}
        self._finals: dict[int, tuple[int, Observation]] = {}  # best epoch of every trial that may win
        self._record_losses: list[float] = []
        self._folds: FoldRuns | None = None  # where trials are trained several times

    @property
    def cursor(self) -> int:
        """Every record before this one has been delivered whole."""
        return min((delivery.since for delivery in self.due.values()), default=self.sequence)

    def settle(self, key: RunKey) -> None:
        """The delivery of `key` has arrived."""
        del self.due[key]

    def forget(self) -> None:
        """Drop all deliveries: an earlier tracker has made them."""
        self.due.clear()

    def apply(self, record: Record) -> None:  # noqa: C901, PLR0912  # one case per kind of event, nothing else
        """Fold one record in."""
        event = record.event
        match event:
            case SweepStarted():
                self._start_sweep(record, event)
            case DriverStarted():
                self._start_driver(record, event)
            case TrialProposed():
                self._propose(record, event)
            case AttemptStarted():
                self._start_attempt(record, event)
            case Reported():
                self._report(record, event)
            case AttemptEnded():
                self._end_attempt(record, event)
            case TrialEnded():
                self._end_trial(record, event)
            case HeldOutEnded():
                delivery, epoch = self._delivery(self.key(event.trial), record), self._finals[event.trial][0]
                self.crown.tests.end(event, epoch, delivery, milliseconds(record.at))
            case SweepPaused():
                self._pause(record, event)
            case SweepEnded():
                self._end_sweep(record, event)
            case SweepExtended():
                self._extend(record, event)
            case Artifacts():
                self._carry(event, record)
            case _:
                pass  # a checkpoint on its own is no result
        self.sequence = record.sequence + 1

    def _carry(self, event: Artifacts, record: Record) -> None:
        kept = [path for path in event.paths if path.endswith(".ckpt")]
        if event.trial is not None and kept:
            self.checkpoints[event.trial] = kept[-1]
        self._delivery(None if event.trial is None else self.key(event.trial), record).carry(event.paths)

    def identity(self, key: RunKey) -> dict[str, str]:
        """The tags by which a run is found again."""
        name = self.known.sweep_id if key is None else f"trial {key}"
        if isinstance(key, FitKey) and self._folds is not None:
            name = self._folds.name(key)
        tags = {"tuneyard.sweep_id": self.known.sweep_id, "mlflow.source.name": "tuneyard", "mlflow.source.type": "JOB"}
        return {**tags, **tags_of(key), "mlflow.runName": name}

    def key(self, number: int) -> RunKey:
        """The run that trial `number` of the ledger reports to: with folds or seeds that of one fit."""
        return number if self._folds is None else self._folds.key(number)

    @property
    def known(self) -> Subject:
        """The sweep; ValueError before its first record was folded in."""
        if self.subject is None:
            msg = "the ledger does not begin with SweepStarted"
            raise ValueError(msg)
        return self.subject

    @property
    def _objectives(self) -> Objectives:
        return self.known.objectives

    def _delivery(self, key: RunKey, record: Record) -> Delivery:
        if key not in self.due:
            self.due[key] = Delivery(record.sequence, milliseconds(record.at))
        return self.due[key]

    def _stand(self, key: RunKey, record: Record, status: RunStatus, end_ms: int | None = None) -> Delivery:
        delivery = self._delivery(key, record)
        delivery.status, delivery.end_ms = status, end_ms
        self.standing[key] = status, end_ms
        return delivery

    def _start_sweep(self, record: Record, event: SweepStarted) -> None:
        self.subject = self._read(event)
        self._folds = FoldRuns() if self.subject.is_raced else None
        delivery = self._delivery(None, record)
        delivery.is_new = True
        delivery.tags.update(self.subject.tags)
        delivery.tags["tuneyard.state"] = "running"
        delivery.params.update(self.subject.params)
        delivery.texts["sweep.yaml"] = self.subject.resolved

    def _start_driver(self, record: Record, event: DriverStarted) -> None:
        delivery = self._delivery(None, record)
        delivery.tags |= {"tuneyard.state": "running", "tuneyard.drivers": str(event.lease_epoch)}
        if self.is_paused:
            self._stand(None, record, "RUNNING")
        self.is_paused, self.driver_pid = False, event.pid

    def _propose(self, record: Record, event: TrialProposed) -> None:
        self._live[event.trial] = _Trial(event.params)
        tags = {"tuneyard.source": event.source, "tuneyard.seed": self.known.seed}
        params = {clean_key(name): param_text(value) for name, value in event.params.items()}
        if self._folds is not None:
            key = self._folds.propose(event)
            self._make(key, record, tags, {**params, **self._folds.params(event.trial)})
            if event.repeats is not None:
                self._stand(event.repeats, record, "RUNNING")
                return
        self._make(event.trial, record, tags, params)

    def _make(self, key: RunKey, record: Record, tags: dict[str, str], params: dict[str, str]) -> None:
        delivery = self._delivery(key, record)
        delivery.is_new = True
        delivery.tags |= tags
        delivery.params.update(params)

    def _start_attempt(self, record: Record, event: AttemptStarted) -> None:
        trial = self._live[event.trial]
        trial.attempts = event.attempt
        changed = {name: value for name, value in event.params.items() if trial.params.get(name) != value}
        if not (changed or trial.is_paused):
            return
        delivery = self._delivery(self.key(event.trial), record)
        if trial.is_paused:
            trial.is_paused = False
            self._stand(self.key(event.trial), record, "RUNNING")
            if self._folds is not None:
                self._stand(self._folds.key(event.trial).of, record, "RUNNING")
        for name, value in changed.items():
            delivery.tags[clean_key(f"tuneyard.param.{name}")] = tag_text(param_text(value))
            before, now = _number(trial.params.get(name)), _number(value)
            if name not in trial.changed and before is not None:
                key = clean_key(f"param/{name}")
                delivery.points.append(Point(key, before, milliseconds(record.at), trial.epoch))
            if now is not None:
                trial.changed[name] = now
        trial.params = {**trial.params, **event.params}

    def _report(self, record: Record, event: Reported) -> None:
        trial = self._live[event.trial]
        self.epochs += 1
        if event.epoch <= trial.epoch:
            return  # trained again after a fault: the first value stands
        trial.epoch, trial.seconds = event.epoch, event.seconds
        delivery, at = self._delivery(self.key(event.trial), record), milliseconds(record.at)
        delivery.results += 1
        values = {clean_key(name): metric_value(v, diverged=event.diverged) for name, v in event.metrics.items()}
        values |= {clean_key(f"param/{name}"): value for name, value in trial.changed.items()}
        delivery.points += [Point(key, value, at, event.epoch) for key, value in values.items()]
        if not event.diverged:
            self._rank(record, event)

    def _rank(self, record: Record, event: Reported) -> None:
        """Keep each trial's best epoch, and the sweep's best value of each objective as a curve over epochs trained."""
        seen, trial = self._objectives.observe(event.metrics), self._live[event.trial]
        trial.curve[event.epoch] = seen
        trial.best_epoch = best_epoch_of(self._objectives, trial.curve, event.epoch, trial.best_epoch)
        self._finals[event.trial] = (trial.best_epoch, trial.curve[trial.best_epoch])
        if not seen.is_finite or seen.violation > 0:
            return
        records = self._record_losses or [float("inf")] * len(seen.losses)
        for i, objective in enumerate(self._objectives.objectives):
            if seen.losses[i] < records[i]:
                records[i] = seen.losses[i]
                key = clean_key(f"best_{objective.name}")
                point = Point(key, objective.value(records[i]), milliseconds(record.at), self.epochs)
                self._delivery(None, record).points.append(point)
        self._record_losses = records

    def _end_attempt(self, record: Record, event: AttemptEnded) -> None:
        if event.cause:
            text = tag_text(f"{event.kind}: {cut(event.cause, _CAUSE)}")
            self._delivery(self.key(event.trial), record).tags[f"tuneyard.attempt.{event.attempt}"] = text

    def _end_trial(self, record: Record, event: TrialEnded) -> None:
        key = self.key(event.trial)
        trial, delivery = self._live.pop(event.trial), self._delivery(key, record)
        at = milliseconds(record.at)
        rung = max((r for r in self.known.rungs if r <= trial.epoch), default=0)
        delivery.tags |= {
            "tuneyard.ending": event.ending,
            "tuneyard.rung": str(rung),
            "tuneyard.epochs": str(trial.epoch),
            "tuneyard.attempts": str(trial.attempts),
            "tuneyard.train_seconds": f"{trial.seconds:.3f}",
        }
        if event.cause:
            delivery.tags["tuneyard.cause"] = cut(event.cause, _CAUSE)
        if event.ending in ("failed", "diverged"):
            self._finals.pop(event.trial, None)
        elif event.trial in self._finals:
            epoch, seen = self._finals[event.trial]
            for objective, loss in zip(self._objectives.objectives, seen.losses, strict=True):
                value = metric_value(objective.value(loss), diverged=False)
                delivery.points.append(Point(clean_key(f"best_{objective.name}"), value, at, epoch))
        self._stand(key, record, _STATUS.get(event.ending, "FAILED"), at)
        if self._folds is not None:
            self._end_fit(record, event, self._folds)

    def _end_fit(self, record: Record, event: TrialEnded, folds: FoldRuns) -> None:
        """What a fit's end says of its trial: its mean so far, and whether any of it is still trained."""
        trial, at = folds.key(event.trial).of, milliseconds(record.at)
        before = folds.complete(trial)
        folds.end(event.trial, event.ending, self._finals.get(event.trial, (0, None))[1])
        if folds.complete(trial) > before:
            step, values = folds.metrics(trial, self._objectives)
            self._delivery(trial, record).points += [Point(name, value, at, step) for name, value in values.items()]
        if not folds.is_live(trial):
            delivery = self._stand(trial, record, "FAILED" if folds.is_bad(trial) else "FINISHED", at)
            delivery.tags |= {"tuneyard.ending": event.ending, "tuneyard.fits": str(folds.complete(trial))}

    def _pause(self, record: Record, event: SweepPaused) -> None:
        self.is_paused = True
        delivery = self._delivery(None, record)
        delivery.tags |= {"tuneyard.state": "paused", "tuneyard.reason": tag_text(event.reason)}
        self._stand(None, record, "SCHEDULED")
        for number, trial in self._live.items():
            trial.is_paused = True
            self._stand(self.key(number), record, "SCHEDULED")
        for number in self._folds.live() if self._folds is not None else ():
            self._stand(number, record, "SCHEDULED")

    def _end_sweep(self, record: Record, event: SweepEnded) -> None:
        self.is_over, self.is_paused = True, False
        at = milliseconds(record.at)
        for number in self._live:
            self._stand(self.key(number), record, "KILLED", at).tags["tuneyard.ending"] = "interrupted"
        for number in self._folds.live() if self._folds is not None else ():
            self._stand(number, record, "KILLED", at)
        self._live.clear()
        delivery = self._delivery(None, record)
        delivery.tags |= {"tuneyard.state": event.ending, "tuneyard.reason": tag_text(event.reason)}
        self._stand(None, record, "FINISHED" if event.ending == "completed" else "FAILED", at)
        names = ("report.html", "report.json", "importance.json", "importance.svg", "best.yaml")
        delivery.carry(tuple(f"report/{name}" for name in names))
        if not self._objectives.is_single:
            delivery.carry(("report/pareto.csv",))
        self.crown.give(self._finals, self._objectives, self._folds, lambda key: self._delivery(key, record), at)

    def _extend(self, record: Record, event: SweepExtended) -> None:
        """The sweep goes on, or further. A parameter of a run cannot be changed, so the new number is a tag."""
        self.is_over, self.crown.best = False, None
        delivery = self._stand(None, record, "RUNNING")
        delivery.tags |= {"tuneyard.state": "running", "tuneyard.max_trials": str(event.max_trials)}
        delivery.texts["sweep.yaml"] = self.known.resolved_with(event.max_trials)


def _number(value: object) -> float | None:
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None
