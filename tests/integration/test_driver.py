"""The driver on a real Ray with a real MLflow store: it runs, pauses, resumes; `test_chaos.py` kills its processes."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from service.spec.sweep_spec import parse_sweep
from service.tuning.control import Control, write_control
from service.tuning.events import (
    AttemptEnded,
    HeldOutEnded,
    HeldOutStarted,
    Reported,
    SweepEnded,
    SweepPaused,
    TrialEnded,
)
from service.tuning.history import History
from service.tuning.ledger import read_ledger
from service.tuning.sweep_folder import DRAIN_FILE, Job, write_job
from tests.integration.mlflow_peer import active_runs, rows
from tests.integration.runners import GATE

RUNNERS = Path(__file__).parent
ROOT = RUNNERS.parent.parent
PATIENCE_S = 300.0  # a driver starts a Ray of its own, and the machine may have more to do
SWEEP = """
name: slow
fit: {trainer: {max_epochs: 4}}
metric: {name: loss, goal: minimize}
parameters: {model.x: {min: 0.0, max: 1.0}}
search: {name: random, start_from_defaults: false}
scheduler: {name: fifo}
budget: {max_trials: 6, max_concurrent_trials: 2}
"""


def prepare(home: Path, runner: str = "runners:deterministic", text: str = SWEEP) -> Path:
    home.mkdir(exist_ok=True)
    spec = parse_sweep(text, file="sweep.yaml", root=home)
    folder = home / "sweeps" / f"{spec.name}-20261122-abcdef"
    folder.mkdir(parents=True)
    write_job(folder, Job(folder.name, spec.to_dict(), runner=runner))
    return folder


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[[Path], subprocess.Popen[bytes]]]:
    """Starts drivers; at the end nothing of them is left."""
    started: list[subprocess.Popen[bytes]] = []

    def begin(folder: Path) -> subprocess.Popen[bytes]:
        environment = {**os.environ, "PYTHONPATH": f"{ROOT}{os.pathsep}{RUNNERS}"}
        command = [sys.executable, "-m", "service.tuning.driver", str(folder), "--home", str(tmp_path)]
        started.append(subprocess.Popen(command, env=environment, stderr=subprocess.PIPE))
        return started[-1]

    yield begin
    for process in started:
        if process.poll() is None:
            process.kill()
        process.wait()
        if process.stderr is not None:
            process.stderr.close()


@pytest.fixture
def gate(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The file that trainings which are held wait for."""
    path = tmp_path / "gate"
    monkeypatch.setenv(GATE, str(path))
    return path


def wait_for(condition: Callable[[], bool], seconds: float = PATIENCE_S) -> None:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if condition():
            return
        time.sleep(0.05)
    pytest.fail(f"not true within {seconds} s: {condition}")


def of(folder: Path, *kinds: type) -> list[Any]:
    return [r.event for r in read_ledger(folder) if isinstance(r.event, kinds)]


def reported(folder: Path) -> list[tuple[int, int, float]]:
    return sorted((r.trial, r.epoch, r.metrics["loss"]) for r in of(folder, Reported))


def test_a_sweep_runs_to_its_end_and_everything_is_on_record(
    tmp_path: Path, start: Callable[[Path], subprocess.Popen[bytes]]
) -> None:
    folder = prepare(tmp_path)
    assert start(folder).wait(PATIENCE_S) == 0
    assert [e.ending for e in of(folder, TrialEnded)] == ["completed"] * 6
    assert len(reported(folder)) == 24
    assert of(folder, SweepEnded) == [SweepEnded("completed", "all 6 trials are done")]
    progress = json.loads((folder / "progress.json").read_bytes())
    assert progress["state"] == "completed"
    assert progress["tracking"]["delivered"] is True
    assert progress["best"]["value"] == min(loss for _, _, loss in reported(folder))
    assert (folder / "report" / "report.html").stat().st_size > 10_000
    assert start(folder).wait(PATIENCE_S) == 0
    assert len(of(folder, SweepEnded)) == 1


def test_a_sweep_that_is_to_pause_before_its_first_worker_is_asked_for_does_so(
    tmp_path: Path, start: Callable[[Path], subprocess.Popen[bytes]]
) -> None:
    folder = prepare(tmp_path)
    write_control(folder, Control(pause=True))
    assert start(folder).wait(PATIENCE_S) == 3
    assert json.loads((folder / "progress.json").read_bytes())["state"] == "paused"
    assert list(read_ledger(folder)) == []
    write_control(folder, Control())
    assert start(folder).wait(PATIENCE_S) == 0
    assert [e.ending for e in of(folder, TrialEnded)] == ["completed"] * 6


