"""Hypervolume over virtual time for two objectives, error and training seconds, on real learning curves: a table.

    python tests/benchmarks/search/multi_objective.py --seeds 3 --tasks 4 --output cells.jsonl

Every (configuration, epoch) that a policy has trained counts as a point (its true error, its seconds so far) the moment
it is there. Scores are shares of the hypervolume of everything that any policy found on a task, in a box that
reaches a tenth of that front's spans beyond its worst values. Cells that `--output` holds already are not run
again. The curves lie outside the repository: in `../shared/curves`, or where TUNEYARD_CURVES says.
"""

from __future__ import annotations

import argparse
import heapq
import importlib.util
import json
import math
import os
import statistics
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Final

ROOT = Path(__file__).resolve().parents[3]
sys.path.insert(0, str(ROOT))

from service import plugins  # noqa: E402  # after the path is known
from service.objective import Objective, Objectives, Observation  # noqa: E402  # as above
from service.space import Integer, Params, Real, Space  # noqa: E402  # as above
from service.tuning.events import Reported  # noqa: E402  # as above
from service.tuning.hypervolume import hypervolume  # noqa: E402  # as above
from service.tuning.strategy import Problem  # noqa: E402  # as above
from tests.simulator import Curves, Simulation  # noqa: E402  # as above

WORKERS: Final = 4
BUDGETS: Final = (1, 4, 16)  # full trainings per worker
GOALS: Final = Objectives((Objective("error"), Objective("seconds")))
Point = tuple[float, float, float]  # (virtual time, error, seconds)


@dataclass
class Task:
    """A task of the shared curves, with every curve computed once."""

    curves: Any
    space: Space

    def __post_init__(self) -> None:
        self._known: dict[str, Any] = {}

    @property
    def epochs(self) -> int:
        """Epochs of a full training."""
        return int(self.curves.epochs)

    @property
    def full_s(self) -> float:
        """Seconds of a full training, on average."""
        return float(self.curves.t_full)

    def curve(self, params: Params) -> Any:  # noqa: ANN401  # a Curve of the shared file
        """The whole training of `params`."""
        key = json.dumps(params, sort_keys=True)
        if key not in self._known:
            self._known[key] = self.curves.evaluate(params)
        return self._known[key]

    def seconds_of(self, params: Params, epoch: int) -> float:
        """How long one epoch takes."""
        seconds = self.curve(params).seconds
        return float(seconds[epoch - 1] - (seconds[epoch - 2] if epoch > 1 else 0.0))

    def metrics(self, params: Params, epoch: int) -> dict[str, float]:
        """What a trial reports."""
        curve = self.curve(params)
        return {"error": float(curve.observed[epoch - 1]), "seconds": float(curve.seconds[epoch - 1])}

    def point(self, at: float, params: Params, epoch: int) -> Point:
        """What was there at time `at`, as it is scored."""
        curve = self.curve(params)
        return at, float(curve.true[epoch - 1]), float(curve.seconds[epoch - 1])


Policy = Callable[[Task, int, float], list[Point]]  # (task, seed, budget in seconds) to all points, in order of time


def ours(searcher: str, scheduler: str, options: dict[str, Any], task: Task, seed: int, budget_s: float) -> list[Point]:
    """A sweep by this repository's decision core."""
    module = plugins.find("schedulers", scheduler)
    parsed = module.Options(max_epochs=task.epochs, **options)
    problem = Problem(task.space, GOALS, module.rungs(parsed), seed)
    proposer = plugins.find("searchers", searcher)
    simulation = Simulation(
        GOALS, proposer.build(proposer.Options(), problem), module.build(parsed, problem),
        Curves(task.metrics, task.seconds_of), WORKERS, None, budget_s,
    )  # fmt: skip
    history = simulation.run()
    reports = [(r.at - 1.0, r.event) for r in simulation.records if isinstance(r.event, Reported)]
    return [task.point(at, history.trials[e.trial].params, e.epoch) for at, e in reports if at <= budget_s]


def nsga2(task: Task, seed: int, budget_s: float) -> list[Point]:
    """Optuna's NSGA-II by ask and tell, every training in full: it raises where a trial of several goals is pruned."""
    import optuna

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    sampler = optuna.samplers.NSGAIISampler(seed=seed, population_size=20)
    study = optuna.create_study(directions=["minimize", "minimize"], sampler=sampler)
    running: list[tuple[float, int, Any, Params]] = []
    found: list[Point] = []
    at = 0.0
    while at <= budget_s:
        while len(running) < WORKERS:
            trial = study.ask()
            params = {name: _suggested(trial, name, task.space[name]) for name in task.space.names}
            seconds = task.curve(params).seconds
            found += [task.point(at + float(s), params, e) for e, s in enumerate(seconds, 1) if at + s <= budget_s]
            heapq.heappush(running, (at + float(seconds[-1]), trial.number, trial, params))
        at, _, trial, params = heapq.heappop(running)
        study.tell(trial, list(task.metrics(params, task.epochs).values()))
    return sorted(found)


def _suggested(trial: Any, name: str, parameter: Any) -> float:  # noqa: ANN401  # Optuna's Trial, and any parameter
    suggest = trial.suggest_int if isinstance(parameter, Integer) else trial.suggest_float
    return suggest(name, parameter.low, parameter.high, log=parameter.log)  # type: ignore[no-any-return]  # Optuna's


