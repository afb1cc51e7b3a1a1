"""A conductor on a folder with a clock that the test moves, for the tests of decisions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from service.spec.objective import Objective, Objectives
from service.tuning.conductor import Conductor
from service.tuning.decisions import Arrival, Decider
from service.tuning.events import Checkpoint, Params
from service.tuning.history import History, Status
from service.tuning.ledger import Ledger
from service.tuning.limits import Limits
from service.tuning.retention import RetentionPolicy
from service.tuning.storage import FolderStorage
from service.tuning.strategy import Drop, Resume, Verdict

LOSS = Objectives((Objective("loss", "minimize", target=0.0),))


class Counting:
    """Proposes 0, 1, 2, … up to `size`."""

    def __init__(self, size: int = 1000) -> None:
        self.size = size

    def propose(self, history: History) -> Params | None:
        return {"x": history.proposals} if history.proposals < self.size else None


class Patient:
    """Never stops a trial; pauses it at the epochs given, and lets it go on only when asked to drain."""

    def __init__(self, pause_at: Sequence[int] = (), drops: Sequence[int] = ()) -> None:
        self.rungs: tuple[int, ...] = (9,)
        self.pause_at, self.drops = pause_at, drops

    def judge(self, history: History, trial: int, epoch: int) -> Verdict:  # noqa: ARG002  # the seam's signature
        return Verdict("pause", "waits") if epoch in self.pause_at else Verdict("continue", "")

    def release(self, history: History, *, is_drained: bool) -> list[Resume | Drop]:
        paused = [t for t in history.unfinished() if t.status is Status.PAUSED] if is_drained else []
        return [
            Drop(t.number, "dropped") if t.number in self.drops else Resume(t.number, t.number, t.params, "promoted")
            for t in paused
        ]


class Failing:
    """Answers as told: an exception is raised, anything else is proposed."""

    def __init__(self, answers: Sequence[Exception | Params]) -> None:
        self.answers = iter(answers)

    def propose(self, history: History) -> Params | None:  # noqa: ARG002  # the seam's signature
        answer = next(self.answers)
        if isinstance(answer, Exception):
            raise answer
        return answer


class Sweep:
    """A conductor on a folder, with a clock that the test moves."""

    def __init__(self, folder: Path, limits: Limits, **parts: Any) -> None:  # noqa: ANN401  # parts of any kind
        self.now, self.folder = 0.0, folder
        storage = FolderStorage(folder)
        ledger = Ledger(storage, lambda: self.now)
        self.history = History.of(parts.get("objectives", LOSS), ledger.open())
        self.decider = Decider(
            parts.get("searcher", Counting()),
            parts.get("scheduler", Patient()),
            limits,
            self.history,
            parts.get("first_points", ()),
        )
        retention = parts.get("retention", RetentionPolicy())
        self.conductor = Conductor(self.decider, ledger, storage, retention, lambda: self.now)

    def start(self) -> int:
        started = self.conductor.start()
        assert started is not None
        return started.trial

    def report(self, trial: int, epoch: int, loss: float = 1.0, **fields: Any) -> bool:  # noqa: ANN401  # any field
        attempt = fields.pop("attempt", self.history.trials[trial].attempt)
        metrics = {"loss": loss, **fields.pop("metrics", {})}
        arrival = Arrival(trial, attempt, epoch, metrics, float(epoch), fields.pop("checkpoint", None))
        return self.conductor.report(replace(arrival, **fields))

    def saved(self, trial: int, epoch: int) -> Checkpoint:
        path = f"checkpoints/{trial}/{epoch}.ckpt"
        FolderStorage(self.folder).replace(path, b"weights")
        return Checkpoint(path, epoch, 7, "digest")


class Exploiting:
    """Pauses trial 1 at its first report and lets it go on from trial 0's newest checkpoint."""

    rungs: tuple[int, ...] = (9,)

    def judge(self, history: History, trial: int, epoch: int) -> Verdict:  # noqa: ARG002  # the seam's signature
        return Verdict("pause" if trial == 1 and epoch == 1 else "continue", "")

    def release(self, history: History, *, is_drained: bool) -> list[Resume | Drop]:  # noqa: ARG002  # ditto
        return [Resume(1, 0, {"x": 7}, "exploit") for t in history.unfinished() if t.status is Status.PAUSED]
