"""Reports of synthetic sweeps: every number is checked against the ledger, and the page against what would break it."""

from __future__ import annotations

import json
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from xml.etree.ElementTree import fromstring

import pytest

from service.spec.sweep_spec import SweepSpec, parse_sweep
from service.tuning.events import Record, Reported, SweepEnded, SweepPaused, TrialEnded
from service.tuning.insight import KEYS
from service.tuning.insight_svg import importance_svg
from service.tuning.outcome import write_report
from service.tuning.report import build_report, report_text
from service.tuning.report_html import render
from service.tuning.report_trials import MOST_POINTS
from tests.integration.synthetic_sweep import (
    ADAMW,
    LR,
    MOMENTUM,
    NOISE,
    OPTIMIZER,
    RUNGS,
    SGD,
    SWEEP,
    WIDTH,
    Synthetic,
    records,
    write_ledger,
)

TWO_OBJECTIVES = SWEEP.replace(
    "metric: {name: val_acc, goal: maximize}",
    "metrics: [{name: val_acc, goal: maximize}, {name: latency_ms, goal: minimize}]",
)


def _spec(text: str = SWEEP) -> SweepSpec:
    return parse_sweep(text, file="sweep.yaml", root=Path())


def _ledger(spec: SweepSpec, synthetic: Synthetic | None = None) -> list[Record]:
    return records(spec.to_dict(), "digits-cnn-20261122-abc123", synthetic or Synthetic())


@pytest.fixture(scope="module")
def ledger() -> list[Record]:
    return _ledger(_spec())


@pytest.fixture(scope="module")
def report(ledger: list[Record]) -> dict[str, Any]:
    return build_report(ledger, _spec())


def _reports(ledger: list[Record]) -> list[Reported]:
    return [r.event for r in ledger if isinstance(r.event, Reported)]


def test_json_holds_the_whole_report(report: dict[str, Any]) -> None:
    assert json.loads(json.dumps(report, allow_nan=False)) == report


def test_the_best_trial_is_the_best_value_in_the_ledger(report: dict[str, Any], ledger: list[Record]) -> None:
    failed = {r.event.trial for r in ledger if isinstance(r.event, TrialEnded) and r.event.ending == "failed"}
    best = max(
        (e for e in _reports(ledger) if not e.diverged and e.trial not in failed), key=lambda e: e.metrics["val_acc"]
    )
    assert report["best"]["trial"] == best.trial
    assert report["best"]["epoch"] == best.epoch
    assert report["best"]["values"]["val_acc"] == pytest.approx(best.metrics["val_acc"], rel=1e-5)
    assert report["ranking"][0] == best.trial


def test_best_so_far_only_improves_and_ends_at_the_best(report: dict[str, Any]) -> None:
    values = [step["value"] for step in report["best_so_far"]]
    times = [step["at_s"] for step in report["best_so_far"]]
    assert values == sorted(values)
    assert times == sorted(times)
    assert values[-1] == report["best"]["values"]["val_acc"]


def test_rung_survival_counts_trials(report: dict[str, Any]) -> None:
    assert [rung["epoch"] for rung in report["rungs"]] == list(RUNGS)
    reached = [rung["reached"] for rung in report["rungs"]]
    assert reached[0] == sum(t["epochs"] >= 1 for t in report["trials"])
    assert reached == sorted(reached, reverse=True)
    for rung, above in zip(report["rungs"], report["rungs"][1:], strict=False):
        assert rung["reached"] == rung["ended"] + above["reached"]  # the sweep is over: whoever stays ended


def test_endings_and_cost_add_up(report: dict[str, Any], ledger: list[Record]) -> None:
    assert sum(report["endings"].values()) == len(report["trials"]) == 60
    assert report["cost"]["epochs"] == len(_reports(ledger))
    failed = [t for t in report["trials"] if t["ending"] == "failed"]
    assert failed
    assert report["cost"]["epochs_without_stopping"] == (60 - len(failed)) * 27 + sum(t["epochs"] for t in failed)
    assert 0 < report["cost"]["saved_share"] < 1
    assert report["budget"][0] == {"name": "max_trials", "limit": 60, "used": 60}


def test_nothing_is_saved_by_trials_that_fail() -> None:
    spec = _spec()
    ledger = _ledger(spec, Synthetic(trials=2))[:3]
    failed = [*ledger, Record(3, ledger[-1].at, TrialEnded(0, "failed", "ValueError: shapes"))]
    report = build_report(failed, spec)
    assert report["cost"]["saved_share"] == 0
    assert report["failures"][0]["cause"] == "ValueError: shapes"
    assert "best        none" in report_text(report)


