"""What passes between the driver and a worker: the assignment of one attempt, and its reports; imports no torch."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from service.tuning.events import Checkpoint, Params


@dataclass(frozen=True, slots=True)
class Assignment:
    """Everything that one attempt of a trial needs, or its test on held-out data; JSON-able through `to_dict`.

    `storage` is an absolute folder or a URL; `checkpoint` (to start from) is relative to it. `metrics` are a must.
    `best_metric` is (name, goal): with `save_above` (a loss, lower is better) an epoch that improves the trial's best
    and beats that loss is checkpointed too. `goals` gives the goal of each further objective. `cpus` sets threads.
    """

    sweep_id: str
    trial: int
    attempt: int
    params: Params
    fit: dict[str, Any]
    metrics: tuple[str, ...]
    seed: int
    max_epochs: int
    checkpoint_epochs: tuple[int, ...]
    storage: str
    checkpoint: dict[str, Any] | None = None
    code_root: str | None = None
    best_metric: tuple[str, str] | None = None
    save_above: float | None = None
    seconds_before: float = 0.0
    cpus: float = 1.0
    goals: dict[str, str] = field(default_factory=dict)
    is_test: bool = False

    @property
    def objective_goals(self) -> dict[str, str]:
        """The goal of every objective by its name."""
        return {**self.goals, **dict([self.best_metric] if self.best_metric else [])}

    @property
    def start(self) -> Checkpoint | None:
        """The checkpoint to start from, or None."""
        return None if self.checkpoint is None else Checkpoint(**self.checkpoint)

    def path(self, *parts: str) -> Path:
        """A path under the sweep's storage."""
        return Path(self.storage, *parts)

    def to_dict(self) -> dict[str, Any]:
        """A JSON-able form."""
        return dataclasses.asdict(self)

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> Assignment:
        """The inverse of `to_dict`, also after a trip through JSON; TypeError where a field is unknown or missing."""
        best = data.get("best_metric")
        tuples = {"metrics": tuple(data["metrics"]), "checkpoint_epochs": tuple(data["checkpoint_epochs"])}
        return cls(**{**data, **tuples, "best_metric": None if best is None else (best[0], best[1])})


@dataclass(frozen=True, slots=True)
class Report:
    """What one epoch of a trial showed. `seconds`: the trial's training time so far, without waiting for verdicts.

    That of a test has the metrics alone.
    """

    epoch: int
    metrics: dict[str, float]
    seconds: float
    checkpoint: Checkpoint | None
    diverged: bool
