"""The held-out test of a sweep's winner: which fits are tested, and what came of it, by the record alone.

It begins once the search is over. No searcher or scheduler is asked anything after that, so what a test shows can
change neither a proposal nor a decision, nor which trial is the winner.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, Literal

from service.tuning.events import HeldOutEnded, HeldOutStarted
from service.tuning.retention import best_checkpoint

if TYPE_CHECKING:
    from service.tuning.history import History, Trial

MAX_LOSSES: Final = 5  # of its worker, one after the other: then it is the test that ends it
_AGAIN: Final[dict[str, Literal["lost", "interrupted"]]] = {"infrastructure": "lost", "interrupted": "interrupted"}


@dataclass(slots=True)
class HeldOut:
    """How the test of one fit stands. `epoch`: of the weights; `cause`: why there is no score, or none yet."""

    trial: int
    attempt: int
    epoch: int
    is_running: bool = False
    is_over: bool = False
    losses: int = 0
    metrics: dict[str, float] = field(default_factory=dict)
    cause: str = ""


class HeldOutTests(dict[int, HeldOut]):
    """All of a sweep's, by the numbers of their fits; only `History` writes to it."""

    def apply(self, event: HeldOutStarted | HeldOutEnded, trial: Trial) -> None:
        """Fold one event about `trial` in."""
        test = self.setdefault(trial.number, HeldOut(trial.number, event.attempt, trial.best_epoch))
        test.attempt, test.is_running = event.attempt, isinstance(event, HeldOutStarted)
        if isinstance(event, HeldOutStarted):
            test.epoch = event.checkpoint.epoch
            return
        test.is_over = event.kind in ("finished", "failed")
        test.losses += event.kind == "lost"
        test.metrics, test.cause = event.metrics, event.cause

    @property
    def is_running(self) -> bool:
        """Whether a worker is at one."""
        return any(test.is_running for test in self.values())


def next_test(history: History) -> HeldOutStarted | HeldOutEnded | None:
    """The next test of the winner's, begun or given up; None where all are running or over, or nobody has won."""
    for number, epoch in winning_fits(history):
        trial, test = history.trials[number], history.tests.get(number)
        attempt = 1 + max(trial.attempt, test.attempt if test else 0)
        saved = best_checkpoint(trial, epoch)
        if test is not None and (test.is_over or test.is_running):
            continue
        if test is not None and test.losses >= MAX_LOSSES:
            return HeldOutEnded(
                number, attempt, "failed", cause=f"its worker was lost {test.losses} times: {test.cause}"
            )
        if saved is None:
            return HeldOutEnded(number, attempt, "failed", cause=f"the checkpoint of its best epoch, {epoch}, is gone")
        return HeldOutStarted(number, attempt, saved)
    return None


def winning_fits(history: History) -> list[tuple[int, int]]:
    """(trial, best epoch) of the winner's fits: with folds or seeds all that are complete. Empty: nobody has won."""
    best = history.ranking()[:1]
    fits = history.fits_of(best[0][0]) if best and history.repeats else []
    complete = [t for t in fits if t.status == "completed" and t.curve and t.curve[t.best_epoch].is_finite]
    return [(t.number, t.best_epoch) for t in complete] or best


def ended(
    history: History, trial: int, attempt: int, kind: str, cause: str, metrics: Mapping[str, float] | None = None
) -> list[HeldOutEnded]:
    """The event of a test that ended; none where it is not the current one. `kind` as that of an attempt, or finished.

    Only a lost worker is no fault of the test; everything else would happen again.
    """
    test = history.tests.get(trial)
    if test is None or not test.is_running or test.attempt != attempt:
        return []
    if kind != "finished":
        return [HeldOutEnded(trial, attempt, _AGAIN.get(kind, "failed"), cause=cause)]
    if not metrics:
        return [HeldOutEnded(trial, attempt, "failed", cause="test_step logged no number with self.log")]
    return [HeldOutEnded(trial, attempt, "finished", dict(metrics))]


def shown_names(names: Iterable[str]) -> dict[str, str]:
    """What each logged metric is called where it is shown: `test_acc` is `held_out_acc`, and nothing else is."""
    found = {name: f"held_out_{name.removeprefix('test').lstrip('_/') or name}" for name in names}
    doubled = [short for short in found.values() if list(found.values()).count(short) > 1]
    return {name: f"held_out_{name}" if short in doubled else short for name, short in found.items()}


@dataclass(frozen=True, slots=True)
class Score:
    """A metric over the winner's tested fits. `deviation` is None with one fit."""

    mean: float
    deviation: float | None
    fits: int


def scores(tests: Sequence[HeldOut]) -> dict[str, Score]:
    """The mean of each metric that every test with a score has, by the name that is shown, and its spread over fits."""
    scored = [test.metrics for test in tests if test.metrics]
    shared = [name for name in scored[0] if all(name in one for one in scored)] if scored else []
    found = {}
    for name, short in shown_names(shared).items():
        values = [one[name] for one in scored]
        is_spread = len(values) > 1 and all(map(math.isfinite, values))
        found[short] = Score(
            math.fsum(values) / len(values), statistics.stdev(values) if is_spread else None, len(values)
        )
    return found
