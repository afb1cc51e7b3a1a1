"""What a report says of the winner's test on data that the search never saw; no choice was made by it."""

from __future__ import annotations

from typing import Any

from service.tuning.held_out import HeldOut, scores, shown_names, winning_fits
from service.tuning.history import History
from service.tuning.report_trials import rounded


def held_out_of(history: History) -> dict[str, Any] | None:
    """The scores by metric, with their deviation over fits, and each tested fit; None where nothing is tested."""
    winners = [number for number, _ in winning_fits(history) if number in history.tests]
    if not winners:
        return None
    tests = [history.tests[number] for number in sorted(winners)]  # of a sweep that was extended, another may be, too
    first = history.trials[tests[0].trial]
    means = [
        {
            "name": name,
            "mean": rounded(score.mean),
            "deviation": None if score.deviation is None else rounded(score.deviation),
            "fits": score.fits,
        }
        for name, score in scores(tests).items()
    ]
    return {
        "trial": first.number if first.repeats is None else first.repeats,
        "scores": means,
        "fits": [_fit(history, test) for test in tests],
        "is_over": all(test.is_over for test in tests),
    }


def _fit(history: History, test: HeldOut) -> dict[str, Any]:
    trial, names = history.trials[test.trial], shown_names(test.metrics)
    return {
        "fit": test.trial,
        "fold": trial.fold,
        "seed": trial.seed_index,
        "epoch": test.epoch,
        "metrics": {names[name]: rounded(value) for name, value in test.metrics.items()},
        "cause": test.cause,
    }


def held_out_lines(found: dict[str, Any] | None) -> list[str]:
    """The score, or why there is none, for a terminal."""
    if found is None:
        return []
    causes = list(dict.fromkeys(f["cause"].splitlines()[0] for f in found["fits"] if f["cause"] and not f["metrics"]))
    texts = [_text(score) for score in found["scores"]]
    if not texts:
        return [f"  held out    no score: {causes[0]}"] if found["is_over"] and causes else []
    return [f"  held out    {', '.join(texts)}", *(f"                without one fit: {cause}" for cause in causes)]


def _text(score: dict[str, Any]) -> str:
    spread = "" if score["deviation"] is None else f" ± {score['deviation']:.2g} over {score['fits']} fits"
    return f"{score['name']} {'not finite' if score['mean'] is None else format(score['mean'], '.6g')}{spread}"
