"""Several objectives through a whole sweep: who goes on, which epoch counts, and one best that everybody names."""

from __future__ import annotations

import csv
import io
import math
from pathlib import Path
from typing import Any

import pytest

from service.spec.objective import Objective, Objectives
from service.spec.space import Params
from service.spec.sweep_spec import SweepSpec, parse_sweep
from service.tuning.events import Record, SweepEnded
from service.tuning.history import History, Status
from service.tuning.limits import Limits
from service.tuning.outcome import best_config, pareto_csv
from service.tuning.progress import snapshot
from service.tuning.report import build_report, report_text
from service.tuning.report_html import render
from service.tuning.tracking_outbox import Outbox
from service.views.progress import line, outlook
from tests.integration.synthetic_sweep import SWEEP, Synthetic, records
from tests.scheduling import built, shuffled, simulated
from tests.simulator import Curves, Simulation

TWO = Objectives((Objective("loss"), Objective("size")))
TEXT = SWEEP.replace(
    "metric: {name: val_acc, goal: maximize}",
    "metrics: [{name: val_acc, goal: maximize}, {name: latency_ms, goal: minimize}]",
)


def trade_off(params: Params, epoch: int) -> dict[str, float]:
    """Below q = 0.6 a front, along which loss pays for size; above it nothing is gained by either."""
    q = min(params["q"], 0.6)
    behind = max(0.0, params["q"] - 0.6)
    return {"loss": q + behind + math.exp(-epoch / 3), "size": 0.6 - q + behind}


def swept(name: str, options: dict[str, Any], objectives: Objectives = TWO, workers: int = 4) -> Simulation:
    scheduler = built(name, options, objectives)
    simulation = simulated(scheduler, shuffled(45), objectives=objectives, task=Curves(trade_off), workers=workers)
    simulation.run()
    return simulation


@pytest.mark.parametrize(
    ("name", "options"),
    [("asha", {}), ("asha", {"variant": "promotion"}), ("asha", {"brackets": 2}), ("hyperband", {})],
)
def test_who_goes_on_is_not_dominated_and_spread_over_the_front(name: str, options: dict[str, Any]) -> None:
    history = swept(name, options).history
    whole = [t.params["q"] for t in history.trials if t.status is Status.COMPLETED]
    assert sum(q > 0.6 for q in whole) <= 1, "only the first to come was ever unrivalled"
    on_front = [q for q in whole if q <= 0.6]
    if len(on_front) >= 3:
        assert max(on_front) - min(on_front) > 0.3
    halfway = [t.params["q"] for t in history.trials if t.epoch >= 9 and t.params["q"] <= 0.6]
    assert max(halfway) - min(halfway) > 0.3


@pytest.mark.parametrize(("reference", "low", "high"), [(0.1, 0.45, 0.6), (0.5, 0.0, 0.25)])
def test_the_compromise_that_is_wished_for_is_trained_to_the_end(reference: float, low: float, high: float) -> None:
    wished = Objectives((Objective("loss"), Objective("size", weight=0.01, reference=reference)))
    for options in ({}, {"variant": "promotion"}):
        history = swept("asha", options, wished).history
        best, epoch = history.ranking()[0]
        assert low <= history.trials[best].params["q"] <= high
        assert epoch > 9


def test_the_median_rule_stops_nothing_that_no_other_dominates() -> None:
    history = swept("median", {}).history
    stopped = [t.params["q"] for t in history.trials if t.status is Status.STOPPED]
    assert stopped
    assert min(stopped) > 0.6


def test_a_population_gives_up_no_trade_off() -> None:
    def exploits(simulation: Simulation) -> int:
        return sum("goes on from" in getattr(r.event, "reason", "") for r in simulation.records)

    assert exploits(swept("pbt", {"interval_epochs": 9})), "what is dominated gives up"
    scheduler, front = built("pbt", {"interval_epochs": 9}, TWO), [i / 80 for i in range(40)]
    simulation = simulated(scheduler, front, objectives=TWO, task=Curves(trade_off))
    simulation.run()
    assert not exploits(simulation), "nobody on the front does"


def observed(objectives: Objectives, *reports: tuple[float, float]) -> int:
    """The epoch that counts of a trial with these reports."""
    simulation = simulated(built("fifo", {}, objectives), [0.5], objectives=objectives)
    simulation._start_idle()
    for epoch, (loss, size) in enumerate(reports, 1):
        simulation.history.observe(0, epoch, {"loss": loss, "size": size}, 1.0)
    return simulation.history.trials[0].best_epoch


def test_the_epoch_that_counts_is_no_victim_of_noise() -> None:
    assert observed(TWO, (2.3, 9.9), (0.5, 10.1), (0.09, 10.0), (0.2, 9.95)) == 3
    assert observed(TWO, (1.0, 1.0), (0.5, 2.0), (0.4, 3.0)) == 2, "a real trade-off has a middle"
    cheap = Objectives((Objective("loss"), Objective("size", reference=1.5)))
    assert observed(cheap, (1.0, 1.0), (0.5, 2.0), (0.4, 3.0)) == 1


def spec_of(text: str = TEXT) -> SweepSpec:
    return parse_sweep(text, file="sweep.yaml", root=Path())


