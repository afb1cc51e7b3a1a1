"""Whole commands on real parts: a sweep is run, interrupted, resumed and looked at as a person would."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.waiting import until

PATIENCE_S = 300.0  # for what Ray or a trial has to start for
RECIPE = "trainables/recipes/digits.yaml"
SMALL = ["--set", "budget.max_trials=4", "--set", "scheduler.max_epochs=1", "--set", "search.name=random"]


def tuneyard(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "service.cli", *arguments], capture_output=True, text=True, check=False, timeout=600
    )


def last_object(text: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(text.strip().splitlines()[-1])
    return found


@pytest.fixture
def long_run(home: Path) -> Iterator[subprocess.Popen[str]]:
    """`tuneyard run` on a sweep of more trials than there is time for, with some of them over; killed in the end."""
    command = [sys.executable, "-m", "service.cli", "run", RECIPE, "--no-signatures", "--name", "long"]
    command += ["--set", "budget.max_trials=1000", "--set", "scheduler.max_epochs=3", "--json"]
    with (home / "out").open("w") as out, subprocess.Popen(command, stdout=out, stderr=out, text=True) as process:
        until(lambda: ended_trials(home) >= 2 or process.poll() is not None, PATIENCE_S)
        yield process
        process.kill()
    tuneyard("stop", "long", "--wait", "0")


def ended_trials(home: Path) -> int:
    found = list((home / "sweeps").glob("long-*/progress.json"))
    counts = json.loads(found[0].read_text())["trials"] if found else {}
    return sum(counts.get(ending, 0) for ending in ("completed", "stopped", "diverged", "failed"))


@pytest.mark.usefixtures("home")
def test_a_sweep_runs_and_can_be_looked_at(tmp_path: Path) -> None:
    done = tuneyard("run", RECIPE, "--json", *SMALL)
    assert done.returncode == 0, done.stderr
    events = [json.loads(line) for line in done.stdout.splitlines()]
    assert [event["event"] for event in events[-2:]] == ["progress", "end"]
    end = events[-1]
    assert (end["state"], end["trials"]["completed"], end["metric"]["name"]) == ("completed", 4, "val_acc")
    assert 0 < end["best"]["value"] <= 1

    listed = json.loads(tuneyard("list", "--json").stdout)
    assert [(row["sweep_id"], row["state"], row["trials_ended"]) for row in listed] == [
        (end["sweep_id"], "completed", 4)
    ]

    shown = json.loads(tuneyard("show", "digits", "--json").stdout)
    assert shown["trials"][0]["trial"] == end["best"]["trial"]
    assert shown["trials"][0]["value"] == end["best"]["value"]
    assert sorted(trial["trial"] for trial in shown["trials"]) == [0, 1, 2, 3]
    assert "completed" in tuneyard("show").stdout

    assert Path(tuneyard("report").stdout.strip()) == Path(end["report"])
    assert tuneyard("report", "--output", str(tmp_path / "r.html")).returncode == 0
    assert "<html" in (tmp_path / "r.html").read_text()
    assert "class_path: trainables.vision.conv_net.ConvNet" in tuneyard("best").stdout

    assert tuneyard("sync").returncode == 0
    assert "nothing left to resume" in tuneyard("resume").stderr
    assert "is not running" in tuneyard("stop").stdout

    refused = tuneyard("extend", "digits", "--max-trials", "4")
    assert (refused.returncode, "may try 4 already" in refused.stderr) == (2, True)
    extended = tuneyard("extend", "digits", "--max-trials", "5", "--json")
    assert extended.returncode == 0, extended.stderr
    assert last_object(extended.stdout)["trials"]["completed"] == 5
    assert tuneyard("replay").returncode == 0


def test_ctrl_c_pauses_and_resume_goes_on(long_run: subprocess.Popen[str], home: Path) -> None:
    refused = tuneyard("run", RECIPE, "--no-signatures", "--name", "long")
    assert refused.returncode == 2
    assert "a sweep of this name is running" in refused.stderr
    assert "is running" in tuneyard("resume", "long").stderr

    long_run.send_signal(signal.SIGINT)
    assert long_run.wait(PATIENCE_S) == 130
    output = (home / "out").read_text()
    assert "stopping" in output
    before = last_object(output)
    assert before["state"] == "paused"

    resumed = tuneyard("resume", "long", "--detach")
    assert resumed.returncode == 0
    over = before["trials"]["completed"] + before["trials"]["stopped"]
    until(lambda: ended_trials(home) > over, PATIENCE_S)
    assert tuneyard("stop", "long").returncode == 0
    shown = json.loads(tuneyard("show", "long", "--json").stdout)
    numbers = [trial["trial"] for trial in shown["trials"]]
    assert sorted(numbers) == list(range(len(numbers)))
    assert shown["state"] == "paused"


def test_a_second_ctrl_c_quits_and_the_sweep_can_still_be_resumed(long_run: subprocess.Popen[str], home: Path) -> None:
    long_run.send_signal(signal.SIGINT)
    until(lambda: "stopping" in (home / "out").read_text(), PATIENCE_S)
    began = time.monotonic()
    long_run.send_signal(signal.SIGINT)
    assert long_run.wait(PATIENCE_S) == 130
    assert time.monotonic() - began < 15
    assert last_object((home / "out").read_text())["state"] in ("interrupted", "paused")
    progress = json.loads(next((home / "sweeps").glob("long-*/progress.json")).read_text())
    until(lambda: not Path(f"/proc/{progress['pid']}").exists(), PATIENCE_S)


def test_a_driver_that_is_killed_is_followed_by_another(long_run: subprocess.Popen[str], home: Path) -> None:
    path = next((home / "sweeps").glob("long-*/progress.json"))
    first, over = json.loads(path.read_text())["pid"], ended_trials(home)
    os.kill(first, signal.SIGKILL)
    until(lambda: json.loads(path.read_text())["pid"] != first and ended_trials(home) > over, PATIENCE_S)
    until(lambda: json.loads(tuneyard("list", "--json").stdout)[0]["state"] == "running", PATIENCE_S)
    assert long_run.poll() is None
    assert tuneyard("stop", "long").returncode == 0
    assert long_run.wait(PATIENCE_S) != 0
    assert last_object((home / "out").read_text())["state"] == "paused"


def test_faulty_parameter_paths_are_refused_before_anything_is_made(home: Path) -> None:
    done = tuneyard("run", RECIPE, "--set", "parameters.model.init_args.widht={values: [8, 16]}")
    assert done.returncode == 2
    assert "did you mean 'width'?" in done.stderr
    assert not list((home / "sweeps").glob("*/sweep.json"))


def test_the_doctor_finds_this_machine_fit(home: Path) -> None:
    done = tuneyard("doctor", "--json")
    findings = {finding["subject"]: finding for finding in json.loads(done.stdout)}
    assert done.returncode == 0, done.stdout
    assert "CPUs" in findings["Ray"]["text"]
    assert str(home) in findings["data"]["text"]