def test_a_trial_that_fails_later_sets_no_best() -> None:
    spec = _spec()
    ledger = _ledger(spec, Synthetic(trials=3))[:40]
    best = build_report(ledger, spec)["best"]["trial"]
    ledger.append(Record(40, ledger[-1].at, TrialEnded(best, "failed", "ValueError: late")))
    report = build_report(ledger, spec)
    assert best not in {step["trial"] for step in report["best_so_far"]}
    assert report["best_so_far"][-1]["value"] == report["best"]["values"]["val_acc"]


def test_a_diverged_trial_has_no_sentinel_anywhere(report: dict[str, Any]) -> None:
    diverged = [t for t in report["trials"] if t["ending"] == "diverged"]
    assert diverged
    assert all(t["best"] is None for t in diverged)
    assert all(point[1] is None for t in diverged for point in t["curve"])
    assert "e+30" not in json.dumps(report)


def test_failures_name_their_cause_and_their_trials(report: dict[str, Any]) -> None:
    failed = next(f for f in report["failures"] if f["ending"] == "failed")
    assert failed["cause"] == "ValueError: batch of size 0"
    assert all(report["trials"][n]["ending"] == "failed" for n in failed["trials"])


def test_the_learning_rate_matters_most_and_depends_on_the_optimizer(report: dict[str, Any]) -> None:
    shares = {entry["name"]: entry for entry in report["importance"]}
    assert report["importance"][0]["name"] == LR
    assert shares[LR]["share"] > 3 * max(entry["share"] for name, entry in shares.items() if name != LR)
    assert report["interactions"][0]["names"] == [OPTIMIZER, LR]
    assert shares[NOISE]["total"] < 0.05
    assert shares[MOMENTUM]["trials"] == sum(
        MOMENTUM in t["params"] and t["ending"] != "failed" for t in report["trials"]
    )
    assert report["explained"][0]["share"] > 0.7


def test_effects_stand_on_the_parameters_own_scale(report: dict[str, Any]) -> None:
    curves = {curve["name"]: curve["points"] for curve in report["dependence"]}
    assert [curves[LR][0][0], curves[LR][-1][0]] == [1e-4, 1e-1]
    assert [point[0] for point in curves[OPTIMIZER]] == [SGD, ADAMW]
    for points in curves.values():
        assert all(0 <= low <= mean <= high <= 1 for _, mean, low, high in points)
    surface = report["surfaces"][0]
    optimizers, rates = surface["values"]
    best = {name: rates[row.index(max(row))] for name, row in zip(optimizers, surface["mean"], strict=True)}
    assert best[ADAMW] < best[SGD]  # as the synthetic sweep is made: 10 to the -2.6 and to the -1.5
    assert 1e-3 < best[ADAMW] < 1e-2


def test_early_epochs_are_judged(report: dict[str, Any]) -> None:
    looks = report["early_rungs"]["looks"]
    assert [look["epoch"] for look in looks] == list(RUNGS[:-1])
    assert report["early_rungs"]["winner"] == report["best"]["trial"]
    assert report["early_rungs"]["advice"].startswith("grace_epochs 1 is late enough: ")
    assert f"advice      {report['early_rungs']['advice']}" in report_text(report)


def test_every_objective_has_its_own_importance() -> None:
    spec = _spec(TWO_OBJECTIVES)
    report = build_report(_ledger(spec, Synthetic(second_objective=True)), spec)
    leading = {entry["objective"]: entry["name"] for entry in reversed(report["importance"])}
    assert leading == {"val_acc": LR, "latency_ms": WIDTH}
    assert [entry["objective"] for entry in report["explained"]] == ["val_acc", "latency_ms"]
    picture = importance_svg(report, "digits")
    assert "importance for val_acc" in picture
    assert "importance for latency_ms" in picture


def test_few_trials_are_said_to_be_too_few() -> None:
    spec = _spec()
    report = build_report(_ledger(spec, Synthetic(trials=6)), spec)
    assert all(report[key] == [] for key in KEYS[:-1])
    assert "too few trials" in report["early_rungs"]["no_advice"]
    assert "too few trials to tell" in importance_svg(report, "digits")
    assert "mattered" not in report_text(report)


def test_the_picture_is_whole_and_quotes_names(report: dict[str, Any]) -> None:
    root = fromstring(importance_svg(report, "a <b> & c"))  # noqa: S314  # what we have just drawn
    texts = [node.text or "" for node in root.iter() if node.tag.endswith("text")]
    assert texts[0] == "a <b> & c: importance for val_acc"
    assert {LR, OPTIMIZER, MOMENTUM} <= set(texts)
    assert sum(node.tag.endswith("rect") for node in root.iter()) == 1 + 2 * len(report["importance"])