def ledger_of(spec: SweepSpec) -> list[Record]:
    return records(spec.to_dict(), "digits-cnn-20261122-abc123", Synthetic(second_objective=True))


@pytest.mark.parametrize("wish", ["", ", weight: 9", ", reference: 3"])
def test_everybody_names_the_same_best_and_the_same_front(wish: str) -> None:
    spec = spec_of(TEXT.replace("name: latency_ms, goal: minimize", f"name: latency_ms, goal: minimize{wish}"))
    ledger = ledger_of(spec)
    history, outbox = History.of(spec.objectives, ledger), Outbox()
    for record in ledger:
        outbox.apply(record)
    best, front = history.ranking()[0], history.pareto()
    assert len(front) >= 3
    assert best == front[0] == outbox.crown.best
    assert dict(history.ranking()[: len(front)]) == dict(front), "the front comes before what it dominates"
    assert outbox.due[None].tags["tuneyard.pareto"] == ", ".join(str(n) for n in sorted(dict(front)))
    tagged = {key for key, delivery in outbox.due.items() if delivery.tags.get("tuneyard.pareto") == "true"}
    assert tagged == set(dict(front))
    report = build_report(ledger, spec)
    assert (report["best"]["trial"], report["best"]["epoch"]) == best
    assert report["pareto"] == sorted(n for n, _ in front)
    shot = snapshot(history, (1, 3, 9, 27), Limits(27), 1.0)
    assert (shot["best"]["trial"], shot["best"]["front"]) == (best[0], len(front))
    assert f"trial {best[0]}" in (best_config(history, spec, Path("nowhere")) or "")
    table = list(csv.DictReader(io.StringIO(pareto_csv(history) or "")))
    assert [(int(row["trial"]), int(row["epoch"])) for row in table] == front
    assert "the compromise" in report_text(report)
    assert f"the compromise of {len(front)} on the front" in line({**shot, "state": "running"})


def test_wishes_move_the_best_of_a_sweep() -> None:
    def latency(weight: float) -> float:
        spec = spec_of(TEXT.replace("latency_ms, goal: minimize", f"latency_ms, goal: minimize, weight: {weight}"))
        history = History.of(spec.objectives, ledger_of(spec))
        number, epoch = history.ranking()[0]
        return history.trials[number].metrics[epoch]["latency_ms"]

    assert latency(9.0) < latency(0.1)


def test_the_report_draws_the_front_its_compromise_and_the_hypervolume() -> None:
    spec = spec_of()
    report = build_report(ledger_of(spec), spec)
    values = [step["value"] for step in report["hypervolume"]]
    assert values == sorted(values)
    assert 0 < values[0] < values[-1] <= 1
    assert report["wishes"] == [
        {"name": "val_acc", "weight": 1.0, "reference": None},
        {"name": "latency_ms", "weight": 1.0, "reference": None},
    ]
    page = render(report)
    assert "drawHypervolume" in page
    assert '"data-mark": "compromise"' in page
    single = spec_of(SWEEP)
    plain = build_report(records(single.to_dict(), "s-1", Synthetic(trials=10)), single)
    assert plain["hypervolume"] == plain["wishes"] == []
    assert pareto_csv(History.of(single.objectives, ledger_of(single))) is None


def test_report_and_progress_say_what_the_next_trial_is_worth_and_how_far_the_rules_are() -> None:
    budget = "budget: {max_trials: 60, plateau: {trials: 30}, min_expected_improvement: 0.01, total_epochs: 5000"
    spec = spec_of(SWEEP.replace("budget: {max_trials: 60", budget))
    ledger = records(spec.to_dict(), "s-1", Synthetic())
    report = build_report(ledger, spec)
    gain = report["outlook"]["expected_improvement"]
    assert 0 < gain < 0.05
    assert report["outlook"] == {"expected_improvement": gain, "unit": "val_acc", "threshold": 0.01}
    assert "expected to improve the best val_acc by" in report_text(report)
    used = {entry["name"]: (entry["used"], entry["limit"]) for entry in report["budget"]}
    assert used["total_epochs"] == (report["cost"]["epochs"], 5000)
    flat, trials = used["plateau.trials"]
    assert trials == 30
    history = History.of(spec.objectives, ledger)
    later = history.endings[history.endings.index(report["best"]["trial"]) + 1 :]
    assert flat == min(30, sum(history.trials[n].status is not Status.FAILED for n in later))
    shot = snapshot(history, (1, 27), Limits(27, min_expected_improvement=0.01), 1.0, gain)
    assert outlook(shot) == f"the next trial is expected to gain {gain:.2g} (val_acc); the sweep ends below 0.01"
    assert outlook(snapshot(history, (1, 27), Limits(27), 1.0)) is None


def test_an_end_that_comes_again_changes_no_delivery() -> None:
    spec = spec_of()
    ledger = ledger_of(spec)
    assert isinstance(ledger[-1].event, SweepEnded)
    once, twice = Outbox(), Outbox()
    for record in ledger:
        once.apply(record)
    for record in ledger[:-1]:
        twice.apply(record)
    twice.forget()  # all of this has been delivered
    twice.apply(ledger[-1])
    for key, delivery in twice.due.items():
        assert delivery.tags.items() <= once.due[key].tags.items()
