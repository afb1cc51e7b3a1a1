"""best.yaml reproduces a trial with a plain LightningCLI, in a process that knows nothing of Tuneyard."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import yaml

from service.tuning.assignment import Assignment, Report
from service.tuning.best_config import best_yaml
from service.tuning.trial import run_attempt

ROOT = Path(__file__).parents[2]
FIT: dict[str, Any] = {
    "model": {"class_path": "trainables.vision.conv_net.ConvNet", "init_args": {"width": 4, "dropout": 0.2}},
    "data": {"class_path": "trainables.data.digits.Digits", "init_args": {"batch_size": 256}},
    "optimizer": {"class_path": "torch.optim.SGD", "init_args": {"lr": 0.05, "momentum": 0.9}},
    "trainer": {"accelerator": "cpu", "max_epochs": 9},
}
PARAMS = {"optimizer.class_path": "torch.optim.AdamW", "optimizer.init_args.lr": 0.01, "model.init_args.depth": 2}
MAIN = """
from pytorch_lightning.cli import LightningCLI

if __name__ == "__main__":
    cli = LightningCLI()
    print({name: value.item() for name, value in cli.trainer.callback_metrics.items()})
"""


def test_a_plain_lightning_cli_gets_the_same_metric(tmp_path: Path) -> None:
    reports: list[Report] = []

    def report(one: Report) -> bool:
        reports.append(one)
        return one.epoch < 3

    run_attempt(Assignment("s", 0, 1, PARAMS, FIT, ("val_acc",), 11, 5, (), str(tmp_path)), report)
    resolved = yaml.safe_load((tmp_path / "configs" / "trial-0.yaml").read_text())
    text = best_yaml(FIT, PARAMS, seed=11, max_epochs=3, header=["Trial 0", "val_acc"], resolved=resolved)
    (tmp_path / "best.yaml").write_text(text)
    (tmp_path / "main.py").write_text(MAIN)
    finished = subprocess.run(
        [sys.executable, "main.py", "fit", "--config", "best.yaml"],
        cwd=tmp_path, capture_output=True, text=True, check=False,
        env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    assert finished.returncode == 0, finished.stderr
    metrics = json.loads(finished.stdout.strip().splitlines()[-1].replace("'", '"'))
    assert metrics["val_acc"] == reports[-1].metrics["val_acc"]
    assert metrics["val_loss"] == reports[-1].metrics["val_loss"]


def test_the_text_is_a_lightning_cli_config() -> None:
    fit = {**FIT, "cli": "their.CLI", "weights_only": None}
    text = best_yaml(fit, {"model.init_args.width": 7}, seed=1, max_epochs=4, header=["one\ntwo"])
    assert text.splitlines()[:3] == ["# one", "# two", "# Parse it with their.CLI in place of LightningCLI."]
    config = yaml.safe_load(text)
    assert set(config) == {"seed_everything", "model", "data", "optimizer", "trainer"}
    assert config["trainer"] == {"accelerator": "cpu", "max_epochs": 4}
    assert config["model"]["init_args"]["width"] == 7
    assert FIT["trainer"]["max_epochs"] == 9


def test_arguments_of_a_replaced_class_are_left_out() -> None:
    resolved = {"optimizer": {"class_path": "torch.optim.AdamW", "init_args": {"lr": 0.01, "eps": 1e-8}}}
    config = yaml.safe_load(best_yaml(FIT, PARAMS, seed=1, max_epochs=4, resolved=resolved))
    assert config["optimizer"] == {"class_path": "torch.optim.AdamW", "init_args": {"lr": 0.01}}
