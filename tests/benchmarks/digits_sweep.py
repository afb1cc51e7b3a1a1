"""The main job against plain Ray Tune: 32 digits trials, ASHA to 9 epochs, two at a time, side by side in one run."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

from tests.benchmarks.measure import Measure, module, timed

RECIPE = "trainables/recipes/digits.yaml"
AS_ASKED = ["--set", "budget.max_trials=32", "--set", "scheduler.max_epochs=9", "--set", "search.name=tpe"]
ROUNDS = 2
Answer = dict[str, Any]
BASELINE = "tests.benchmarks.baseline_ray_tune"


def measure(folder: Path) -> list[Measure]:
    """Wall seconds of whole commands: ours, the baseline as it comes, the baseline with warm actors, the bare fits.

    All but the slowest are run twice, in turns, and the faster run counts: a busy moment then hits nobody alone.
    """
    rounds = [_round(folder / str(number)) for number in range(ROUNDS)]
    ours_s, ours, bare = min((r[0] for r in rounds), key=lambda found: found[0])
    reuse_s, reuse = min((r[1] for r in rounds), key=lambda found: found[0])
    plain_s, plain = _baseline(folder / "plain")
    allowed_s = 1.5 * bare["fits_s"] + bare["start_s"]
    trials = ours["trials"]
    counts = sum(trials[ending] for ending in ("completed", "stopped", "diverged", "failed"))
    note = f"{counts} trials, {ours['epochs']} epochs, best {ours['best']['value']:.4f}"
    return [
        Measure("digits: tuneyard run", ours_s, "s", None, note),
        Measure("digits: plain Ray Tune", plain_s, "s", None, _note(plain)),
        Measure("digits: plain Ray Tune, reuse_actors", reuse_s, "s", None, _note(reuse)),
        Measure("digits: the same fits, two warm processes", bare["fits_s"], "s", None, f"{bare['epochs']} epochs"),
        Measure("digits: tuneyard / plain Ray Tune", ours_s / plain_s, "x", 0.25),
        Measure("digits: tuneyard / reuse_actors", ours_s / reuse_s, "x", 0.7),
        Measure("digits: tuneyard / (1.5 x bare fits + start-up)", ours_s / allowed_s, "x", 1.0, f"{allowed_s:.1f} s"),
    ]


def _round(folder: Path) -> tuple[tuple[float, Answer, Answer], tuple[float, Answer]]:
    """((our seconds, our end, the bare fits of our trials), (the warm baseline's seconds, its answer))."""
    folder.mkdir(parents=True, exist_ok=True)
    ours_s, ours = _ours(folder / "home")
    bare = _last(timed(module("tests.benchmarks.bare_fits", ours["folder"]), folder / "bare.log")[1])
    return (ours_s, ours, bare), _baseline(folder / "reuse", "--reuse-actors")


def _ours(home: Path) -> tuple[float, Answer]:
    command = module("service.cli.main", "--data-dir", str(home), "run", RECIPE, "--json", *AS_ASKED)
    wall, output = timed(command, home.with_suffix(".log"))
    return wall, _last(output)


def _baseline(folder: Path, *flags: str) -> tuple[float, Answer]:
    shutil.rmtree(folder, ignore_errors=True)
    wall, output = timed(module(BASELINE, str(folder), *flags), folder.with_suffix(".log"))
    return wall, _last(output)


def _last(output: str) -> Answer:
    answer: Answer = json.loads(output.strip().splitlines()[-1])
    return answer


def _note(answer: Answer) -> str:
    failed = f", {answer['errors']} failed" if answer["errors"] else ""
    return f"{answer['trials']} trials{failed}, {answer['epochs']} epochs, best {answer['best']:.4f}"
