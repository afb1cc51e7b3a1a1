"""How many epochs a sweep needs to a target, with and without an earlier sweep; run by hand on real learning curves.

`python -m tests.benchmarks.search.warm_start` takes every LCBench task in turn, with the sweep of another task before
it: as it was (related), and with its losses negated (misleading). The targets are what cold sweeps have reached, in the
median over the seeds, after the epochs of so many whole trainings. Each pair of runs has the same seed. The curves lie
outside the repository: in `../shared/curves`, or where TUNEYARD_CURVES says.
"""

from __future__ import annotations

import argparse
import importlib
import math
import os
import statistics
import sys
from collections.abc import Iterable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from service import plugins
from service.spec.objective import Objective, Objectives
from service.spec.space import Integer, Parameter, Params, Real, Space
from service.tuning.events import Record, Reported
from service.tuning.history import History
from service.tuning.knowledge import EarlierSweep, earlier_trials, translate
from service.tuning.strategy import PastSweep, Problem
from service.tuning.warm_start import WarmStarted
from tests.simulator import Curves, Simulation

CURVES = Path(os.environ.get("TUNEYARD_CURVES", Path(__file__).parents[4] / "shared" / "curves"))
EARLIER_TRIALS, MOST_TRIALS, WORKERS = 60, 200, 4
LABELS = ("cold", "related", "misleading")


@cache
def curves() -> Any:  # noqa: ANN401  # curves.py lies outside and has no annotations
    sys.path.insert(0, str(CURVES))
    return importlib.import_module("curves")


@cache
def task(name: str) -> Any:  # noqa: ANN401  # as above
    return curves().load(name)


def space_of(name: str) -> Space:
    parameters: dict[str, Parameter] = {}
    for p in task(name).parameters:
        parameters[p.name] = Integer(int(p.low), int(p.high), p.log) if p.integer else Real(p.low, p.high, p.log)
    return Space(parameters)


def curves_of(name: str, sign: float = 1.0) -> Curves:
    found: dict[tuple[tuple[str, float], ...], Any] = {}

    def curve(params: Params) -> Any:  # noqa: ANN401  # as above
        key = tuple(sorted(params.items()))
        if key not in found:
            found[key] = task(name).evaluate(params)
        return found[key]

    def seconds(params: Params, epoch: int) -> float:
        at = curve(params).seconds
        return float(at[epoch - 1] - (at[epoch - 2] if epoch > 1 else 0.0))

    return Curves(lambda params, epoch: {"loss": sign * float(curve(params).observed[epoch - 1])}, seconds)


def simulation(name: str, options: argparse.Namespace, problem: Problem, trials: int) -> Simulation:
    searcher_file, scheduler_file = (
        plugins.find("searchers", options.search),
        plugins.find("schedulers", options.scheduler),
    )
    searcher = searcher_file.build(searcher_file.Options(), problem)
    warm = WarmStarted(searcher, problem) if problem.past and not options.unwrapped else None
    scheduler = scheduler_file.build(scheduler_file.Options(max_epochs=task(name).epochs), problem)
    sweep = Simulation(problem.objectives, warm or searcher, scheduler, curves_of(name), WORKERS, trials)
    sweep.decider.is_suggestion = warm.is_suggestion if warm else None
    return sweep


def rungs(name: str, options: argparse.Namespace) -> tuple[int, ...]:
    plugin = plugins.find("schedulers", options.scheduler)
    return tuple(plugin.rungs(plugin.Options(max_epochs=task(name).epochs)))


def earlier(name: str, options: argparse.Namespace, seed: int, sign: float) -> PastSweep:
    """What a cold sweep on `name` left behind."""
    objectives = Objectives((Objective("loss"),))
    problem = Problem(space_of(name), objectives, rungs(name, options), seed)
    trials = earlier_trials(records_of(name, options, seed, problem))
    for trial in trials:
        trial.metrics = {epoch: {"loss": sign * metrics["loss"]} for epoch, metrics in trial.metrics.items()}
    return translate(EarlierSweep(name, trials), problem.space, objectives)


_RECORDS: dict[tuple[str, int], list[Record]] = {}


def records_of(name: str, options: argparse.Namespace, seed: int, problem: Problem) -> list[Record]:
    if (name, seed) not in _RECORDS:
        sweep = simulation(name, options, problem, EARLIER_TRIALS)
        sweep.run()
        _RECORDS[name, seed] = sweep.records
    return _RECORDS[name, seed]


