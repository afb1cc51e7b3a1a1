"""The README's own example, typed in as it stands there: run it, look, take the best config, train that without us."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.readme import ROOT, blocks

FEW = ("--set", "budget.max_trials=4", "--set", "scheduler.max_epochs=6")
SHOW_METRICS = "print('LOGGED', cli.trainer.callback_metrics['val_loss'].item())\n"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The README's files, as a person would copy them."""
    place = tmp_path / "project"
    place.mkdir()
    (place / "trainables").symlink_to(ROOT / "trainables")
    for block in [*blocks("yaml"), *blocks("python")]:
        (place / block.name).write_text(block.code)
    return place


def tuneyard(folder: Path, *arguments: str) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "service.cli", *arguments],
        cwd=folder, capture_output=True, text=True, check=False, timeout=600,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("name", ["sweep.yaml", "every-section.yaml"])
def test_the_commands_on_a_file_work(name: str, folder: Path) -> None:
    assert "is a valid sweep" in tuneyard(folder, "validate", name)
    assert json.loads(tuneyard(folder, "plan", name, "--seconds-per-epoch", "1", "--json"))["worst_cpu_hours"] > 0
    tuneyard(folder, "schema", "--output", "sweep.schema.json")
    assert json.loads((folder / "sweep.schema.json").read_text())["properties"]["parameters"]
    (folder / "canonical.yaml").write_text(tuneyard(folder, "fmt", name))
    assert "is in canonical form" in tuneyard(folder, "fmt", "canonical.yaml", "--check")


@pytest.mark.slow
def test_the_sixty_second_start_works(folder: Path, home: Path) -> None:
    end = json.loads(tuneyard(folder, "run", "sweep.yaml", "--json", *FEW).splitlines()[-1])
    assert (end["state"], end["trials"]["total"]) == ("completed", 4)
    assert (home / "mlflow.db").exists()
    assert "completed" in tuneyard(folder, "show")
    assert tuneyard(folder, "report").strip().endswith("report.html")
    tuneyard(folder, "best", "--output", "best.yaml")

    main = (folder / "main.py").read_text()
    (folder / "main.py").write_text(
        re.sub(r"^LightningCLI\(\)", "cli = LightningCLI()", main, flags=re.MULTILINE) + SHOW_METRICS
    )
    trained = subprocess.run(
        [sys.executable, "main.py", "fit", "--config", "best.yaml", "--trainer.logger", "false"],
        cwd=folder, capture_output=True, text=True, check=False, timeout=600,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    assert trained.returncode == 0, trained.stderr
    logged = float(trained.stdout.rsplit("LOGGED", 1)[1])
    assert logged == pytest.approx(end["best"]["value"], rel=1e-6)
