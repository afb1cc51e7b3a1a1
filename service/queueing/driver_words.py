"""What a driver says of its sweep, as the sweep's record takes it: news alone, and no more hours than there can be."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Final

from service.records import SweepRecord

MOST_TRIALS: Final = 256  # that a driver runs at once where its sweep sets no limit
SPARE_HOURS: Final = 1.0  # of training beyond what the clock allows, as clocks differ
_FLEETING: Final = frozenset({"at", "elapsed_s", "eta_s"})  # of a progress that says nothing new


def possible_hours(sweep: SweepRecord, now: float) -> float:
    """The most that the sweep can have trained; more, claimed by a job, would end what all of its project may use."""
    began = sweep.created_at if sweep.started_at is None else sweep.started_at
    at_once = sweep.spec.get("budget", {}).get("max_concurrent_trials") or MOST_TRIALS
    return SPARE_HOURS + int(at_once) * max(0.0, now - began) / 3600


def noted(sweep: SweepRecord, progress: Mapping[str, Any] | None, hours: float | None) -> SweepRecord:
    """With the driver's newest word, where it says anything new; a driver that brings the sweep forward is no loss."""
    if hours is not None and hours > sweep.trial_hours:
        sweep = replace(sweep, trial_hours=hours)
    if progress is None or _lasting(progress) == _lasting(sweep.progress):
        return sweep
    moved = progress.get("epochs", 0) > sweep.progress.get("epochs", 0)
    return replace(sweep, progress=dict(progress), failures=0 if moved else sweep.failures)


def _lasting(progress: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in progress.items() if key not in _FLEETING}
