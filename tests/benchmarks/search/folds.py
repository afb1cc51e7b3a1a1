"""Folds that race against full cross-validation: as good a winner for how many fits? Prints a table.

python tests/benchmarks/search/folds.py --seeds 100

Each task has a loss surface, folds of different difficulty, and noise of its own in every fit. A raced sweep is held
against full cross-validation, which trains every one of its configurations on all folds and takes the best mean. Both
are judged by the true loss of the winner, which neither sees: its regret, in standard deviations of the surface. The
last column is a sweep of full cross-validation of its own, whose searcher hears means over all folds from the start.
"""

from __future__ import annotations

import argparse
import math
import statistics
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parent.parent.parent.parent
sys.path.insert(0, str(ROOT))

from service import plugins  # noqa: E402  # after the path is known
from service.spec.objective import Objective, Objectives  # noqa: E402  # as above
from service.spec.space import Params, Real, Space  # noqa: E402  # as above
from service.tuning.racing import RacePlan  # noqa: E402  # as above
from service.tuning.strategy import Problem  # noqa: E402  # as above
from tests.simulator import Curves, Simulation  # noqa: E402  # as above

LOSS = Objectives((Objective("loss"),))
SPACE = Space({f"x{i}": Real(0.0, 1.0) for i in range(4)})
FOLDS = 5
CONFIGURATIONS = 40
WORKERS = 4


@dataclass(frozen=True)
class Task:
    """A quadratic surface whose values deviate by about 1 over the space, with its noise and its folds' difficulty."""

    seed: int
    noise: float  # standard deviation of one fit, on top of its fold's difficulty
    difficulty: float = 1.0  # standard deviation over folds

    def true(self, params: Params) -> float:
        """The loss without noise, over all folds."""
        rng = np.random.default_rng([self.seed, 1])
        optimum, weights = rng.uniform(0.2, 0.8, 4), rng.dirichlet(np.ones(4))
        place = np.array([params[f"x{i}"] for i in range(4)])
        return float(14 * (weights * (place - optimum) ** 2).sum())

    def fit(self, params: Params, fold: int) -> float:
        """The loss of a fit; the same configuration in the same fold always gives the same."""
        effects = np.random.default_rng([self.seed, 2]).normal(0, self.difficulty, FOLDS)
        bits = [int(params[f"x{i}"] * 2**31) for i in range(4)]
        luck = np.random.default_rng([self.seed, 3, fold, *bits]).normal(0, self.noise)
        return self.true(params) + float(effects[fold] - effects.mean() + luck)


@dataclass(frozen=True)
class Outcome:
    """What a raced sweep cost and found: the true loss of its winner, and of the one that all folds choose."""

    share: float  # of the fits that all folds of its configurations are
    regret: float
    full: float


def raced(task: Task, searcher: str, plan: RacePlan) -> Outcome:
    """A sweep whose folds race, beside full cross-validation of the very configurations that it proposed."""
    history = _simulation(task, searcher, race=plan).run()
    winner = history.trials[history.ranking()[0][0]]
    tried = [t.params for t in history.trials if t.repeats is None]
    best = min(tried, key=lambda params: statistics.fmean(task.fit(params, fold) for fold in range(FOLDS)))
    return Outcome(len(history.trials) / len(tried) / FOLDS, task.true(winner.params), task.true(best))


def cross_validated(task: Task, searcher: str) -> float:
    """The true loss of the winner of a sweep that trains every configuration on all folds, and tells the means."""
    history = _simulation(task, searcher, race=None).run()
    return task.true(history.trials[history.ranking()[0][0]].params)


def _simulation(task: Task, searcher: str, *, race: RacePlan | None) -> Simulation:
    def loss(params: Params, _: int) -> dict[str, float]:
        folds = range(FOLDS) if race is None else [int(params["fold"])]
        return {"loss": statistics.fmean(task.fit(params, fold) for fold in folds)}

    problem = Problem(SPACE, LOSS, (1,), task.seed)
    plugin, fifo = plugins.find("searchers", searcher), plugins.find("schedulers", "fifo")
    return Simulation(
        LOSS,
        plugin.build(plugin.Options(), problem),
        fifo.build(fifo.Options(max_epochs=1), problem),
        Curves(loss, lambda params, _: 0.9 + 0.2 * params["x0"]),
        workers=WORKERS,
        max_trials=CONFIGURATIONS,
        race=race,
    )


def compare(noise: float, searcher: str, seeds: range, plan: RacePlan) -> dict[str, float]:
    """Means over tasks: the share of fits, the regrets, their paired difference and its standard error."""
    found = [raced(Task(seed, noise), searcher, plan) for seed in seeds]
    differences = [outcome.regret - outcome.full for outcome in found]
    return {
        "share": statistics.fmean(outcome.share for outcome in found),
        "raced": statistics.fmean(outcome.regret for outcome in found),
        "full": statistics.fmean(outcome.full for outcome in found),
        "difference": statistics.fmean(differences),
        "error": statistics.stdev(differences) / math.sqrt(len(differences)),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=100)
    parser.add_argument("--noise", type=float, nargs="+", default=[0.05, 0.1, 0.2, 0.4, 0.8])
    parser.add_argument("--searchers", nargs="+", default=["random", "tpe"])
    parser.add_argument("--level", type=float, default=RacePlan().level)
    parser.add_argument("--share", type=float, default=RacePlan().share)
    options = parser.parse_args()
    plan, seeds = RacePlan(FOLDS, level=options.level, share=options.share), range(options.seeds)
    titles = ("fits", "raced", "all folds", "difference", "own sweep")
    sys.stdout.write(f"{'searcher':10}{'noise':>7}" + "".join(f"{title:>20}" for title in titles) + "\n")
    for searcher in options.searchers:
        for noise in options.noise:
            found = compare(noise, searcher, seeds, plan)
            own = statistics.fmean(cross_validated(Task(seed, noise), searcher) for seed in seeds)
            difference = f"{found['difference']:+.4f} ± {found['error']:.4f}"
            cells = (f"{found['share']:.0%}", f"{found['raced']:.4f}", f"{found['full']:.4f}", difference, f"{own:.4f}")
            sys.stdout.write(f"{searcher:10}{noise:7.2f}" + "".join(f"{cell:>20}" for cell in cells) + "\n")
            sys.stdout.flush()


if __name__ == "__main__":
    main()
