"""How long the command line takes to answer: a person waits for it every time."""

from __future__ import annotations

import statistics
from pathlib import Path

from tests.benchmarks.measure import Measure, module, timed

REPEATS = 9


def measure(folder: Path) -> list[Measure]:
    """Median wall time of a whole process, over nine runs."""
    recipe = "trainables/recipes/digits.yaml"
    help_s = _median(["--help"], folder)
    validate_s = _median(["validate", recipe, "--no-signatures"], folder)
    return [
        Measure("tuneyard --help", help_s, "s", 0.3),
        Measure("tuneyard validate --no-signatures", validate_s, "s", 0.6),
    ]


def _median(arguments: list[str], folder: Path) -> float:
    command = module("service.cli.main", *arguments)
    return statistics.median(timed(command, folder / "cli.log")[0] for _ in range(REPEATS))
