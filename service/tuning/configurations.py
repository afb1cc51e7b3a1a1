"""From fits to configurations: which fits train the same one, and how the configurations stand by them.

With folds or seeds a configuration is trained several times. Each of these fits is a trial of its own in the record,
and the first of them carries the configuration.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from service.tuning.race_model import FitResult, Standing, standings

if TYPE_CHECKING:
    from service.spec.objective import Objectives
    from service.tuning.history import Trial


def first_fit(trial: Trial) -> int:
    """The number of the first fit of the configuration that `trial` trains."""
    return trial.number if trial.repeats is None else trial.repeats


def complete_fits(trials: Iterable[Trial]) -> list[FitResult]:
    """The results of the fits that were trained to their end. A configuration that diverged in any of them has none."""
    trials = list(trials)
    out = {first_fit(t) for t in trials if t.status == "diverged"}
    return [
        FitResult(first_fit(t), (t.fold, t.seed_index), seen.losses[0], seen.violation)
        for t in trials
        if t.status == "completed" and t.curve and first_fit(t) not in out and (seen := t.curve[t.best_epoch]).is_finite
    ]


def standings_of(trials: Iterable[Trial]) -> list[Standing]:
    """How the configurations stand by all complete fits among `trials`, the best first."""
    trials = list(trials)
    finalists = frozenset(first_fit(t) for t in trials if t.source == FINAL and t.status == "completed")
    return standings(complete_fits(trials), finalists)


FINAL = "final"  # the source of a fit on a fresh seed, at the end of a sweep


def raced_ranking(found: list[Standing], trials: list[Trial], objectives: Objectives) -> list[tuple[int, int]]:
    """(first fit, its best epoch) of every configuration, the best first; those without a complete fit come last.

    Diverged and failed ones are left out.
    """
    complete = [s.configuration for s in found]
    out = {first_fit(t) for t in trials if t.status == "diverged"} | set(complete)
    others = [t for t in trials if t.repeats is None and t.curve and t.number not in out and t.status != "failed"]
    scores = objectives.scores([t.curve[t.best_epoch] for t in others])
    order = sorted(zip(scores, [t.number for t in others], strict=True))
    return [(number, trials[number].best_epoch) for number in [*complete, *(number for _, number in order)]]
