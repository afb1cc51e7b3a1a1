"""A sweep on a cluster that grows with what waits and shrinks when it is done: 0, 4, 0 nodes, one of them lost."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import httpx2
import pytest

from cluster import ray_head
from cluster.backend import PlaceLostError
from service.tuning.control import Control, write_control
from service.tuning.events import AttemptEnded, AttemptStarted, Reported, TrialEnded
from service.tuning.ledger import read_ledger
from tests.integration.growing import growing, kill_a_node
from tests.integration.mlflow_peer import check_exactly_once
from tests.integration.runners import GATE
from tests.integration.test_driver import PATIENCE_S, ROOT, RUNNERS, SWEEP, of, prepare, wait_for

MOST, TRIALS = 4, 12
BUDGET = "max_trials: 6, max_concurrent_trials: 2", f"max_trials: {TRIALS}"


@contextmanager
def watching(head: ray_head.RayHead) -> Iterator[list[int]]:
    """How many nodes with a CPU there were, one look after the other; only what differs from the look before."""
    seen, stop, backend = [0], threading.Event(), head.backend()

    def look() -> None:
        while not stop.wait(0.3):
            with suppress(PlaceLostError):
                count = sum(node.cpus > 0 for node in backend.capacity().of_nodes)
                if count != seen[-1]:
                    seen.append(count)

    thread = threading.Thread(target=look, daemon=True)
    thread.start()
    try:
        yield seen
    finally:
        stop.set()
        thread.join()


def listed(head: ray_head.RayHead, kind: str) -> list[dict[str, Any]]:
    """All things of a kind that Ray knows, also those that are gone."""
    headers = {"Authorization": f"Bearer {Path(head.token_path).read_text()}"}
    url = f"{head.url}/api/v0/{kind}?detail=1&limit=1000"
    answer = httpx2.get(url, headers=headers, timeout=PATIENCE_S).json()
    return list(answer["data"]["result"]["result"])


def nodes(head: ray_head.RayHead, state: str) -> int:
    """How many nodes beside the head are in that state, `ALIVE` or `DEAD`."""
    return sum(node["state"] == state and not node["is_head_node"] for node in listed(head, "nodes"))


def asked_for(head: ray_head.RayHead) -> list[dict[str, float]]:
    """What each placement group that there is asks for."""
    groups = [group for group in listed(head, "placement_groups") if group["state"] != "REMOVED"]
    return [dict(bundle["unit_resources"]) for group in groups for bundle in group["bundles"]]


def training(folder: Path) -> int:
    """How many trials train and have reported an epoch."""
    ended = {(event.trial, event.attempt) for event in of(folder, AttemptEnded)}
    return len({(event.trial, event.attempt) for event in of(folder, Reported)} - ended)


@pytest.mark.slow
def test_nodes_come_for_trials_and_go_when_all_is_done(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    home, gate = tmp_path / "home", tmp_path / "gate"
    folder = prepare(home, runner="runners:held", text=SWEEP.replace(*BUDGET))
    write_control(folder, Control(max_concurrent_trials=MOST))
    monkeypatch.setenv("PYTHONPATH", f"{ROOT}:{RUNNERS}")  # as an image has it on every node
    monkeypatch.setenv(GATE, str(gate))
    with growing(MOST, monkeypatch) as head, watching(head) as seen:
        environment = {
            **os.environ,
            "RAY_AUTH_MODE": "token",
            "RAY_AUTH_TOKEN_PATH": head.token_path,
            "TUNEYARD_CLUSTER_GROWS": "1",
        }
        command = (sys.executable, "-m", "service.tuning.driver", str(folder), "--home", str(home))
        with subprocess.Popen([*command, "--ray-address", head.address], env=environment) as driver:
            wait_for(lambda: len(asked_for(head)) == MOST)
            assert asked_for(head) == [{"CPU": 1.0}] * MOST  # no more than may run, and no more each than it needs
            wait_for(lambda: seen[-1] == MOST)
            wait_for(lambda: training(folder) == MOST)  # so that whichever node dies takes a trial with it
            kill_a_node(head)
            wait_for(lambda: "infrastructure" in {event.kind for event in of(folder, AttemptEnded)})
            wait_for(lambda: nodes(head, "DEAD") > 0 and nodes(head, "ALIVE") == MOST)  # however soon another came
            wait_for(lambda: len(of(folder, AttemptStarted)) == MOST + 1)  # the lost trial goes on
            write_control(folder, Control(max_concurrent_trials=2))  # as a controller does that sees fewer nodes
            gate.touch()
            wait_for(lambda: len(asked_for(head)) <= 2)
            assert driver.wait(PATIENCE_S) == 0
        wait_for(lambda: seen[-1] == 0)
    assert (seen[0], max(seen), seen[-1]) == (0, MOST, 0)
    assert [event.ending for event in of(folder, TrialEnded)] == ["completed"] * TRIALS
    check_exactly_once(home, read_ledger(folder), folder.name)
