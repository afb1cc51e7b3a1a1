"""What is left of a sweep after a fault, in one form for Tuneyard and for its baseline: all that the checker sees."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Any, Literal

from tests.chaos.truth import TruthLine

Ended = Literal["completed", "failed", "paused", "lost"]


@dataclass(frozen=True, slots=True)
class RunRow:
    """A run that stands in MLflow's database; `trial` None where it is no trial's (the sweep's own, or a stray)."""

    trial: int | None
    status: str
    points: Counter[tuple[str, int]]  # (metric, epoch) -> how many points stand there


@dataclass(slots=True)
class Outcome:
    """One sweep after its end, as the workers, the record and MLflow tell it."""

    truth: list[TruthLine]
    proposals: dict[int, dict[str, Any]]  # trial -> params
    endings: dict[int, list[str]]  # trial -> every ending that the searcher and scheduler were told
    results: dict[tuple[int, int], list[float]]  # (trial, epoch) -> values on the system's own record
    runs: list[RunRow]
    best: tuple[int, int] | None  # (trial, epoch)
    ended: Ended
    checkpoint_interval: int
    recovery_s: float = 0.0  # the worst time from a fault's end to the next acknowledged epoch
    metric: str = "loss"
    leftovers: list[str] = field(default_factory=list)  # processes and files that are still there after the end
    broken: list[str] = field(default_factory=list)  # what the fault itself saw go wrong, in words

    @property
    def epochs_redone(self) -> int:
        """How many epochs were trained again."""
        return sum(redone_by_attempt(self.truth).values())


def redone_by_attempt(truth: list[TruthLine]) -> dict[tuple[int, int], int]:
    """(trial, attempt) -> how many of its epochs an earlier attempt of the trial had trained already."""
    seen: dict[tuple[int, int], int] = {}  # (trial, epoch) -> attempt that trained it last
    redone: Counter[tuple[int, int]] = Counter()
    for line in truth:
        if line.kind == "trained":
            if (line.trial, line.epoch) in seen:
                redone[line.trial, line.attempt] += 1
            seen[line.trial, line.epoch] = line.attempt
    return dict(redone)


def number_of(name: str) -> int:
    """The number of a fault: 13 for F13 and all of its ways, F13a and so on."""
    return int(name[1:].rstrip("abcdefghij"))
