"""What MLflow is told of a sweep's winner once the sweep has ended, and once more each time that it was extended."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from service.spec.objective import Objectives, Observation
from service.tuning.tracking_folds import FoldRuns
from service.tuning.tracking_held_out import HeldOutScores
from service.tuning.tracking_names import tag_text
from service.tuning.tracking_points import Delivery
from service.tuning.tracking_runs import RunKey

Finals = Mapping[int, tuple[int, Observation]]  # best epoch of every trial that may win


@dataclass(slots=True)
class Crown:
    """The winner and the Pareto front. `best` is (trial, epoch) of the winner; None while the sweep goes on."""

    best: tuple[int, int] | None = None
    tests: HeldOutScores = field(default_factory=HeldOutScores)
    _front: set[int] = field(default_factory=set)  # of the end before, too

    def give(
        self,
        finals: Finals,
        objectives: Objectives,
        folds: FoldRuns | None,
        deliver: Callable[[RunKey], Delivery],
        at_ms: int,
    ) -> None:
        """Name the winner, and with several objectives the trials of the front."""
        numbers = sorted(finals)
        if not numbers:
            return
        sweep, seen = deliver(None), [finals[n][1] for n in numbers]
        raced = folds.winner() if folds is not None else None
        winner = numbers[objectives.order(seen)[0]] if raced is None else raced.configuration
        epoch, best = finals[winner]
        self.best = (winner, epoch)
        above = [sweep] if folds is None else [sweep, deliver(winner)]
        self.tests.sum_up(above, at_ms, epoch, lambda fit: (fit if folds is None else folds.key(fit).of) == winner)
        losses = best.losses if raced is None else (raced.mean,)
        values = [f"{o.value(x):.6g}" for o, x in zip(objectives.objectives, losses, strict=True)]
        sweep.tags |= {
            "tuneyard.best_trial": str(winner),
            "tuneyard.best_epoch": str(epoch),
            "tuneyard.best_value": ", ".join(values),
        }
        front = [numbers[i] for i in objectives.pareto(seen)]
        for number in sorted(self._front.union(front)):  # some of an earlier end may be on it no more
            deliver(number).tags["tuneyard.pareto"] = "true" if number in front else "false"
        self._front = set(front)
        if front:
            sweep.tags["tuneyard.pareto"] = tag_text(", ".join(map(str, front)))
