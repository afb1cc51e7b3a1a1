"""The deterministic trainable in Ray Tune's own words: report each epoch, checkpoint some, start from the last."""

from __future__ import annotations

import json
import os
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any, Final

from ray import tune

from tests.chaos.trainable import EPOCH_S, HUGE, PLAN, loss_of
from tests.chaos.truth import VARIABLE, Truth

MAX_EPOCHS: Final = 4
CHECKPOINT_EVERY: Final = 2
INTERVAL: Final = "CHAOS_INTERVAL"  # epochs between checkpoints, where it is another
NUMBER: Final = "number"  # the key under which a searcher of one's own numbers its trials
SICK: Final[dict[str, Any]] = {
    "nan": float("nan"),
    "inf": float("inf"),
    "-inf": float("-inf"),
    "huge": HUGE,
    "wrong_type": "low",
}


def trial_number(trial_id: str, config: dict[str, Any]) -> int:
    """The how-manieth trial it is: Tune's own searcher ends its ids with it, another one gives it in the config."""
    return int(config[NUMBER]) if NUMBER in config else int(trial_id.rpartition("_")[2])


def train(config: dict[str, Any]) -> None:
    """One trial, as the guide to function trainables writes it."""
    truth = _truth(tune.get_context().get_trial_id(), config)
    for epoch in range(truth.start + 1, MAX_EPOCHS + 1):
        time.sleep(EPOCH_S)
        deed = _deed(truth, epoch)
        value = loss_of(config, epoch)
        metrics: dict[str, Any] = {"loss": SICK.get(deed, value), "epoch": epoch}
        if deed == "missing":
            del metrics["loss"]
        elif deed == "unpicklable":
            metrics["model"] = threading.Lock()
        truth.trained(epoch, metrics["loss"] if isinstance(metrics.get("loss"), float) else float("nan"))
        _misbehave(deed)
        _report(metrics)
        truth.acknowledged(epoch, metrics["loss"] if isinstance(metrics.get("loss"), float) else float("nan"))


def _report(metrics: dict[str, Any]) -> None:
    if metrics["epoch"] % int(os.environ.get(INTERVAL, CHECKPOINT_EVERY)):
        tune.report(metrics)
        return
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "state.json").write_text(json.dumps({"epoch": metrics["epoch"]}))
        tune.report(metrics, checkpoint=tune.Checkpoint.from_directory(folder))


def _truth(trial_id: str, config: dict[str, Any]) -> Truth:
    path, number = Path(os.environ[VARIABLE]), trial_number(trial_id, config)
    attempts = path.with_name(f"attempts-{number}")
    with attempts.open("ab") as file:
        file.write(b".")
    start = 0
    if checkpoint := tune.get_checkpoint():
        with checkpoint.as_directory() as folder:
            start = json.loads(Path(folder, "state.json").read_text())["epoch"]
    return Truth(path, number, attempts.stat().st_size, start)


def _deed(truth: Truth, epoch: int) -> str:
    """What the plan asks of this attempt now; "" for nothing."""
    if PLAN not in os.environ:
        return ""
    entry = json.loads(Path(os.environ[PLAN]).read_text()).get(str(truth.trial), {})
    is_now = entry.get("epoch") in (epoch, None) and truth.attempt in entry.get("attempts", [truth.attempt])
    return str(entry["what"]) if entry and is_now else ""


def _misbehave(deed: str) -> None:
    if deed == "hang":
        time.sleep(3600)
    elif deed == "raise":
        msg = "width must be even"
        raise ValueError(msg)
    elif deed == "import_error":
        import tests.chaos.baseline.no_such_module  # type: ignore[import-not-found]  # noqa: F401  # fails on purpose
    elif deed == "memory_error":
        raise MemoryError
    elif deed == "memory":
        _allocate()
    elif deed == "sys_exit":
        sys.exit(3)
    elif deed == "exit":
        os._exit(7)
    elif deed == "print":
        for _ in range(100):
            sys.stdout.write("x" * 999_999 + "\n")


def _allocate() -> None:
    held = []
    for _ in range(80):
        held.append(b"\1" * 100_000_000)
        time.sleep(0.05)
