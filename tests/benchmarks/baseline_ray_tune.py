"""The digits recipe in plain Ray Tune, as someone who knows Ray, Optuna and MLflow well would write it today.

Run as `python -m tests.benchmarks.baseline_ray_tune FOLDER [--reuse-actors] [--trials N]`; prints a JSON object. It is
kept lean on purpose: no checkpoints, no progress bars, no Lightning logger, one thread per trial, two trials at a time.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from pathlib import Path
from typing import Any

os.environ.update(
    {
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
        "RAY_AUTH_MODE": "disabled",
        "RAY_USAGE_STATS_ENABLED": "0",
        "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
    }
)

import mlflow
import optuna
import ray
from ray import tune
from ray.air.integrations.mlflow import MLflowLoggerCallback
from ray.tune.schedulers import ASHAScheduler
from ray.tune.search.optuna import OptunaSearch

MAX_EPOCHS = 9
METRIC = "val_acc"


def space(trial: optuna.Trial) -> dict[str, Any] | None:
    """The search space of trainables/recipes/digits.yaml."""
    trial.suggest_categorical("width", [8, 16, 32])
    trial.suggest_int("depth", 2, 5)
    trial.suggest_categorical("kernel_size", [3, 5])
    trial.suggest_categorical("normalization", ["batch", "layer", "none"])
    trial.suggest_float("dropout", 0.0, 0.4)
    trial.suggest_categorical("batch_size", [32, 64, 128])
    trial.suggest_float("lr", 3e-4, 0.1, log=True)
    trial.suggest_float("weight_decay", 1e-6, 0.1, log=True)
    if trial.suggest_categorical("optimizer", ["AdamW", "SGD"]) == "SGD":
        trial.suggest_float("momentum", 0.5, 0.98)
    return None


def train(config: dict[str, Any]) -> None:
    """One trial: build the model and the data from `config`, fit, report each validation epoch to Tune."""
    import pytorch_lightning as pl
    import torch
    from ray.tune.integration.pytorch_lightning import TuneReportCheckpointCallback

    from trainables.data.digits import Digits
    from trainables.vision.conv_net import ConvNet

    torch.set_num_threads(1)

    class Tuned(ConvNet):
        """The recipe's network with the optimizer that the configuration asks for."""

        def configure_optimizers(self) -> torch.optim.Optimizer:
            """Build it."""
            options = {"lr": config["lr"], "weight_decay": config["weight_decay"]}
            if config["optimizer"] == "SGD":
                return torch.optim.SGD(self.parameters(), momentum=config["momentum"], **options)
            return torch.optim.AdamW(self.parameters(), **options)

    pl.seed_everything(0, verbose=False)
    names = ("width", "depth", "kernel_size", "normalization", "dropout")
    trainer = pl.Trainer(
        accelerator="cpu",
        max_epochs=MAX_EPOCHS,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
        callbacks=[TuneReportCheckpointCallback({METRIC: METRIC}, save_checkpoints=False, on="validation_end")],
    )
    trainer.fit(Tuned(**{name: config[name] for name in names}), Digits(batch_size=config["batch_size"]))


def tuner(folder: Path, trials: int, *, reuse_actors: bool) -> tune.Tuner:
    """Ray's own parts, put together as their guides say."""
    store = f"sqlite:///{folder / 'mlflow.db'}"
    return tune.Tuner(
        tune.with_resources(train, {"cpu": 1}),
        tune_config=tune.TuneConfig(
            search_alg=OptunaSearch(space=space, metric=METRIC, mode="max", seed=0),
            scheduler=ASHAScheduler(metric=METRIC, mode="max", max_t=MAX_EPOCHS, grace_period=1, reduction_factor=3),
            num_samples=trials,
            max_concurrent_trials=2,
            reuse_actors=reuse_actors,
        ),
        run_config=tune.RunConfig(
            name="digits",
            storage_path=str(folder / "results"),
            verbose=0,
            callbacks=[MLflowLoggerCallback(tracking_uri=store, experiment_name="digits")],
        ),
    )


def main() -> None:
    """Run the search and print what it took."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--reuse-actors", action="store_true")
    parser.add_argument("--trials", type=int, default=32)
    given = parser.parse_args()
    folder: Path = given.folder.resolve()
    folder.mkdir(parents=True, exist_ok=True)
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    mlflow.set_tracking_uri(f"sqlite:///{folder / 'mlflow.db'}")
    ray.init(
        address="local", include_dashboard=False, log_to_driver=False, runtime_env={"env_vars": {"PYTHONPATH": "."}}
    )
    began = time.monotonic()
    results = tuner(folder, given.trials, reuse_actors=given.reuse_actors).fit()
    fit_s = time.monotonic() - began
    last = [result.metrics for result in results if result.metrics]
    answer = {
        "fit_s": fit_s,
        "trials": len(results),
        "errors": results.num_errors,
        "epochs": sum(metrics["training_iteration"] for metrics in last),
        "best": max(metrics[METRIC] for metrics in last),
    }
    ray.shutdown()
    sys.stdout.write(json.dumps(answer) + "\n")


if __name__ == "__main__":
    main()
