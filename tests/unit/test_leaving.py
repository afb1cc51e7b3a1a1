"""A node that is about to go: its trials save with their next report, its drivers are told, and nobody else is."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest

from service.tuning import leaving
from service.tuning.assignment import Assignment, Report
from service.tuning.reporting import Before, should_checkpoint
from tests.readme import ROOT

TRIAL = """
import sys, time
from service.tuning import leaving
with leaving.unsaved():
    print("trains", flush=True)
    while not leaving.is_leaving():
        time.sleep(0.05)
    time.sleep(0.5)  # the rest of an epoch
    if sys.argv[1] == "saves":
        leaving.saved()
    time.sleep(600)
"""
DRIVER = """
import signal, sys, time
from service.tuning import leaving
signal.signal(signal.SIGTERM, lambda *_: sys.exit(3))
with leaving.driving():
    print("drives", flush=True)
    time.sleep(600)
"""


@pytest.fixture(autouse=True)
def node(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A node's temporary folder of this test's own."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    return tmp_path


def started(code: str, *arguments: str, node: Path) -> subprocess.Popen[str]:
    process = subprocess.Popen(
        [sys.executable, "-c", code, *arguments],
        env={**os.environ, "TMPDIR": str(node), "PYTHONPATH": str(ROOT)}, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert process.stdout is not None
    process.stdout.readline()
    return process


def ended(*processes: subprocess.Popen[str]) -> None:
    for process in processes:
        process.kill()
        process.communicate()


def test_it_waits_until_each_trial_has_saved(node: Path) -> None:
    trial = started(TRIAL, "saves", node=node)
    began = time.monotonic()
    try:
        assert leaving.leave(120)
        assert time.monotonic() - began >= 0.5
        assert trial.poll() is None
    finally:
        ended(trial)


def test_its_time_is_bounded(node: Path) -> None:
    trial = started(TRIAL, "never", node=node)
    try:
        assert not leaving.leave(1.0)
    finally:
        ended(trial)


def test_a_worker_that_was_killed_is_not_waited_for(node: Path) -> None:
    ended(started(TRIAL, "never", node=node))
    assert list(node.glob("tuneyard-node-*/fit-*"))
    assert leaving.leave(5.0)


def test_a_driver_is_told_and_waited_for(node: Path) -> None:
    driver = started(DRIVER, node=node)
    try:
        assert leaving.leave(120)
        assert driver.wait(120) == 3
    finally:
        ended(driver)


def test_a_node_without_work_leaves_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    waits: list[float] = []
    monkeypatch.setattr(time, "sleep", waits.append)
    assert leaving.leave(30)
    assert sum(waits) == 0


def test_a_report_is_saved_while_the_node_is_leaving(tmp_path: Path) -> None:
    assignment = Assignment("s", 0, 1, {}, {}, ("val_loss",), 0, 9, (), str(tmp_path))
    report = Report(3, {"val_loss": 1.0}, 1.0, None, diverged=False)
    assert should_checkpoint(assignment, report, Before(), is_last=False)[0] is False
    leaving.leave(0)
    assert should_checkpoint(assignment, report, Before(), is_last=False) == (True, "this node is about to go")


def test_nothing_is_left_in_the_temporary_folder_not_even_by_processes_that_were_killed(node: Path) -> None:
    killed = started(TRIAL, "saves", node=node)
    ended(killed)
    (folder,) = node.iterdir()
    assert [mark.name for mark in folder.iterdir()] == [f"fit-{killed.pid}"]
    with leaving.driving(), leaving.unsaved():
        assert {mark.name for mark in folder.iterdir()} >= {f"fit-{os.getpid()}", f"driver-{os.getpid()}"}
    assert list(node.iterdir()) == []