@pytest.mark.parametrize("asked", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_pauses_and_a_second_driver_finishes(
    tmp_path: Path, start: Callable[[Path], subprocess.Popen[bytes]], gate: Path, asked: signal.Signals
) -> None:
    folder = prepare(tmp_path, "runners:held")
    driver = start(folder)
    wait_for(lambda: len(of(folder, Reported)) == 2)  # both that may run at once wait now
    driver.send_signal(asked)
    wait_for((folder / DRAIN_FILE).exists)
    gate.touch()
    assert driver.wait(PATIENCE_S) == 3
    assert of(folder, SweepPaused) == [SweepPaused(f"received {asked.name}")]
    before = reported(folder)
    assert len(before) < 24
    assert start(folder).wait(PATIENCE_S) == 0
    after = reported(folder)
    assert len(after) == 24
    assert set(before) <= set(after)


def test_a_second_driver_leaves_without_writing(
    tmp_path: Path, start: Callable[[Path], subprocess.Popen[bytes]], gate: Path
) -> None:
    folder = prepare(tmp_path, "runners:held")
    first = start(folder)
    wait_for((folder / "ledger").exists)
    second = start(folder)
    assert second.wait(PATIENCE_S) == 4
    assert second.stderr is not None
    assert b"another driver" in second.stderr.read()
    gate.touch()
    assert first.wait(PATIENCE_S) == 0
    assert len(reported(folder)) == 24


def test_a_driver_killed_while_it_tests_the_winner_is_followed_by_one_that_tests_it_once(
    tmp_path: Path, start: Callable[[Path], subprocess.Popen[bytes]], gate: Path
) -> None:
    folder = prepare(
        tmp_path, "runners:tested", SWEEP.replace("max_trials: 6", "max_trials: 2") + "evaluation: {test: true}\n"
    )
    driver = start(folder)
    wait_for(lambda: len(of(folder, HeldOutStarted)) > 0)
    driver.kill()
    assert driver.wait(PATIENCE_S) == -signal.SIGKILL
    gate.touch()
    assert start(folder).wait(PATIENCE_S) == 0
    ended = of(folder, HeldOutEnded)
    assert [e.kind for e in ended] == ["interrupted", "finished"]
    history = History.of(parse_sweep(SWEEP, file="sweep.yaml", root=tmp_path).objectives, read_ledger(folder))
    best = history.ranking()[0][0]
    assert {e.trial for e in ended} == {best}
    assert ended[-1].metrics == {"test_loss": history.trials[best].params["model.x"]}
    runs = active_runs(tmp_path, folder.name)
    found = rows(tmp_path, "SELECT run_uuid, value FROM metrics WHERE key = 'held_out_loss'")
    assert sorted(runs[str(run)]["tuneyard.kind"] for run, _ in found) == ["sweep", "trial"]
    assert {value for _, value in found} == {ended[-1].metrics["test_loss"]}


def test_user_errors_become_causes(tmp_path: Path, start: Callable[[Path], subprocess.Popen[bytes]]) -> None:
    folder = prepare(tmp_path, "runners:breaking", SWEEP + "failure: {max_restarts: 1}\n")
    assert start(folder).wait(PATIENCE_S) == 1
    ended = of(folder, SweepEnded)[0]
    assert ended.ending == "failed"
    assert "ValueError: width must be even" in ended.reason
    assert len(of(folder, TrialEnded)) < 6


def test_a_hung_trial_and_one_that_leaves_its_process_are_tried_again(
    tmp_path: Path, start: Callable[[Path], subprocess.Popen[bytes]]
) -> None:
    folder = prepare(tmp_path, "runners:troubled", SWEEP + "failure: {report_timeout: 10s}\n")
    assert start(folder).wait(PATIENCE_S) == 0
    kinds = {e.trial: e.kind for e in of(folder, AttemptEnded) if e.kind != "finished"}
    assert kinds == {0: "hung", 1: "infrastructure"}
    assert len(reported(folder)) == 24
    assert {e.ending for e in of(folder, TrialEnded)} == {"completed"}
