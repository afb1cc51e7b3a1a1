"""MLflow ends up holding exactly what the ledger says, whatever happens on the way: the embedded store."""

from __future__ import annotations

import random
import resource
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

from service.spec.sweep_spec import SweepSpec
from service.tuning.events import (
    AttemptStarted,
    DriverStarted,
    Event,
    Reported,
    SweepEnded,
    SweepPaused,
    SweepStarted,
    TrialEnded,
    TrialProposed,
)
from service.tuning.history import History
from service.tuning.outcome import write_report
from service.tuning.tracking_cursor import read_cursor
from tests.integration.mlflow_peer import active_runs, check_exactly_once, rows
from tests.integration.synthetic_sweep import LR, Synthetic, records, write_ledger
from tests.integration.tracker_peer import (
    PARAMS,
    ledger_of,
    spec_of,
    start_tracker,
    sweep_folder,
    track,
    tracker_command,
    trial_of,
)

PATIENCE_S = 240.0  # MLflow alone takes seconds to import, and the machine may have more to do


def test_a_sweep_arrives_whole_in_the_embedded_store(tmp_path: Path) -> None:
    folder = sweep_folder(tmp_path)
    ledger = records(spec_of(), "s-1", Synthetic())
    write_ledger(folder, ledger)
    (folder / "report").mkdir()
    for name in ("report.html", "importance.json", "importance.svg"):
        (folder / "report" / name).write_text("<p>report</p>")
    assert track(folder, tmp_path) == 0
    check_exactly_once(tmp_path, ledger, "s-1")
    runs = active_runs(tmp_path, "s-1")
    parent, tags = next((run, tags) for run, tags in runs.items() if tags["tuneyard.kind"] == "sweep")
    assert tags["status"] == "FINISHED"
    assert tags["tuneyard.state"] == "completed"
    assert tags["mlflow.source.git.commit"] == "0123456789abcdef"
    best = max(
        (r.event for r in ledger if isinstance(r.event, Reported) and not r.event.diverged),
        key=lambda e: e.metrics["val_acc"],
    )
    assert tags["tuneyard.best_trial"] == str(best.trial)
    stored = [value for (value,) in rows(tmp_path, "SELECT value FROM latest_metrics WHERE run_uuid = ?", parent)]
    assert stored == [best.metrics["val_acc"]]
    names = sorted(p.name for p in (tmp_path / "mlartifacts" / "digits-cnn" / parent / "artifacts").iterdir())
    assert names == ["importance.json", "importance.svg", "report.html", "sweep.yaml"]


def test_the_pareto_front_is_tagged_and_stands_as_a_table_however_often_it_is_delivered(tmp_path: Path) -> None:
    folder, data = sweep_folder(tmp_path), spec_of()
    del data["metric"]
    data["metrics"] = [{"name": "val_acc", "goal": "maximize"}, {"name": "latency_ms", "goal": "minimize"}]
    spec, ledger = SweepSpec.from_dict(data), records(data, "s-1", Synthetic(trials=20, second_objective=True))
    write_ledger(folder, ledger)
    write_report(folder, spec)
    history = History.of(spec.objectives, ledger)
    front = {str(number) for number, _ in history.pareto()}
    for _ in range(2):
        assert track(folder, tmp_path) == 0
        (folder / "tracking.json").unlink()  # as if the cursor had been lost
        runs = active_runs(tmp_path, "s-1")
        tagged = {t["tuneyard.trial"] for t in runs.values() if "tuneyard.trial" in t and "tuneyard.pareto" in t}
        assert tagged == front
    parent, tags = next((run, tags) for run, tags in runs.items() if tags["tuneyard.kind"] == "sweep")
    assert tags["tuneyard.best_trial"] == str(history.ranking()[0][0])
    assert set(tags["tuneyard.pareto"].split(", ")) == front
    table = tmp_path / "mlartifacts" / "digits-cnn" / parent / "artifacts" / "pareto.csv"
    assert len(table.read_text().splitlines()) == 1 + len(front)


def test_parameters_stand_once_as_text_and_conditional_ones_only_where_active(tmp_path: Path) -> None:
    folder = sweep_folder(tmp_path)
    ledger = records(spec_of(), "s-1", Synthetic(trials=8))
    write_ledger(folder, ledger)
    assert track(folder, tmp_path) == 0
    children = {run: t["tuneyard.trial"] for run, t in active_runs(tmp_path, "s-1").items() if "tuneyard.trial" in t}
    stored = Counter(
        (children[str(run)], key) for run, key in rows(tmp_path, "SELECT run_uuid, key FROM params") if run in children
    )
    proposed = [r.event for r in ledger if isinstance(r.event, TrialProposed)]
    assert stored == Counter((str(e.trial), name) for e in proposed for name in e.params)


