"""A sweep with folds on a real Ray and a real MLflow: every fit on its own fold, in a tree of sweep, trial and fit."""

from __future__ import annotations

import json
import math
import statistics
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest
import yaml

from service.tuning.events import HeldOutEnded, Record, Reported, TrialEnded, TrialProposed
from service.tuning.ledger import read_ledger
from tests.integration.mlflow_peer import active_runs, expected_points, rows, stored_points
from tests.integration.tracker_peer import track

FOLDS = 3
SMALL = (
    "budget.max_trials=3", "scheduler={name: fifo, max_epochs: 1}", "search.name=random", "evaluation.folds=3",
    "evaluation.final_seeds=1", "evaluation.finalists=1", "evaluation.race_level=0.3",
)  # fmt: skip


def run(home: Path) -> Path:
    """Run the recipe, small and with folds; the sweep's folder."""
    command = [sys.executable, "-m", "service.cli", "--data-dir", str(home), "run", "trainables/recipes/digits.yaml"]
    for value in SMALL:
        command += ["--set", value]
    done = subprocess.run([*command, "--json"], capture_output=True, text=True, check=False, timeout=900)
    assert done.returncode == 0, done.stderr
    return next(path for path in (home / "sweeps").iterdir() if path.is_dir())


def proposed(ledger: list[Record]) -> list[TrialProposed]:
    return [r.event for r in ledger if isinstance(r.event, TrialProposed)]


def check_tree(home: Path, ledger: list[Record], sweep_id: str) -> None:
    """One run for the sweep, one for each trial beneath it, one for each fit beneath that; each point exactly once."""
    runs = active_runs(home, sweep_id)
    assert [tags for tags in runs.values() if tags["status"] not in ("FINISHED", "FAILED")] == []
    parent = next(run for run, tags in runs.items() if tags["tuneyard.kind"] == "sweep")
    trials = {int(t["tuneyard.trial"]): run for run, t in runs.items() if t["tuneyard.kind"] == "trial"}
    fits = {run: int(tags["tuneyard.fit"]) for run, tags in runs.items() if tags["tuneyard.kind"] == "fit"}
    events = {e.trial: e for e in proposed(ledger)}
    assert sorted(trials) == [n for n, e in events.items() if e.repeats is None]
    assert sorted(fits.values()) == sorted(events)
    assert len(runs) == 1 + len(trials) + len(fits)
    assert all(runs[run]["mlflow.parentRunId"] == parent for run in trials.values())
    for run, number in fits.items():
        first = events[number].repeats
        assert runs[run]["mlflow.parentRunId"] == trials[number if first is None else first]
    assert Counter(stored_points(home, fits)) == Counter(expected_points(ledger))
    params = Counter(run for (run,) in rows(home, "SELECT run_uuid FROM params"))
    assert all(params[run] == len(events[number].params) for number, run in trials.items())


def check_means(home: Path, ledger: list[Record], sweep_id: str) -> None:
    """The mean and deviation that each trial's run ends with are those of its fits."""
    best: dict[int, float] = {}
    for event in (r.event for r in ledger):
        if isinstance(event, Reported):
            best[event.trial] = max(best.get(event.trial, -math.inf), event.metrics["val_acc"])
    over = {r.event.trial for r in ledger if isinstance(r.event, TrialEnded) and r.event.ending == "completed"}
    for run, tags in active_runs(home, sweep_id).items():
        if tags["tuneyard.kind"] != "trial":
            continue
        trial = int(tags["tuneyard.trial"])
        own = [e.trial for e in proposed(ledger) if trial in (e.trial, e.repeats) and e.trial in over]
        found = rows(home, "SELECT key, value FROM latest_metrics WHERE run_uuid = ?", run)
        stored = {str(key): float(str(value)) for key, value in found}
        values = [best[number] for number in own]
        assert stored["fits"] == len(own)
        assert math.isclose(stored["mean_val_acc"], statistics.fmean(values))
        if len(values) > 1:
            assert math.isclose(stored["std_val_acc"], statistics.stdev(values), abs_tol=1e-12)


def check_held_out(home: Path, folder: Path, winner: int, fits: list[int]) -> None:
    """Each of the winner's fits was tested once; the report and MLflow have the scores and their mean."""
    ended = [r.event for r in read_ledger(folder) if isinstance(r.event, HeldOutEnded)]
    assert sorted(e.trial for e in ended) == sorted(fits)
    scored = {e.trial: e.metrics["test_acc"] for e in ended}
    assert all(0.0 < value <= 1.0 for value in scored.values())
    mean = statistics.fmean(scored.values())
    told = json.loads((folder / "report" / "report.json").read_text())["held_out"]
    assert told["trial"] == winner
    assert math.isclose({s["name"]: s["mean"] for s in told["scores"]}["held_out_acc"], mean, rel_tol=1e-4)
    runs = active_runs(home, folder.name)
    found = rows(home, "SELECT run_uuid, value FROM metrics WHERE key = 'held_out_acc'")
    stored = sorted(
        (runs[str(run)].get("tuneyard.fit", runs[str(run)]["tuneyard.kind"]), float(str(v))) for run, v in found
    )
    wanted = [*((str(n), value) for n, value in scored.items()), ("sweep", mean), ("trial", mean)]
    assert [key for key, _ in stored] == sorted(key for key, _ in wanted)
    assert [v for _, v in stored] == pytest.approx([v for _, v in sorted(wanted)])


def test_every_fit_has_its_fold_and_its_place_in_mlflow(tmp_path: Path) -> None:
    folder = run(tmp_path)
    ledger = read_ledger(folder)
    events = proposed(ledger)
    assert sum(e.repeats is None for e in events) == 3
    winner = json.loads((folder / "report" / "report.json").read_text())["race"]["configurations"][0]
    assert winner["fits"] == 2 * FOLDS  # all folds, then all again with a fresh seed
    assert winner["fresh_mean"] is not None
    for event in events:
        config = yaml.safe_load((folder / "configs" / f"trial-{event.trial}.yaml").read_bytes())
        assert config["data"]["init_args"]["fold"] == event.fold
        assert config["data"]["init_args"]["folds"] == FOLDS
        assert config["seed_everything"] == event.seed_index
    values = {e.trial: r.event.metrics["val_acc"] for e in events for r in ledger
              if isinstance(r.event, Reported) and r.event.trial == e.trial}  # fmt: skip
    own = [values[e.trial] for e in events if winner["trial"] in (e.trial, e.repeats)]
    assert len(set(own)) > 1  # another fold, another value
    assert yaml.safe_load((folder / "report" / "best.yaml").read_text())["data"]["init_args"]["folds"] == FOLDS
    check_tree(tmp_path, ledger, folder.name)
    check_means(tmp_path, ledger, folder.name)
    check_held_out(
        tmp_path, folder, winner["trial"], [e.trial for e in events if winner["trial"] in (e.trial, e.repeats)]
    )
    (folder / "tracking.json").unlink()  # as if nothing were known of what MLflow has
    assert track(folder, tmp_path) == 0
    check_tree(tmp_path, ledger, folder.name)
    check_means(tmp_path, ledger, folder.name)
