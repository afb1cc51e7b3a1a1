"""The whole service on a Ray of its own: sweeps of several people go through it, and outlive it."""

from __future__ import annotations

import json
import signal
import sqlite3
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from urllib.request import urlopen

import pytest

from cluster import ray_head
from service.api.models import Sweep
from service.client import Client
from service.records import Role, State
from tests.ports import free_port
from tests.served import Served

RECIPE = "trainables/recipes/digits.yaml"
SMALL = ["budget.max_trials=2", "scheduler.max_epochs=1", "search.name=random", "budget.max_concurrent_trials=1"]
CANARY = "c4n4ry-in-the-environment"
PATIENCE_S = 600.0  # for a whole sweep on a machine that has more to do


def held(gate: Path, *, free: int = 0) -> str:
    """What has a sweep's trials wait, but for so many epochs, until there is a file at `gate`."""
    arguments = f"{{path: {gate}, wait_s: {PATIENCE_S}, free: {free}}}"
    return f"fit.trainer.callbacks=[{{class_path: tests.integration.toy_models.SlowUntil, init_args: {arguments}}}]"


@pytest.fixture
def served(tmp_path: Path) -> Iterator[Served]:
    home = tmp_path / "home"
    secret = {"AWS_SECRET_ACCESS_KEY": CANARY}
    pages = ("--mlflow", "start", "--mlflow-port", str(free_port()))
    with Served(home, "--cluster", "local", "--auth", "token", *pages, environment=secret) as found:
        yield found
    ray_head.end(home / "ray")


@pytest.mark.slow
def test_two_people_submit_and_all_of_it_finishes_although_the_service_is_killed(
    served: Served, tmp_path: Path
) -> None:
    gate = tmp_path / "gate"
    with served.client(served.token()) as admin:
        tokens = {
            user: admin.access.create_token("laptop", user=user, roles={"default": Role.SUBMITTER}).token
            for user in ("ada", "bob")
        }
    sweeps = {}
    for user, token in tokens.items():
        with served.client(token) as client:
            sweeps[user] = client.submit(RECIPE, overrides=[*SMALL, held(gate), f"name={user}"]).id
    with served.client(tokens["ada"]) as client:
        wait_for(client, sweeps["ada"], State.RUNNING)
    served.stop(signal.SIGKILL)
    gate.touch()
    served.start()
    with served.client(tokens["ada"]) as client:
        for sweep in sweeps.values():
            assert wait_for(client, sweep, State.COMPLETED).trial_hours > 0
        assert_is_shown_in_mlflow(client.sweep(sweeps["bob"]))
        kinds = [event.kind for event in client.events(sweeps["ada"]).items]
    assert [kinds[0], kinds[-1]] == ["submitted", "finished"]
    assert "improved" in kinds
    assert runs_in_mlflow(served.home) == {"ada": 3, "bob": 3}  # the sweep and two trials each, all of them finished
    assert served.stop() == 0
    assert ray_head.read(served.home / "ray") is None  # nothing ran on it any more
    for token in tokens.values():
        assert token.rsplit("_", 1)[1] not in served.log
    assert CANARY not in served.log


def assert_is_shown_in_mlflow(sweep: Sweep) -> None:
    """MLflow's pages, which were killed with the service and came back with it, have the run that is linked to."""
    assert sweep.mlflow_url is not None
    server, _, run = sweep.mlflow_url.partition("/#/experiments/")
    experiment, _, run_id = run.partition("/runs/")
    assert run_id, sweep.progress
    deadline = time.monotonic() + PATIENCE_S
    while True:
        try:
            with urlopen(f"{server}/api/2.0/mlflow/runs/get?run_id={run_id}", timeout=PATIENCE_S) as answer:  # noqa: S310  # our own
                found = json.load(answer)["run"]
            break
        except OSError:
            assert time.monotonic() < deadline, "MLflow's pages do not come up"
            time.sleep(0.5)
    assert found["info"]["experiment_id"] == experiment
    assert sweep.id in str(found["data"]["tags"])


def runs_in_mlflow(home: Path) -> dict[str, int]:
    """How many finished runs each sweep has, by the name of its experiment."""
    query = "SELECT e.name FROM runs r JOIN experiments e USING (experiment_id) WHERE r.status = 'FINISHED'"
    with closing(sqlite3.connect(home / "mlflow.db")) as database:
        return dict(Counter(name for (name,) in database.execute(query)))


def wait_for(client: Client, sweep_id: str, state: State, timeout_s: float = PATIENCE_S) -> Sweep:
    deadline = time.monotonic() + timeout_s
    while True:
        found = client.sweep(sweep_id)
        if found.state is state:
            return found
        assert not found.state.is_over, f"{found.state}: {found.reason}"
        assert time.monotonic() < deadline, f"{found.state}: {found.reason}"
        time.sleep(0.3)


@pytest.mark.slow
def test_a_ray_that_is_lost_comes_again_and_its_sweep_goes_on(tmp_path: Path) -> None:
    home, gate = tmp_path / "home", tmp_path / "gate"
    try:
        with Served(home, "--cluster", "local") as served, served.client() as client:
            sweep = client.submit(RECIPE, overrides=[*SMALL, held(gate), "budget.max_trials=4"]).id
            wait_for(client, sweep, State.RUNNING)
            first = ray_head.read(home / "ray")
            assert first is not None
            ray_head.end(home / "ray")
            gate.touch()
            found = wait_for(client, sweep, State.COMPLETED)
            second = ray_head.read(home / "ray")
            assert second is not None
            assert (second.pid, found.attempt) != (first.pid, 1)
            assert found.progress["trials"]["completed"] == 4
    finally:
        ray_head.end(home / "ray")