def test_delivering_twice_changes_nothing(tmp_path: Path) -> None:
    folder = sweep_folder(tmp_path)
    ledger = records(spec_of(), "s-1", Synthetic(trials=10))
    write_ledger(folder, ledger)
    assert track(folder, tmp_path) == 0
    (folder / "tracking.json").unlink()  # as if the cursor had been lost
    assert track(folder, tmp_path) == 0
    check_exactly_once(tmp_path, ledger, "s-1")


def test_a_lost_store_is_filled_again(tmp_path: Path) -> None:
    folder = sweep_folder(tmp_path)
    ledger = records(spec_of(), "s-1", Synthetic(trials=6))
    write_ledger(folder, ledger)
    assert track(folder, tmp_path) == 0
    for file in tmp_path.glob("mlflow.db*"):
        file.unlink()
    assert track(folder, tmp_path) == 0
    check_exactly_once(tmp_path, ledger, "s-1")


def _points(home: Path) -> int:
    """How many points the store has; none while a tracker is about to make it, or was killed then."""
    if not (home / "mlflow.db").exists() or not rows(home, "SELECT 1 FROM sqlite_master WHERE name = 'metrics'"):
        return 0
    return len(rows(home, "SELECT 1 FROM metrics"))


def test_kill_nine_at_any_moment_loses_and_doubles_nothing(tmp_path: Path) -> None:
    rng = random.Random(1)
    folder = sweep_folder(tmp_path)
    ledger = records(spec_of(), "s-1", Synthetic(trials=60))
    write_ledger(folder, ledger[:2])
    kills = 0
    for part in range(1, 8):
        before = _points(tmp_path)
        process = start_tracker(folder, tmp_path)
        write_ledger(folder, ledger[: len(ledger) * part // 8])
        if part <= 3:
            time.sleep(rng.uniform(0.6, 2.8))  # while it imports, makes the store, connects
        else:
            deadline = time.monotonic() + PATIENCE_S
            while _points(tmp_path) == before and time.monotonic() < deadline:
                time.sleep(0.01)
            time.sleep(rng.uniform(0.0, 0.2))  # in the middle of delivering
        process.send_signal(signal.SIGKILL)
        kills += process.wait() == -signal.SIGKILL
    assert kills == 7
    assert _points(tmp_path) > 0
    write_ledger(folder, ledger)
    assert track(folder, tmp_path) == 0
    check_exactly_once(tmp_path, ledger, "s-1")


def test_a_tracker_follows_a_growing_ledger_and_ends_by_itself(tmp_path: Path) -> None:
    folder = sweep_folder(tmp_path)
    ledger = records(spec_of(), "s-1", Synthetic(trials=12))
    process = start_tracker(folder, tmp_path)
    try:
        for end in (5, 60, len(ledger)):
            write_ledger(folder, ledger[:end])
            time.sleep(1.0)
        assert process.wait(PATIENCE_S) == 0
    finally:
        process.kill()
        process.wait()
    check_exactly_once(tmp_path, ledger, "s-1")


def test_a_tracker_ends_when_its_driver_dies(tmp_path: Path) -> None:
    folder = sweep_folder(tmp_path)
    ledger = records(spec_of(), "s-1", Synthetic(trials=4), is_ended=False)
    write_ledger(folder, ledger)
    command = tracker_command(folder, tmp_path)
    driver = f"subprocess.Popen({command!r} + ['--parent-pid', str(os.getpid())]); time.sleep(2)"
    script = f"import os, subprocess, time; {driver}"
    subprocess.run([sys.executable, "-c", script], check=True, timeout=PATIENCE_S)
    deadline = time.monotonic() + PATIENCE_S
    while not read_cursor(folder).is_delivered and time.monotonic() < deadline:
        time.sleep(0.2)
    assert read_cursor(folder).sequence == len(ledger)


def test_pause_and_resume_leave_no_run_running(tmp_path: Path) -> None:
    folder = sweep_folder(tmp_path)
    started = SweepStarted("s-1", spec_of())
    begin: list[Event] = [started, DriverStarted(1, "h", 1), *trial_of(0, 3), *trial_of(1, 2)[:-1]]
    paused = ledger_of([*begin, SweepPaused("Ctrl-C")])
    write_ledger(folder, paused)
    assert track(folder, tmp_path) == 0
    assert Counter(tags["status"] for tags in active_runs(tmp_path, "s-1").values()) == {"SCHEDULED": 2, "FINISHED": 1}
    again: list[Event] = [
        DriverStarted(2, "h", 2),
        AttemptStarted(1, 2, PARAMS, None, "resume"),
        TrialEnded(1, "stopped"),
    ]
    ledger = [*paused, *ledger_of([*(e.event for e in paused), *again, SweepEnded("completed", "")])[len(paused) :]]
    write_ledger(folder, ledger)
    assert track(folder, tmp_path) == 0
    check_exactly_once(tmp_path, ledger, "s-1")


def test_an_exploit_keeps_the_parameters_and_shows_the_change(tmp_path: Path) -> None:
    folder = sweep_folder(tmp_path)
    changed = {**PARAMS, LR: 0.02}
    events = trial_of(0, 2)[:-1]
    events += [
        AttemptStarted(0, 2, changed, None, "exploit"),
        Reported(0, 2, 3, {"val_acc": 0.5}, 3.0, None, "stop", ""),
    ]
    ledger = ledger_of(
        [
            SweepStarted("s-1", spec_of()),
            DriverStarted(1, "h", 1),
            *events,
            TrialEnded(0, "completed"),
            SweepEnded("completed", ""),
        ]
    )
    write_ledger(folder, ledger)
    assert track(folder, tmp_path) == 0
    assert ("0.01",) in rows(tmp_path, "SELECT value FROM params WHERE key = ?", LR)
    assert rows(tmp_path, "SELECT step, value FROM metrics WHERE key = ? ORDER BY step", f"param/{LR}") == [
        (2, 0.01),
        (3, 0.02),
    ]


def test_names_that_mlflow_refuses_arrive_under_others(tmp_path: Path) -> None:
    folder = sweep_folder(tmp_path)
    odd = {"f1[macro]": 0.5, "f1(macro)": 0.25, "../up": 1.0, "x" * 300: 2.0}
    ledger = ledger_of(
        [SweepStarted("s-1", spec_of()), DriverStarted(1, "h", 1), *trial_of(0, 2, **odd), SweepEnded("completed", "")]
    )
    write_ledger(folder, ledger)
    assert track(folder, tmp_path) == 0
    assert read_cursor(folder).refused == 0
    keys = {str(key) for (key,) in rows(tmp_path, "SELECT DISTINCT key FROM metrics WHERE key NOT LIKE '%val_acc'")}
    assert len(keys) == 4
    assert all(len(key) <= 250 for key in keys)


def test_a_run_that_somebody_deleted_stays_deleted_and_stops_nothing(tmp_path: Path) -> None:
    folder = sweep_folder(tmp_path)
    events: list[Event] = [
        SweepStarted("s-1", spec_of()),
        DriverStarted(1, "h", 1),
        *trial_of(0, 3)[:-1],
        *trial_of(1, 3),
    ]
    write_ledger(folder, ledger_of(events))
    assert track(folder, tmp_path) == 0
    victim = next(run for run, t in active_runs(tmp_path, "s-1").items() if t.get("tuneyard.trial") == "0")
    script = f"from mlflow import MlflowClient; MlflowClient('sqlite:///{tmp_path}/mlflow.db').delete_run('{victim}')"
    subprocess.run([sys.executable, "-c", script], check=True, timeout=PATIENCE_S)
    write_ledger(folder, ledger_of([*events, TrialEnded(0, "completed"), SweepEnded("completed", "")]))
    assert track(folder, tmp_path) == 0
    assert sorted(t["tuneyard.kind"] for t in active_runs(tmp_path, "s-1").values()) == ["sweep", "trial"]


def _seconds_of_children() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)  # processor time: what else the machine does is no matter
    return used.ru_utime + used.ru_stime


def test_hundreds_of_trials_arrive_fast_enough(tmp_path: Path) -> None:
    folder = sweep_folder(tmp_path)
    trials = 300  # a part of the size that is promised; `make bench` measures the whole
    events: list[Event] = [SweepStarted("s-1", spec_of()), DriverStarted(1, "h", 1)]
    for number in range(trials):
        events += trial_of(number, 3, val_loss=0.5)
    ledger = ledger_of([*events, SweepEnded("completed", "")])
    write_ledger(folder, ledger)
    before = _seconds_of_children()
    assert track(folder, tmp_path) == 0
    assert trials / (_seconds_of_children() - before) >= 25
    check_exactly_once(tmp_path, ledger, "s-1")