def reached(records: Iterable[Record], objectives: Objectives) -> Iterator[tuple[int, float]]:
    """(epochs trained over all trials, the best loss so far) after each report of a sweep."""
    history, best = History(objectives), math.inf
    for record in records:
        history.apply(record)
        if isinstance(record.event, Reported):
            best = min(best, record.event.metrics["loss"])
            yield history.epochs_trained, best


def cold_best(name: str, options: argparse.Namespace, seed: int, trainings: float) -> float:
    """The best loss of a cold sweep after the epochs of so many whole trials."""
    objectives = Objectives((Objective("loss"),))
    records = records_of(name, options, seed, Problem(space_of(name), objectives, rungs(name, options), seed))
    limit, found = trainings * task(name).epochs, list(reached(records, objectives))
    return next((best for epochs, best in found if epochs >= limit), found[-1][1])


def epochs_to_targets(
    name: str, options: argparse.Namespace, seed: int, past: Iterable[PastSweep], targets: list[float]
) -> list[int]:
    """Epochs trained, over all trials, until one reaches each of the `targets`; all of them where none does."""
    objectives = Objectives((Objective("loss", "minimize", min(targets)),))
    problem = Problem(space_of(name), objectives, rungs(name, options), seed, tuple(past))
    sweep = simulation(name, options, problem, MOST_TRIALS)
    every = sweep.run().epochs_trained
    found = list(reached(sweep.records, objectives))
    return [next((epochs for epochs, best in found if best <= target), every) for target in targets]


def alike(one: str, other: str) -> float:
    """Kendall's rank correlation of the final losses of random configurations on two tasks."""
    rng = np.random.default_rng(0)
    points = [space_of(one).sample(rng) for _ in range(60)]
    losses = [np.array([task(name).evaluate(params).true[-1] for params in points]) for name in (one, other)]
    signs = [np.sign(found[:, None] - found[None, :]) for found in losses]
    return float((signs[0] * signs[1]).sum() / (len(points) * (len(points) - 1)))


def mean(ratios: list[float]) -> str:
    """The geometric mean of `ratios` with its standard error as a factor."""
    logs = [math.log(ratio) for ratio in ratios]
    error = statistics.stdev(logs) / math.sqrt(len(logs)) if len(logs) > 1 else 0.0
    return f"{math.exp(statistics.fmean(logs)):5.2f} (x/ {math.exp(error):4.2f})"


def compare(name: str, other: str, options: argparse.Namespace) -> Iterator[tuple[list[int], list[int], list[int]]]:
    """(cold, related, misleading) epochs to each target of one task, seed by seed."""
    seeds = range(options.seeds)
    targets = [statistics.median(cold_best(name, options, s, count) for s in seeds) for count in options.trainings]
    for seed in seeds:
        pasts = [[], *([earlier(other, options, 100 + seed, sign)] for sign in (1.0, -1.0))]
        cold, related, misleading = (epochs_to_targets(name, options, seed, past, targets) for past in pasts)
        yield cold, related, misleading


def parsed() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--search", default="bayes")
    parser.add_argument("--scheduler", default="adaptive")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--trainings", type=float, nargs="+", default=[1, 2, 4, 8], help="whole ones, for each target")
    parser.add_argument("--kin", type=int, default=0, help="which earlier task: 0 the most alike, 9 the least")
    parser.add_argument("--tasks", type=int, default=11, help="how many of the tasks")
    parser.add_argument("--unwrapped", action="store_true", help="the searcher makes use of earlier sweeps by itself")
    return parser.parse_args()


def main() -> None:
    options = parsed()
    if not (CURVES / "curves.py").is_file():
        sys.exit(f"skipped: {CURVES} does not hold the learning curves that are the tasks")
    names = [name for name in curves().names() if name.startswith("lcbench:")]
    rows: list[tuple[list[int], list[int], list[int]]] = []
    print("epochs to what a cold sweep reached in", *(f"{count:g}," for count in options.trainings), "whole trainings")
    for name in names[: options.tasks]:
        kin = sorted(((alike(name, other), other) for other in names if other != name), reverse=True)
        likeness, other = kin[options.kin]
        for row in compare(name, other, options):
            rows.append(row)
            shown = "  ".join(f"{label} {epochs}" for label, epochs in zip(LABELS, row, strict=True))
            print(f"{name:16}{other:16}{likeness:6.2f}  {shown}", flush=True)
    for i, count in enumerate(options.trainings):
        faster = mean([cold[i] / related[i] for cold, related, _ in rows])
        slower = mean([misleading[i] / cold[i] for cold, _, misleading in rows])
        print(f"target of {count:g} trainings: related {faster} times faster, misleading {slower} times as long")


if __name__ == "__main__":
    main()
