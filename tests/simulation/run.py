"""Plays one seed: a sweep without faults of the machine, the same with 3 to 10 of them, and the checks on both.

`python -m tests.simulation.run --seeds 1000 [--first 0]` plays many; `--seed N --trace` shows how one went.
"""

from __future__ import annotations

import argparse
import logging
import random
import shutil
import sys
import tempfile
import time
import traceback
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from service.spec import SweepSpec, parse_sweep
from tests.simulation.checks import broken_promises, differences
from tests.simulation.faults import FAULTS
from tests.simulation.training import misbehaviours
from tests.simulation.world import Machine

SEARCHERS = ("random", "sobol", "tpe", "grid")
SCHEDULERS = (
    "{name: fifo}",
    "{name: asha, grace_epochs: 1, reduction_factor: 3}",
    "{name: asha, grace_epochs: 2, reduction_factor: 2, variant: promotion}",
    "{name: median}",
    "{name: hyperband}",
    "{name: pbt}",
)
LEAST_EVENTS = 200


@dataclass
class Play:
    """How a seed went."""

    seed: int
    problems: list[str] = field(default_factory=list)
    trace: list[str] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)
    events: int = 0
    epochs_redone: int = 0


def spec_of(rng: random.Random) -> tuple[SweepSpec, int]:
    """A sweep, and how many workers it has."""
    workers = rng.choice([1, 1, 2, 4])
    searcher, scheduler = rng.choice(SEARCHERS), rng.choice(SCHEDULERS)
    space = (
        "{values: [0.1, 0.2, 0.5, 1, 2, 5, 10]}"
        if searcher == "grid"
        else "{min: 0.01, max: 10.0, distribution: log_uniform}"
    )
    text = f"""
name: simulated
seed: {rng.randint(0, 1000)}
fit: {{trainer: {{max_epochs: 9}}}}
metric: {{name: loss, goal: minimize}}
parameters: {{model.x: {space}, model.y: {{min: 0, max: 7}}}}
search: {{name: {searcher}{"" if searcher == "grid" else ", start_from_defaults: false"}}}
scheduler: {scheduler}
budget: {{max_trials: 36, max_concurrent_trials: {workers}}}
tracking: {{uri: "http://mlflow"}}
"""
    return parse_sweep(text, file="sweep.yaml", root=Path()), workers


def play(seed: int, root: Path) -> Play:
    """One seed, on a fresh folder under `root`."""
    rng = random.Random(seed)
    spec, workers = spec_of(rng)
    wrong = misbehaviours(rng, 36, 4)
    folders = [root / f"{seed}-{name}" / "sweep" for name in ("undisturbed", "struck")]
    undisturbed, struck = (Machine(folder, spec, workers, seed, wrong) for folder in folders)
    result = Play(seed)
    try:
        undisturbed.run()
        _strike(struck, rng, result)
        struck.run()
    except Exception as error:  # noqa: BLE001  # whatever ends a simulation is a finding
        result.problems.append("".join(traceback.format_exception(error)[-6:]))
        result.trace = struck.log
        return result
    result.problems += [f"undisturbed: {text}" for text in broken_promises(undisturbed)]
    result.problems += broken_promises(struck)
    is_other = spec.scheduler.name == "pbt" and bool(struck.damaged)  # a donor's state is gone for good
    if _is_ordered(spec, workers) and not is_other:
        result.problems += differences(struck, undisturbed)
    result.events = struck.steps
    result.trace = struck.log
    for folder in folders:
        shutil.rmtree(folder.parent)
    return result


def _strike(machine: Machine, rng: random.Random, result: Play) -> None:
    """Have faults happen at some of the machine's events."""
    names = [rng.choice(sorted(FAULTS)) for _ in range(rng.randint(3, 10))]
    at = sorted(rng.sample(range(3, LEAST_EVENTS), k=len(names)))
    result.faults = names
    due = dict(zip(at, names, strict=True))

    def hook() -> None:
        name = due.pop(machine.steps, None)
        if name is not None:
            machine.note(f"FAULT {name}")
            FAULTS[name](machine, rng)

    machine.step_hook = hook


def _is_ordered(spec: SweepSpec, workers: int) -> bool:
    """Whether decisions do not depend on which of several workers is faster."""
    is_timeless = spec.search.name in ("random", "sobol", "grid") and spec.scheduler.name == "fifo"
    return workers == 1 or is_timeless


def main(argv: list[str] | None = None) -> int:
    """Play seeds and say which went wrong."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=1000)
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--seed", type=int, help="play this one only")
    parser.add_argument("--trace", action="store_true", help="show what happened")
    args = parser.parse_args(argv)
    seeds = [args.seed] if args.seed is not None else range(args.first, args.first + args.seeds)
    logging.disable()
    bad, struck, began = 0, Counter[str](), time.monotonic()
    with tempfile.TemporaryDirectory(dir="/dev/shm" if Path("/dev/shm").is_dir() else None) as root:
        for seed in seeds:
            found = play(seed, Path(root))
            struck.update(found.faults)
            if args.trace:
                sys.stdout.write("\n".join(found.trace) + "\n")
            if found.problems:
                bad += 1
                sys.stdout.write(
                    f"seed {seed}: {'; '.join(found.problems[:4])}\n   faults: {', '.join(found.faults)}\n"
                )
    lasted = time.monotonic() - began
    sys.stdout.write(f"{len(seeds)} seeds, {bad} red, {sum(struck.values())} faults, {lasted:.1f} s\n")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
