"""A sweep through the service and Kubernetes whose Ray head dies in the middle: what the ledger holds is not lost."""

from __future__ import annotations

from pathlib import Path

import pytest

from cluster import ray_head
from service.records import State
from service.tuning.events import DriverStarted, TrialEnded
from service.tuning.ledger import read_ledger
from service.tuning.storage_objects import object_storage
from service.tuning.storage_place import Place
from tests.integration.mlflow_peer import check_exactly_once
from tests.integration.test_service import PATIENCE_S, RECIPE, held, wait_for
from tests.kube.place import TEMPLATE, a_place
from tests.object_store import ObjectStore
from tests.served import ROOT, Served
from tests.waiting import until

EPOCHS = 2
SWEEP = [
    "budget.max_trials=4",
    f"scheduler={{name: fifo, max_epochs: {EPOCHS}}}",  # each trial ends before the next one begins
    "search.name=random",
    "budget.max_concurrent_trials=1",
]


@pytest.mark.slow
@pytest.mark.parametrize("storage", ["folder", "objects"])
def test_a_sweep_whose_head_dies_goes_on_and_every_trial_is_in_mlflow_once(
    storage: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> None:
    """The clusters that the player of KubeRay makes are one Ray; a head that dies takes its driver with it."""
    home, gate = tmp_path / "home", tmp_path / "gate"
    options = ["--cluster", "kuberay", "--kube-template", str(TEMPLATE), "--kube-namespace", "test"]
    root: Place = home
    if storage == "objects":
        store: ObjectStore = request.getfixturevalue("s3")
        root = object_storage(f"{store.url}/{tmp_path.name}")
        options += ["--storage", str(root)]
    monkeypatch.setenv("PYTHONPATH", str(ROOT))  # where what holds the trials is
    ray = ray_head.own(tmp_path / "ray", cpus=2)  # of its own: workers need the store's variables, as their pods would
    request.addfinalizer(lambda: ray_head.end(tmp_path / "ray"))
    pods = {"RAY_ADDRESS": ray.address, "RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN_PATH": ray.token_path}
    with a_place(tmp_path, monkeypatch, environment=pods) as place, Served(home, *options) as served:
        with served.client() as client:
            sweep = client.submit(RECIPE, overrides=[*SWEEP, held(gate, free=EPOCHS)]).id
            kept = root / "sweeps" / sweep

            wait_for(client, sweep, State.RUNNING)
            until(lambda: ends(kept) == 1, PATIENCE_S)
            place.operator.lose_head(sweep)
            gate.touch()
            wait_for(client, sweep, State.COMPLETED)
            assert client.cluster().cpus == 2
        assert place.server is not None
        made = place.server.objects.get("rayjobs", "test", sweep)
        assert made["metadata"]["labels"]["tuneyard.dev/attempt"] == "2"
        assert served.stop() == 0
    records = read_ledger(kept)
    assert sum(isinstance(record.event, DriverStarted) for record in records) == 2
    assert ends(kept) == 4
    assert (home / "sweeps").exists() == (storage == "folder")
    check_exactly_once(home, records, sweep)


def ends(kept: Place) -> int:
    """How many trials have ended, by the ledger."""
    try:
        return sum(isinstance(record.event, TrialEnded) for record in read_ledger(kept))
    except FileNotFoundError:
        return 0
