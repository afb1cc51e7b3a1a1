"""A sweep with simulated workers and a virtual clock, driven by the very decision core that a real sweep runs.

Pure and seeded: the same parts give the same records. Nothing sleeps; a task says how long its epochs take. It plays
what another choice would have made of a recorded sweep (`what_if.py`), and the tests of searchers and schedulers.
"""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Protocol, cast

from service.spec.objective import DIVERGED_LOSS, Objectives
from service.tuning.answers import Finished, Start
from service.tuning.decisions import Arrival, Decider, FailureKind
from service.tuning.events import AttemptStarted, Checkpoint, Event, Params, Record, Reported, SweepEnded
from service.tuning.history import History
from service.tuning.limits import Limits
from service.tuning.racing import Race, RacePlan
from service.tuning.strategy import Scheduler, Searcher

MAX_EVENTS: Final = 1_000_000


class Breakdown(Exception):  # noqa: N818  # not an error of ours: what a task raises where its attempt breaks
    """The attempt ends here; `kind` as in `Decider.attempt_failed`."""

    def __init__(self, kind: FailureKind = "user") -> None:
        super().__init__(kind)
        self.kind: FailureKind = kind


class Task(Protocol):
    """What trials train in a simulation."""

    def train(self, params: Params, state: Any, epoch: int) -> tuple[Any, dict[str, float], float]:  # noqa: ANN401  # its own
        """(state after, metrics, seconds) of one epoch from `state`, None at the start. May raise Breakdown."""


@dataclass(frozen=True)
class Curves:
    """A task with no state: metrics are a function of params and epoch, and so are seconds."""

    metrics: Callable[[Params, int], dict[str, float]]
    seconds: Callable[[Params, int], float] = lambda params, epoch: 1.0  # noqa: ARG005  # the simplest clock

    def train(self, params: Params, state: Any, epoch: int) -> tuple[Any, dict[str, float], float]:  # noqa: ANN401  # its own
        """The curve at `epoch`."""
        return state, self.metrics(params, epoch), self.seconds(params, epoch)


@dataclass
class Simulation:
    """One simulated sweep. `records` is its ledger; `validate_every` is how many epochs lie between two reports.

    With a `race` the task is told `fold` and `seed` among its params.
    """

    objectives: Objectives
    searcher: Searcher
    scheduler: Scheduler
    task: Task
    workers: int = 4
    max_trials: int | None = 20
    wall_clock_s: float | None = None
    validate_every: int = 1
    first_points: Sequence[tuple[str, Params]] = ()
    race: RacePlan | None = None
    records: list[Record] = field(default_factory=list)
    now: float = 0.0

    def __post_init__(self) -> None:
        self.history = History.of(self.objectives, self.records)
        limits = Limits(self.scheduler.rungs[-1], max_trials=self.max_trials, wall_clock_s=self.wall_clock_s)
        self.decider = Decider(self.searcher, self.scheduler, limits, self.history, self.first_points)
        if self.race is not None:
            self.decider.race = Race(self.race, self.objectives)
        self._states: dict[str, Any] = {}
        self._queue: list[tuple[float, int, Callable[[], None]]] = []
        self._order = itertools.count()
        self._idle = self.workers
        self._finished: Finished | None = None

    def run(self) -> History:
        """To the end of the sweep; raises where nothing could ever happen again."""
        self._start_idle()
        while self._finished is None:
            if not self._queue or len(self.records) > MAX_EVENTS:
                msg = f"the sweep hangs after {len(self.records)} records: {self.history.counts}"
                raise RuntimeError(msg)
            self.now, _, act = heapq.heappop(self._queue)
            act()
            self._start_idle()
        self._commit([SweepEnded(self._finished.ending, self._finished.reason)])
        return self.history

    def _start_idle(self) -> None:
        while self._idle and self._finished is None:
            answer = self.decider.start(self.now)
            self._commit(answer.events)
            if isinstance(answer, Finished):
                self._finished = answer
            elif isinstance(answer, Start):
                begun = cast("AttemptStarted", answer.events[-1])
                self._idle -= 1
                state = self._states[begun.checkpoint.path] if begun.checkpoint else None
                self._train(begun, state, begun.checkpoint.epoch if begun.checkpoint else 0)
            elif not answer.events:
                return

    def _train(self, begun: AttemptStarted, state: Any, epoch: int) -> None:  # noqa: ANN401  # the task's state
        """Trains to the next validation and puts its report, or its end, on the queue."""
        seconds = 0.0
        metrics: dict[str, float] = {}
        last = self.scheduler.rungs[-1]
        fit = self.history.trials[begun.trial]
        params = begun.params if self.race is None else {**begun.params, "fold": fit.fold, "seed": fit.seed_index}
        try:
            while epoch < last:
                epoch += 1
                state, metrics, took = self.task.train(params, state, epoch)
                seconds += took
                if epoch % self.validate_every == 0 or epoch == last:
                    break
        except Breakdown as error:
            kind = error.kind
            self._at(seconds, lambda: self._fail(begun, kind))
            return
        self._at(seconds, lambda: self._report(begun, state, epoch, metrics, seconds))

    def _report(
        self,
        begun: AttemptStarted,
        state: Any,  # noqa: ANN401  # the task's state
        epoch: int,
        metrics: dict[str, float],
        seconds: float,
    ) -> None:
        losses = self.objectives.observe(metrics)
        checkpoint = Checkpoint(f"checkpoints/{begun.trial}/{epoch}.{begun.attempt}.ckpt", epoch, 1, "")
        self._states[checkpoint.path] = state
        trained = self.history.trials[begun.trial].seconds + seconds
        arrival = Arrival(
            begun.trial, begun.attempt, epoch, self._finite(metrics), trained, checkpoint, not losses.is_finite
        )
        events = self.decider.report(arrival, self.now)
        self._commit(events)
        if any(isinstance(event, Reported) and event.action != "continue" for event in events):
            self._idle += 1
        else:
            self._train(begun, state, epoch)

    def _finite(self, metrics: dict[str, float]) -> dict[str, float]:
        found = dict(metrics)
        for objective in self.objectives.objectives:
            if not abs(objective.loss(found[objective.name])) < DIVERGED_LOSS:
                found[objective.name] = objective.value(DIVERGED_LOSS)
        return found

    def _fail(self, begun: AttemptStarted, kind: FailureKind) -> None:
        self._commit(self.decider.attempt_failed(begun.trial, begun.attempt, kind, f"broke at {self.now:g}"))
        self._idle += 1

    def _commit(self, events: Iterable[Event]) -> None:
        for event in events:
            record = Record(len(self.records), 1.0 + self.now, event)
            self.records.append(record)
            self.history.apply(record)

    def _at(self, delay: float, act: Callable[[], None]) -> None:
        heapq.heappush(self._queue, (self.now + max(delay, 1e-9), next(self._order), act))