def test_the_files_of_the_report_hold_what_the_report_says(tmp_path: Path, ledger: list[Record]) -> None:
    write_ledger(tmp_path, ledger)
    names = write_report(tmp_path, _spec())
    assert names == [
        f"report/{n}" for n in ("report.json", "report.html", "importance.json", "importance.svg", "best.yaml")
    ]
    taught = json.loads((tmp_path / "report" / "importance.json").read_text())
    whole = json.loads((tmp_path / "report" / "report.json").read_text())
    assert taught == {key: whole[key] for key in KEYS}


def test_conditional_parameters_keep_their_axis(report: dict[str, Any]) -> None:
    axis = next(p for p in report["parameters"] if p["name"] == MOMENTUM)
    assert axis == {"name": MOMENTUM, "conditional": True, "min": 0.5, "max": 0.99, "log": False}


def test_one_objective_has_no_pareto_front(report: dict[str, Any]) -> None:
    assert report["pareto"] == []


def test_nothing_on_the_pareto_front_is_dominated() -> None:
    spec = _spec(TWO_OBJECTIVES)
    report = build_report(_ledger(spec, Synthetic(second_objective=True)), spec)
    values = {n: report["trials"][n]["best"] for n in report["ranking"]}
    assert len(report["pareto"]) >= 2
    for number in report["pareto"]:
        mine = values[number]
        assert not any(v["val_acc"] > mine["val_acc"] and v["latency_ms"] < mine["latency_ms"] for v in values.values())
    assert f"front       {len(report['pareto'])} trials" in report_text(report)


@pytest.mark.parametrize("count", [1, 2, 3, 40, 200])
def test_any_beginning_of_a_ledger_has_a_report(ledger: list[Record], count: int) -> None:
    report = build_report(ledger[:count], _spec())
    json.dumps(report, allow_nan=False)
    assert report["sweep"]["state"] == "running"
    assert report_text(report).startswith("Sweep digits-cnn-20261122-abc123: running")
    assert "<main" in render(report)


def test_a_paused_sweep_says_why(ledger: list[Record]) -> None:
    paused = [*ledger[:100], Record(100, ledger[99].at, SweepPaused("Ctrl-C"))]
    assert report_text(build_report(paused, _spec())).splitlines()[0].endswith("paused (Ctrl-C)")


def test_an_end_that_is_not_on_record_yet_can_be_given(ledger: list[Record]) -> None:
    report = build_report(ledger[:-1], _spec(), ended=SweepEnded("completed", "target reached"), warnings=["careful"])
    assert report["sweep"]["state"] == "completed"
    assert "target reached" in report_text(report)
    assert "careful" in report_text(report)


def test_the_text_names_the_best_trial_and_its_parameters(report: dict[str, Any]) -> None:
    text = report_text(report)
    assert f"trial {report['best']['trial']}, epoch {report['best']['epoch']}" in text
    for name, value in report["best"]["params"].items():
        assert f"{name} = {value}" in text


def test_large_sweeps_keep_the_page_small() -> None:
    synthetic = Synthetic(trials=3000, workers=32)
    spec = _spec()
    report = build_report(_ledger(spec, synthetic), spec)
    assert sum(len(t["curve"]) for t in report["trials"]) <= MOST_POINTS
    assert all(report["trials"][n]["curve"] for n in report["ranking"][:100])
    assert len(render(report)) < 2_000_000


class _Resources(HTMLParser):
    """Collects everything a page would load."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found += [value or "" for name, value in attrs if name in ("src", "href", "srcset", "action")]
        self.found += [tag] if tag in ("link", "iframe", "object", "embed", "base") else []


def test_the_page_loads_nothing(report: dict[str, Any]) -> None:
    page = render(report)
    parser = _Resources()
    parser.feed(page)
    assert parser.found == []
    assert not re.search(r"@import|url\(|fetch\(|XMLHttpRequest|localStorage|sessionStorage|document\.cookie", page)


def test_user_text_cannot_break_out_of_the_page(ledger: list[Record]) -> None:
    spec = _spec(SWEEP.replace("Synthetic digits sweep.", "</script><script>alert(1)</script> {{data}}"))
    page = render(build_report(ledger, spec), best_yaml="a: '</script><img src=x>'")
    assert "<script>alert(1)" not in page
    assert "<img src=x>" not in page
    assert page.count("</script>") == 2
    data = re.search(r'<script type="application/json" id="report">(.*?)</script>', page, re.DOTALL)
    assert data is not None
    assert json.loads(data[1])["best_yaml"] == "a: '</script><img src=x>'"
