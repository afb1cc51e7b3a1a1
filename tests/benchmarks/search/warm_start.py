"""How many epochs a sweep needs to its target, with and without an earlier sweep; run by hand on real learning curves.

`python -m tests.benchmarks.search.warm_start` takes every LCBench task in turn, with the sweep of another task before
it: as it was (related), and with its losses negated (misleading). The target is a normalised regret (0 is the best
reachable value, 1 the median of random configurations). Each pair of runs has the same seed.
"""

from __future__ import annotations

import argparse
import importlib
import math
import statistics
import sys
from collections.abc import Iterable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from service import plugins
from service.objective import Objective, Objectives
from service.space import Integer, Parameter, Params, Real, Space
from service.tuning.events import Record, Reported
from service.tuning.history import History
from service.tuning.knowledge import EarlierSweep, earlier_trials, translate
from service.tuning.strategy import PastSweep, Problem
from service.tuning.warm_start import WarmStarted
from tests.simulator import Curves, Simulation

CURVES = Path(__file__).parents[4] / "shared" / "curves"
EARLIER_TRIALS, MOST_TRIALS, WORKERS = 60, 200, 4


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


def reached(name: str, options: argparse.Namespace, seed: int) -> float:
    """The best loss of a cold sweep after the epochs of `options.trainings` whole trials."""
    objectives = Objectives((Objective("loss"),))
    history = History(objectives)
    best = math.inf
    for record in records_of(name, options, seed, Problem(space_of(name), objectives, rungs(name, options), seed)):
        history.apply(record)
        if isinstance(record.event, Reported):
            best = min(best, record.event.metrics["loss"])
        if history.epochs_trained >= options.trainings * task(name).epochs:
            break
    return best


def epochs_to_target(name: str, options: argparse.Namespace, seed: int, past: Iterable[PastSweep], goal: float) -> int:
    """Epochs trained, over all trials, until one reaches `goal`; all of them where none does."""
    objectives = Objectives((Objective("loss", "minimize", goal),))
    problem = Problem(space_of(name), objectives, rungs(name, options), seed, tuple(past))
    return simulation(name, options, problem, MOST_TRIALS).run().epochs_trained


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


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--search", default="tpe")
    parser.add_argument("--scheduler", default="asha")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--trainings", type=float, default=8, help="the target is what a cold sweep reaches in these")
    parser.add_argument("--kin", type=int, default=0, help="which earlier task: 0 the most alike, 9 the least")
    parser.add_argument("--tasks", type=int, default=11, help="how many of the tasks")
    parser.add_argument("--unwrapped", action="store_true", help="the searcher makes use of earlier sweeps by itself")
    options = parser.parse_args()
    if not (CURVES / "curves.py").is_file():
        sys.exit(f"skipped: {CURVES} does not hold the learning curves that are the tasks")
    names = [name for name in curves().names() if name.startswith("lcbench:")]
    faster: list[float] = []
    slower: list[float] = []
    print(f"{'task':16}{'earlier task':16}{'alike':>6}{'cold':>8}{'related':>9}{'mislead':>9}  epochs to the target")
    for name in names[: options.tasks]:
        kin = sorted(((alike(name, other), other) for other in names if other != name), reverse=True)
        likeness, other = kin[options.kin]
        goal = statistics.median(reached(name, options, seed) for seed in range(options.seeds))
        for seed in range(options.seeds):
            pasts = [[], *([earlier(other, options, 100 + seed, sign)] for sign in (1.0, -1.0))]
            cold, related, misleading = (epochs_to_target(name, options, seed, past, goal) for past in pasts)
            faster.append(cold / related)
            slower.append(misleading / cold)
            print(f"{name:16}{other:16}{likeness:6.2f}{cold:8}{related:9}{misleading:9}", flush=True)
    print(f"related: {mean(faster)} times faster; misleading: {mean(slower)} times as long")


if __name__ == "__main__":
    main()
