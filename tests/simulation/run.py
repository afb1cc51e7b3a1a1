"""Plays one seed: a sweep without faults of the machine, the same with 3 to 10 of them, and the checks on both.

`python -m tests.simulation.run --seeds 1000 [--first 0]` plays many; `--seed N --trace` shows how one went.
"""

from __future__ import annotations

import argparse
import logging
import multiprocessing
import random
import shutil
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

from service.spec.sweep_spec import SweepSpec, parse_sweep
from service.tuning.ledger import read_ledger
from service.tuning.replay import replay_folder
from tests.simulation.checks import Story, broken_promises, differences, story
from tests.simulation.faults import FAULTS
from tests.simulation.training import Misbehaviour, misbehaviours
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
STRIKES_WITHIN = 100  # of the machine's steps
TRIALS = {"fifo": 18, "pbt": 18, "median": 22}  # so many make 200 events; other schedulers stop most of them early
TRIALS_ELSE = 26
SEEDS_PER_SCENARIO = 5
REPLAYED_EVERY = 3  # a replay takes as long as all decisions did
RACED = 0.25  # of sweeps have folds and seeds
TESTED_SEEDS = 1000  # from 0 on, which `make test` plays
CHUNK = 25  # seeds that a process plays before it gives an answer


@dataclass
class Play:
    """How a seed went."""

    seed: int
    problems: list[str] = field(default_factory=list)
    trace: list[str] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)
    events: int = 0


def spec_of(rng: random.Random) -> tuple[SweepSpec, int]:
    """A sweep, and how many workers it has."""
    workers = rng.choice([1, 1, 2, 4])
    searcher, scheduler = rng.choice(SEARCHERS), rng.choice(SCHEDULERS)
    trials = TRIALS.get(scheduler.strip("{}").split(",")[0].removeprefix("name: "), TRIALS_ELSE)
    space = (
        "{values: [0.1, 0.2, 0.5, 1, 2, 5, 10]}"
        if searcher == "grid"
        else "{min: 0.01, max: 10.0, distribution: log_uniform}"
    )
    is_raced = rng.random() < RACED and "pbt" not in scheduler
    repeats = "folds: 3, final_seeds: 1, finalists: 2" if is_raced else "folds: 1"
    seed = rng.randint(0, 1000)
    text = f"""
name: simulated
seed: {seed}
fit: {{trainer: {{max_epochs: 9}}}}
metric: {{name: loss, goal: minimize}}
parameters: {{model.x: {space}, model.y: {{min: 0, max: 7}}}}
search: {{name: {searcher}{"" if searcher == "grid" else ", start_from_defaults: false"}}}
scheduler: {scheduler}
budget: {{max_trials: {trials}, max_concurrent_trials: {workers}}}
evaluation: {{{repeats}, test: {"true" if seed % 2 else "auto"}}}
tracking: {{uri: "http://mlflow"}}
"""
    return parse_sweep(text, file="sweep.yaml", root=Path()), workers


@dataclass
class Scenario:
    """A sweep and its misbehaving trials, which several seeds strike in different ways, and what becomes of it."""

    number: int
    spec: SweepSpec
    workers: int
    wrong: dict[int, Misbehaviour]
    story: Story | None  # of the run without faults; None where it depends on which worker is faster
    problems: list[str]


def scenario(number: int, root: Path) -> Scenario:
    """Scenario `number`, played without faults where that says what has to come out."""
    rng = random.Random(number)
    spec, workers = spec_of(rng)
    wrong = misbehaviours(rng, spec.budget.max_trials or 0, 4)
    if not _is_ordered(spec, workers):
        return Scenario(number, spec, workers, wrong, None, [])
    machine = Machine(root / f"scenario-{number}" / "sweep", spec, workers, number, wrong)
    try:
        machine.run()
        problems = [f"undisturbed: {text}" for text in broken_promises(machine)]
        return Scenario(number, spec, workers, wrong, story(machine.folder, spec.objectives), problems)
    finally:
        shutil.rmtree(machine.folder.parent)


