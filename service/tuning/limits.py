"""When a sweep is over: its limits held against its history, as a pure function."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

from service.tuning.history import History, Status
from service.tuning.stopping import plateau, too_little

ALIKE_FAILURES: Final = 3  # when all of the first trials fail with one cause, the sweep is wrong, not the trials
SECONDS_PER_HOUR: Final = 3600.0
Over = tuple[Literal["completed", "failed"], str]


@dataclass(frozen=True, slots=True)
class Limits:
    """When a sweep ends, and what a trial may use. None is no limit."""

    max_epochs: int
    max_trials: int | None = None
    max_failed_trials: int | None = None
    max_restarts: int = 3
    wall_clock_s: float | None = None
    cpu_hours: float | None = None
    gpu_hours: float | None = None
    total_epochs: int | None = None
    plateau_trials: int | None = None
    plateau_min_delta: float = 0.0
    min_expected_improvement: float | None = None
    cpu_per_trial: float = 1.0
    gpu_per_trial: float = 0.0


def over(
    history: History,
    limits: Limits,
    elapsed_s: float,
    expected: tuple[float | None, ...] = (),
    configurations: History | None = None,
) -> Over | None:
    """(ending, reason) once the sweep must start nothing more, whatever still waits.

    `elapsed_s` is its active time; `expected` what the next trial was expected to gain, as `Outlook.expected` has it.
    `configurations` is the history with each configuration as one trial, where it is another.
    """
    failed = history.counts[Status.FAILED]
    if failed:
        alike = _common_failure(history)
        if alike is not None:
            return "failed", alike
        if limits.max_failed_trials is not None and failed > limits.max_failed_trials:
            return "failed", f"{failed} trials failed, max_failed_trials is {limits.max_failed_trials}"
    spent = _spent(history, limits, elapsed_s)
    if spent is not None:
        return "completed", spent
    if history.target_reached_by is not None:
        return "completed", f"trial {history.target_reached_by} reached the target"
    pointless = _pointless(configurations or history, limits, expected)
    return None if pointless is None else ("completed", pointless)


def _pointless(history: History, limits: Limits, expected: tuple[float | None, ...]) -> str | None:
    """Why going on does not pay, in words."""
    if limits.plateau_trials is not None:
        reason = plateau(history, limits.plateau_trials, limits.plateau_min_delta, limits.max_epochs)
        if reason is not None:
            return reason
    if limits.min_expected_improvement is None:
        return None
    return too_little(expected, limits.min_expected_improvement, history.objectives)


def _spent(history: History, limits: Limits, elapsed_s: float) -> str | None:
    """The budget that is used up, in words."""
    if limits.wall_clock_s is not None and elapsed_s >= limits.wall_clock_s:
        return f"the wall clock budget of {limits.wall_clock_s:g} s is used up"
    if limits.total_epochs is not None and history.epochs_trained >= limits.total_epochs:
        return f"the budget of {limits.total_epochs} epochs is used up"
    hours = history.train_seconds / SECONDS_PER_HOUR
    for name, per_trial, limit in (
        ("CPU", limits.cpu_per_trial, limits.cpu_hours),
        ("GPU", limits.gpu_per_trial, limits.gpu_hours),
    ):
        if limit is not None and hours * per_trial >= limit:
            return f"the budget of {limit:g} {name} hours is used up"
    return None


def _common_failure(history: History) -> str | None:
    """The shared cause when the first trials to end have all failed alike, before any showed a result."""
    first = history.trials[: 4 * ALIKE_FAILURES]
    ended = [t for t in first if t.status.is_over]
    if len(ended) < ALIKE_FAILURES or any(t.curve for t in first):
        return None
    causes = {headline(t.cause) for t in ended}
    if len(causes) > 1 or any(t.status is not Status.FAILED for t in ended):
        return None
    return f"the first {len(ended)} trials all failed alike: {headline(ended[0].cause)}"


def headline(cause: str) -> str:
    """The first line of a cause, which says most."""
    return cause.strip().splitlines()[0] if cause.strip() else "unknown"
