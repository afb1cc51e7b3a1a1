"""What a report says of folds and seeds: each configuration's mean, how sure it is, and how likely it is best."""

from __future__ import annotations

from typing import Any, Final

from service.tuning.configurations import FINAL, complete_fits
from service.tuning.history import History
from service.tuning.race_model import Standing
from service.tuning.report_trials import rounded

MOST_LISTED: Final = 200


def race_of(history: History) -> dict[str, Any] | None:
    """The configurations with complete fits, the best first; None where each one was trained once."""
    if not history.repeats:
        return None
    found = history.standings()
    return {
        "fits": len(history.trials),
        "trials": history.configurations,
        "configurations": [_entry(history, standing) for standing in found[:MOST_LISTED]],
    }


def _entry(history: History, standing: Standing) -> dict[str, Any]:
    """`fresh_mean` is over fresh seeds alone: no choice was made by them, so it flatters nobody."""
    objective = history.objectives.objectives[0]
    fits = complete_fits(history.fits_of(standing.configuration))
    fresh = {(t.fold, t.seed_index) for t in history.fits_of(standing.configuration) if t.source == FINAL}
    losses = [fit.loss for fit in fits if fit.cell in fresh]
    return {
        "trial": standing.configuration,
        "mean": rounded(objective.value(standing.mean)),
        "error": None if standing.error is None else rounded(standing.error),
        "fits": standing.fits,
        "probability_best": None if standing.best is None else round(standing.best, 4),
        "luck": None if standing.behind is None else round(standing.behind, 4),
        "fresh_mean": rounded(objective.value(sum(losses) / len(losses))) if losses else None,
        "values": [[*fit.cell, rounded(objective.value(fit.loss))] for fit in fits],
    }


def race_lines(race: dict[str, Any] | None, metric: str) -> list[str]:
    """The winner's mean and what it is worth, for a terminal."""
    if not race or not race["configurations"]:
        return []
    winner = race["configurations"][0]
    error = "" if winner["error"] is None else f" ± {winner['error']:.2g}"
    lines = [f"  mean        {metric} {winner['mean']:.6g}{error} over {winner['fits']} fits of {race['fits']} in all"]
    if winner["probability_best"] is not None:
        lines.append(f"                the best of all with a probability of {winner['probability_best']:.0%}")
    if winner["fresh_mean"] is not None:
        lines.append(f"                {winner['fresh_mean']:.6g} on fresh seeds alone")
    return lines
