"""Trials of an MLflow experiment as a sweep that learns from them reads them: a real store, a real process."""

from __future__ import annotations

from pathlib import Path

import pytest
from mlflow import MlflowClient

from service.errors import SpecError
from service.spec.sweep_spec import parse_sweep
from service.sweeps.past_sweeps import gather
from service.tuning.tracking_server import prepare_store, store_uri

SWEEP = """
name: small
fit: {model: {class_path: net.Net}, trainer: {max_epochs: 9}}
metric: {name: val_loss, goal: minimize}
parameters: {model.init_args.lr: {min: 0.001, max: 1.0}}
search: {name: random, warm_start: "mlflow:EXPERIMENT"}
budget: {max_trials: 3}
"""

# MLflow 3.17 uses a loader that SQLAlchemy 2.1 deprecates; elsewhere it runs in processes of its own.
pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore:(?s).*noload")]


def test_runs_of_lightnings_own_logger_and_of_ours_are_read(tmp_path: Path) -> None:
    prepare_store(tmp_path)
    client = MlflowClient(store_uri(tmp_path))
    experiment = client.create_experiment("digits")
    theirs = client.create_run(experiment).info.run_id
    client.log_param(theirs, "lr", 0.1)
    for step, epoch in ((99, 0), (199, 1)):
        client.log_metric(theirs, "val_loss", 1.0 / step, step=step)
        client.log_metric(theirs, "epoch", epoch, step=step)
    tags = {"tuneyard.sweep_id": "s-1", "tuneyard.kind": "trial"}
    ours = client.create_run(experiment, tags=tags).info.run_id
    client.log_param(ours, "model.init_args.lr", "0.01")
    client.log_metric(ours, "val_loss", 0.5, step=3)
    client.set_terminated(ours, status="FAILED")
    spec = parse_sweep(SWEEP.replace("EXPERIMENT", "digits"), file="s.yaml", root=Path())
    past = {sweep.name: sweep.trials for sweep in gather(tmp_path, spec, "s.yaml").sweeps}
    assert [(t.params, sorted(t.curve)) for t in past["mlflow:digits"]] == [({"model.init_args.lr": 0.1}, [1, 2])]
    assert [(t.params, t.curve[3].is_finite) for t in past["s-1"]] == [({"model.init_args.lr": 0.01}, False)]
    missing = parse_sweep(SWEEP.replace("EXPERIMENT", "digit"), file="s.yaml", root=Path())
    with pytest.raises(SpecError, match=r"no MLflow experiment 'digit'; there are: 'digits'"):
        gather(tmp_path, missing, "s.yaml")
