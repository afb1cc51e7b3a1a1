"""What is said of folds and seeds: in the progress, the report, `show` and the page, from the record of a race."""

from __future__ import annotations

import json
import statistics
from pathlib import Path
from typing import Any

import pytest

from service.spec.sweep_spec import SweepSpec, parse_sweep
from service.tuning.assembly import build, history_of
from service.tuning.events import Record, SweepStarted, TrialProposed
from service.tuning.history import History, Status
from service.tuning.limits import Limits
from service.tuning.progress import snapshot
from service.tuning.replay import replay
from service.tuning.report import build_report, report_text
from service.tuning.report_html import render
from service.views.progress import console, line
from service.views.race import race_table
from tests.benchmarks.search.folds import Task
from tests.simulator import Curves, Simulation

SWEEP = """
name: raced
fit: {model: {x0: 0.5}, trainer: {max_epochs: 3}}
metric: {name: score, goal: maximize, target: 100.0}
parameters: {x0: {min: 0.0, max: 1.0}, x1: {min: 0.0, max: 1.0}, x2: {min: 0.0, max: 1.0}, x3: {min: 0.0, max: 1.0}}
search: {name: random, start_from_defaults: false}
budget: {max_trials: 12}
evaluation: {folds: 4, final_seeds: 1, finalists: 2, race_level: 0.2}
"""


@pytest.fixture(scope="module")
def spec() -> SweepSpec:
    return parse_sweep(SWEEP, file="sweep.yaml", root=Path())


@pytest.fixture(scope="module")
def records(spec: SweepSpec) -> list[Record]:
    """A sweep as the driver puts it together, but with simulated workers."""
    task = Task(3, noise=0.2)
    curves = Curves(lambda p, e: {"score": -task.fit(p, p["fold"]) - 1 / e - p["seed"] / 100})
    history = history_of(spec, [])
    decider = build(spec, history, {}).decider
    assert decider.race is not None
    run = Simulation(
        history.objectives, decider.searcher, decider.scheduler, curves, max_trials=12, race=decider.race.plan
    )
    run.records.append(Record(0, 1.0, SweepStarted("raced-1", spec.to_dict())))
    run.__post_init__()
    run.run()
    return run.records


@pytest.fixture(scope="module")
def history(spec: SweepSpec, records: list[Record]) -> History:
    return history_of(spec, records)


@pytest.fixture(scope="module")
def report(spec: SweepSpec, records: list[Record]) -> dict[str, Any]:
    return build_report(records, spec)


def test_the_report_expects_what_the_sweep_did_and_counts_configurations_for_the_plateau(
    spec: SweepSpec, records: list[Record], history: History
) -> None:
    asked = SweepSpec.from_dict({**spec.to_dict(), "budget": {"max_trials": 12, "plateau": {"trials": 100}}})
    report = build_report(records, asked)
    expected = build(spec, history, {}).decider.expected_gain()
    assert expected is not None
    assert report["outlook"]["expected_improvement"] == pytest.approx(expected, rel=1e-4)
    assert next(b["used"] for b in report["budget"] if b["name"] == "plateau.trials") < 12 < len(history.trials)


def test_a_race_of_one_configuration_that_bayes_was_asked_for_has_a_report() -> None:
    data = {"parameters": {"x0": 0.5}, "search": {"name": "bayes"}, "evaluation": {"seeds": 3}}
    spec = SweepSpec.from_dict({**parse_sweep(SWEEP, file="sweep.yaml", root=Path()).to_dict(), **data})
    decider = build(spec, history_of(spec, []), {}).decider
    assert decider.race is not None
    curves = Curves(lambda p, e: {"score": p["seed"] - 1 / e})
    parts = decider.history.objectives, decider.searcher, decider.scheduler, curves
    run = Simulation(*parts, max_trials=2, race=decider.race.plan)
    assert len(run.run().trials) == 3
    assert build_report(run.records, spec)["outlook"]["expected_improvement"] is None


def test_the_report_has_means_errors_and_chances(report: dict[str, Any], history: History) -> None:
    race = report["race"]
    assert json.loads(json.dumps(report, allow_nan=False)) == report
    assert (race["trials"], race["fits"]) == (12, len(history.trials))
    winner = race["configurations"][0]
    assert winner["trial"] == report["best"]["trial"] == history.ranking()[0][0]
    assert winner["fits"] == 8
    assert winner["mean"] == pytest.approx(statistics.fmean(value for _, _, value in winner["values"]), rel=1e-4)
    fresh = [value for _, seed, value in winner["values"] if seed == 1]
    assert winner["fresh_mean"] == pytest.approx(statistics.fmean(fresh), rel=1e-4)
    assert 0 < winner["error"] < 1
    assert sum(c["probability_best"] for c in race["configurations"]) == pytest.approx(1.0, abs=0.01)
    assert sum(report["endings"].values()) == 12
    assert report["budget"][0] == {"name": "max_trials", "limit": 12, "used": 12}


def test_the_text_and_the_page_say_how_sure_the_winner_is(report: dict[str, Any]) -> None:
    text = report_text(report)
    assert "trials      12:" in text
    assert f"over 8 fits of {report['race']['fits']} in all" in text
    assert "the best of all with a probability of " in text
    assert "on fresh seeds alone" in text
    assert "raceTable(R.race)" in render(report)


def test_a_report_without_folds_says_nothing_of_them(records: list[Record]) -> None:
    plain = parse_sweep(SWEEP, file="sweep.yaml", root=Path(), overrides=["evaluation={folds: 1}"])
    first = [r for r in records[:20] if getattr(r.event, "repeats", None) is None]
    report = build_report(first, plain)
    assert report["race"] is None
    assert "probability" not in report_text(report)


def test_the_progress_counts_configurations_and_says_fits(history: History) -> None:
    shot = snapshot(history, (1, 3), Limits(3, max_trials=12), 60.0)
    assert sum(shot["trials"][str(status)] for status in Status) == 12
    assert shot["fits"] == {"over": len(history.trials), "running": 0}
    assert shot["best"]["trial"] == history.ranking()[0][0]
    assert shot["best"]["fits"] == 8
    said = line({**shot, "state": "running"})
    assert f"{len(history.trials)} fits" in said
    assert " over 8 fits (trial " in said


def test_show_lists_the_configurations_in_the_race(report: dict[str, Any]) -> None:
    drawn = race_table(report["race"], "score", 5)
    assert drawn.row_count == min(5, len(report["race"]["configurations"]))
    assert console().measure(drawn).maximum > 20


def test_a_replay_asks_the_race_again_and_gets_the_same(spec: SweepSpec, records: list[Record]) -> None:
    found = replay(records, build(spec, history_of(spec, ()), {}).decider)
    assert found.difference is None
    assert found.proposals == sum(isinstance(r.event, TrialProposed) for r in records)