def play(seed: int, given: Scenario, root: Path) -> Play:
    """One seed's faults on a scenario, in a fresh folder under `root`."""
    rng = random.Random(seed)
    machine = Machine(root / f"seed-{seed}" / "sweep", given.spec, given.workers, seed, given.wrong)
    result = Play(seed, list(given.problems), machine.log)
    _strike(machine, rng, result)
    try:
        machine.run()
        result.problems += broken_promises(machine)
        result.events = len(read_ledger(machine.folder))
        if seed % REPLAYED_EVERY == 0:
            different = replay_folder(machine.folder).difference
            result.problems += [f"replay: {different}"] if different else []
        is_other = given.spec.scheduler.name == "pbt" and bool(machine.damaged)  # a donor's state is gone for good
        if given.story is not None and not is_other:
            result.problems += differences(story(machine.folder, given.spec.objectives), given.story)
    except Exception as error:  # noqa: BLE001  # whatever ends a simulation is a finding
        result.problems.append("".join(traceback.format_exception(error)[-6:]))
    finally:
        shutil.rmtree(machine.folder.parent)
    return result


def play_all(seeds: Sequence[int]) -> Iterator[Play]:
    """Every seed, spread over the machine's cores."""
    chunks = [seeds[i : i + CHUNK] for i in range(0, len(seeds), CHUNK)]
    with ProcessPoolExecutor(mp_context=multiprocessing.get_context("spawn")) as pool:
        for plays in pool.map(play_many, chunks):
            yield from plays


def play_many(seeds: Sequence[int]) -> list[Play]:
    """Every seed, one after the other."""
    logging.disable()  # what is logged of hundreds of faults helps nobody
    try:
        return list(play_each(seeds))
    finally:
        logging.disable(logging.NOTSET)


def play_each(seeds: Iterable[int]) -> Iterator[Play]:
    """Each seed on its scenario; in memory where the machine offers that."""
    memory = Path("/dev/shm")
    given: Scenario | None = None
    with tempfile.TemporaryDirectory(dir=memory if memory.is_dir() else None, prefix="tuneyard-") as root:
        for seed in seeds:
            number = seed // SEEDS_PER_SCENARIO
            if given is None or given.number != number:
                given = scenario(number, Path(root))
            yield play(seed, given, Path(root))


def _strike(machine: Machine, rng: random.Random, result: Play) -> None:
    """Have faults happen at some of the machine's events."""
    names = [rng.choice(sorted(FAULTS)) for _ in range(rng.randint(3, 10))]
    at = sorted(rng.sample(range(3, STRIKES_WITHIN), k=len(names)))
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
    return workers == 1 or (is_timeless and not spec.evaluation.is_raced)


def main(argv: list[str] | None = None) -> int:
    """Play seeds and say which went wrong."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=1000)
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--tested", action="store_true", help="leave out the seeds that `make test` plays")
    parser.add_argument("--seed", type=int, help="play this one only")
    parser.add_argument("--trace", action="store_true", help="show what happened")
    args = parser.parse_args(argv)
    seeds = [args.seed] if args.seed is not None else range(args.first, args.first + args.seeds)
    if args.tested:
        seeds = [seed for seed in seeds if seed >= TESTED_SEEDS]
    bad, struck, fewest, began = 0, Counter[str](), 10**9, time.monotonic()
    for found in play_all(seeds) if len(seeds) > 1 else play_many(seeds):
        struck.update(found.faults)
        fewest = min(fewest, found.events)
        if args.trace:
            sys.stdout.write("\n".join(found.trace) + "\n")
        if found.problems:
            bad += 1
            text = "; ".join(problem[:1000] for problem in found.problems[:4])
            sys.stdout.write(f"seed {found.seed}: {text}\n   faults: {', '.join(found.faults)}\n")
    lasted = time.monotonic() - began
    sys.stdout.write(
        f"{len(seeds)} seeds, {bad} red, {sum(struck.values())} faults, at least {fewest} events, {lasted:.1f} s\n"
    )
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
