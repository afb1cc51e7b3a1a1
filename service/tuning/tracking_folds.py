"""The runs of trials that are trained several times: a run for the trial, with its means, and one for each fit beneath.

A fold over the ledger, as all of the outbox: the same records give the same points, tags and statuses.
"""

from __future__ import annotations

import math
import statistics
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from service.spec.objective import Objectives, Observation
from service.tuning.configurations import FINAL
from service.tuning.events import TrialProposed
from service.tuning.race_model import FitResult, Standing, standings
from service.tuning.tracking_names import clean_key
from service.tuning.tracking_runs import FitKey

if TYPE_CHECKING:
    from service.tuning.events import Ending

_BAD: Final = ("failed", "diverged")


@dataclass(slots=True)
class _Runs:
    """What is known of one trial: its fits that are not over, and the losses of those that are complete."""

    live: set[int] = field(default_factory=set)
    seen: list[Observation] = field(default_factory=list)
    first_ending: str = ""


class FoldRuns:
    """All trials of a sweep with folds or seeds, by the numbers of their first fits."""

    def __init__(self) -> None:
        self._trials: dict[int, _Runs] = {}
        self._fits: dict[int, TrialProposed] = {}
        self._results: list[FitResult] = []
        self._finalists: set[int] = set()
        self._diverged: set[int] = set()

    def propose(self, event: TrialProposed) -> FitKey:
        """A fit has come up."""
        self._fits[event.trial] = event
        key = self.key(event.trial)
        self._trials.setdefault(key.of, _Runs()).live.add(event.trial)
        return key

    def key(self, number: int) -> FitKey:
        """The key of a fit's run."""
        event = self._fits[number]
        return FitKey(number, number if event.repeats is None else event.repeats)

    def name(self, key: FitKey) -> str:
        """What a fit's run is called."""
        event = self._fits[key.number]
        return f"trial {key.of}, fold {event.fold}" + (f", seed {event.seed_index}" if event.seed_index else "")

    def params(self, number: int) -> dict[str, str]:
        """What tells a fit from the others of its trial."""
        event = self._fits[number]
        return {"fold": str(event.fold), "seed_index": str(event.seed_index)}

    def end(self, number: int, ending: Ending, seen: Observation | None) -> None:
        """A fit is over; `seen` is what it showed at its best epoch."""
        key, event = self.key(number), self._fits[number]
        trial = self._trials[key.of]
        trial.live.discard(number)
        if event.repeats is None:
            trial.first_ending = ending
        if ending == "diverged":
            self._diverged.add(key.of)
        if ending == "completed" and seen is not None and seen.is_finite:
            trial.seen.append(seen)
            self._results.append(FitResult(key.of, (event.fold, event.seed_index), seen.losses[0], seen.violation))
            if event.source == FINAL:
                self._finalists.add(key.of)

    def metrics(self, trial: int, objectives: Objectives) -> tuple[int, dict[str, float]]:
        """(complete fits, their mean and standard deviation by metric), as they stand now."""
        seen = self._trials[trial].seen
        found = {"fits": float(len(seen))}
        for i, objective in enumerate(objectives.objectives):
            values = [objective.value(one.losses[i]) for one in seen]
            found[clean_key(f"mean_{objective.name}")] = math.fsum(values) / len(values)
            if len(values) > 1:
                found[clean_key(f"std_{objective.name}")] = statistics.stdev(values)
        return len(seen), found

    def complete(self, trial: int) -> int:
        """How many fits of a trial are complete."""
        return len(self._trials[trial].seen)

    def is_live(self, trial: int) -> bool:
        """Whether any fit of a trial is not over."""
        return bool(self._trials[trial].live)

    def live(self) -> list[int]:
        """Trials with fits that are not over."""
        return [number for number, trial in self._trials.items() if trial.live]

    def is_bad(self, trial: int) -> bool:
        """Whether a trial has failed or diverged."""
        return self._trials[trial].first_ending in _BAD or trial in self._diverged

    def winner(self) -> Standing | None:
        """The trial that stands best, as `History.ranking` has it; None without a complete fit."""
        found = standings(
            (r for r in self._results if r.configuration not in self._diverged), frozenset(self._finalists)
        )
        return found[0] if found else None