# To add a peer, add a function of the kind `Policy`: one that runs elsewhere may start a process and read its points.
POLICIES: Final[dict[str, Policy]] = {
    "random": partial(ours, "random", "fifo", {}),
    "random + asha": partial(ours, "random", "asha", {}),
    "tpe + asha": partial(ours, "tpe", "asha", {}),
    "tpe + asha, promotion": partial(ours, "tpe", "asha", {"variant": "promotion"}),
    "tpe + hyperband": partial(ours, "tpe", "hyperband", {}),
    "tpe + median": partial(ours, "tpe", "median", {"interval_epochs": 5}),
    "Optuna NSGA-II": nsga2,
}


def load_tasks(count: int) -> dict[str, Task]:
    """The first `count` LCBench tasks of the shared curves."""
    folder = Path(os.environ.get("TUNEYARD_CURVES", ROOT.parent / "shared" / "curves"))
    spec = importlib.util.spec_from_file_location("curves", folder / "curves.py")
    if spec is None or spec.loader is None or not (folder / "curves.py").exists():
        msg = f"there are no curves in {folder}: set TUNEYARD_CURVES"
        raise SystemExit(msg)
    module = importlib.util.module_from_spec(spec)
    sys.modules["curves"] = module
    spec.loader.exec_module(module)
    names = [name for name in module.names() if name.startswith("lcbench:")][:count]
    return {name: _task(module.load(name)) for name in names}


def _task(curves: Any) -> Task:  # noqa: ANN401  # a Task of the shared file
    parameters = {
        p.name: Integer(int(p.low), int(p.high), p.log) if p.integer else Real(p.low, p.high, p.log)
        for p in curves.parameters
    }
    return Task(curves, Space(parameters))


def thinned(points: Sequence[Point], full_s: float) -> list[Point]:
    """The points that were on the front when they came, which is all that scores need; times in full trainings."""
    kept: list[Point] = []
    front: list[tuple[float, float]] = []
    for at, error, seconds in sorted(points):
        if not any(e <= error and s <= seconds for e, s in front):
            front = [(e, s) for e, s in front if not (error <= e and seconds <= s)] + [(error, seconds)]
            kept.append((round(at / full_s, 6), error, seconds))
    return kept


def scores(cells: list[dict[str, Any]]) -> dict[tuple[str, int], list[float]]:
    """(policy, budget) to the share of the best known hypervolume, one for each cell."""
    found: dict[tuple[str, int], list[float]] = {}
    for task in sorted({cell["task"] for cell in cells}):
        mine = [cell for cell in cells if cell["task"] == task]
        seen = [Observation((error, seconds)) for cell in mine for _, error, seconds in cell["points"]]
        front = [seen[i].losses for i in GOALS.pareto(seen)]
        corner = [max(c) + 0.1 * (max(c) - min(c)) for c in zip(*front, strict=True)]
        best = hypervolume([(error, seconds) for error, seconds in front], (corner[0], corner[1]))
        for cell in mine:
            for budget in BUDGETS:
                if budget <= cell["budget"]:
                    points = [(error, seconds) for at, error, seconds in cell["points"] if at <= budget]
                    share = hypervolume(points, (corner[0], corner[1])) / best
                    found.setdefault((cell["policy"], budget), []).append(share)
    return found


def main(arguments: Sequence[str] | None = None) -> int:
    """Run what is missing, then print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--tasks", type=int, default=4)
    parser.add_argument("--budget", type=int, default=4, help="full trainings per worker")
    parser.add_argument("--policies", nargs="*", default=list(POLICIES), choices=list(POLICIES))
    parser.add_argument("--output", type=Path, default=Path("multi_objective.jsonl"))
    given = parser.parse_args(arguments)
    cells = [json.loads(line) for line in given.output.read_text().splitlines()] if given.output.exists() else []
    done = {(cell["policy"], cell["task"], cell["seed"], cell["budget"]) for cell in cells}
    for name, task in load_tasks(given.tasks).items():
        for seed in range(given.seeds):
            for policy in given.policies:
                if (policy, name, seed, given.budget) in done:
                    continue
                points = thinned(POLICIES[policy](task, seed, given.budget * task.full_s), task.full_s)
                cells.append({"policy": policy, "task": name, "seed": seed, "budget": given.budget, "points": points})
                with given.output.open("a") as file:
                    file.write(json.dumps(cells[-1]) + "\n")
    found = scores([cell for cell in cells if cell["budget"] == given.budget])
    budgets = [budget for budget in BUDGETS if budget <= given.budget]
    print("| hypervolume, share of the best known |", " | ".join(f"{b} full" for b in budgets), "|")
    print("|---" * (1 + len(budgets)) + "|")
    for policy in dict.fromkeys(policy for policy, _ in found):
        row = [found[policy, budget] for budget in budgets]
        texts = [f"{statistics.fmean(v):.3f} ± {_error_of_mean(v):.3f}" for v in row]
        print(f"| {policy} |", " | ".join(texts), "|")
    return 0


def _error_of_mean(values: Sequence[float]) -> float:
    return statistics.stdev(values) / math.sqrt(len(values)) if len(values) > 1 else math.nan


if __name__ == "__main__":
    sys.exit(main())
