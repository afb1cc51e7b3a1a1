"""How good a configuration each searcher finds in 40 full evaluations, beside Optuna's TPE: prints a table.

python tests/benchmarks/searcher_strength.py --seeds 20
"""

from __future__ import annotations

import argparse
import math
import statistics
import sys
import time
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import optuna

ROOT = Path(__file__).resolve().parent.parent.parent
sys.path.insert(0, str(ROOT))

from service import plugins  # noqa: E402  # after the path is known
from service.spec.objective import Objective, Objectives  # noqa: E402  # as above
from service.spec.space import Choice, Integer, Params, Real, Space  # noqa: E402  # as above
from service.tuning.strategy import Problem  # noqa: E402  # as above
from tests.simulator import Curves, Simulation, best_loss  # noqa: E402  # as above

OBJECTIVES = Objectives((Objective("loss"),))
EVALUATIONS = 40
HARTMANN_A = (
    (10, 3, 17, 3.5, 1.7, 8),
    (0.05, 10, 17, 0.1, 8, 14),
    (3, 3.5, 1.7, 10, 17, 8),
    (17, 8, 0.05, 10, 0.1, 14),
)
HARTMANN_P = (
    (0.1312, 0.1696, 0.5569, 0.0124, 0.8283, 0.5886), (0.2329, 0.4135, 0.8307, 0.3736, 0.1004, 0.9991),
    (0.2348, 0.1451, 0.3522, 0.2883, 0.3047, 0.6650), (0.4047, 0.8828, 0.8732, 0.5743, 0.1091, 0.0381),
)  # fmt: skip


def branin(p: Params) -> float:
    x, y = p["x"], p["y"]
    return float((y - 5.1 / (4 * math.pi**2) * x**2 + 5 / math.pi * x - 6) ** 2
                 + 10 * (1 - 1 / (8 * math.pi)) * math.cos(x) + 10)  # fmt: skip


def hartmann6(p: Params) -> float:
    x = [p[f"x{i}"] for i in range(6)]
    return -sum(
        c * math.exp(-sum(a * (v - q) ** 2 for a, v, q in zip(HARTMANN_A[k], x, HARTMANN_P[k], strict=True)))
        for k, c in enumerate((1.0, 1.2, 3.0, 3.2))
    )


def mixed4(p: Params) -> float:
    penalty = {"sgd": 0.05, "adam": 0.0, "rms": 0.1}[p["optimizer"]]
    return float(
        0.1 * (math.log10(p["lr"]) + 2.5) ** 2 + 0.01 * (p["layers"] - 4) ** 2 + (p["drop"] - 0.3) ** 2 + penalty
    )


def rosenbrock12(p: Params) -> float:
    x = [p[f"x{i}"] for i in range(12)]
    return math.sqrt(sum(100 * (b - a * a) ** 2 + (1 - a) ** 2 for a, b in pairwise(x)))


def conditional6(p: Params) -> float:
    if p["kind"] == "a":
        return float(0.3 + (math.log10(p["lr"]) + 2) ** 2 / 4 + (p["momentum"] - 0.9) ** 2)
    return float((math.log10(p["lr"]) + 3) ** 2 / 4 + abs(p["depth"] - 6) / 10 + 0.1 * (p["norm"] != "layer"))


def ackley8(p: Params) -> float:
    x = [p[f"x{i}"] - 0.37 * i / 8 for i in range(8)]
    return (
        -20 * math.exp(-0.2 * math.sqrt(statistics.fmean(v * v for v in x)))
        - math.exp(statistics.fmean(math.cos(2 * math.pi * v) for v in x)) + 20 + math.e
    )  # fmt: skip


TASKS: dict[str, tuple[Callable[[Params], float], Space]] = {
    "branin": (branin, Space({"x": Real(-5, 10), "y": Real(0, 15)})),
    "hartmann6": (hartmann6, Space({f"x{i}": Real(0, 1) for i in range(6)})),
    "mixed4": (mixed4, Space({"lr": Real(1e-5, 1, log=True), "layers": Integer(1, 10), "drop": Real(0, 0.9),
                              "optimizer": Choice(("sgd", "adam", "rms"))})),
    "rosenbrock12^.5": (rosenbrock12, Space({f"x{i}": Real(-2, 2) for i in range(12)})),
    "conditional6": (conditional6, Space({
        "kind": Choice(("a", "b")), "lr": Real(1e-5, 1e-1, log=True),
        "momentum": Real(0.5, 0.99, when={"kind": ("a",)}), "depth": Integer(1, 12, when={"kind": ("b",)}),
        "norm": Choice(("none", "batch", "layer"), when={"kind": ("b",)})})),
    "ackley8": (ackley8, Space({f"x{i}": Real(-5, 5) for i in range(8)})),
}  # fmt: skip


def ours(searcher: str, task: str, seed: int, workers: int) -> float:
    function, space = TASKS[task]
    search, scheduler = plugins.find("searchers", searcher), plugins.find("schedulers", "fifo")
    problem = Problem(space, OBJECTIVES, (1,), seed)
    simulation = Simulation(
        OBJECTIVES,
        search.build(search.Options(), problem),
        scheduler.build(scheduler.Options(max_epochs=1), problem),
        Curves(lambda params, epoch: {"loss": function(params)}),  # noqa: ARG005  # a single epoch
        workers=workers,
        max_trials=EVALUATIONS,
    )
    return best_loss(simulation.run())


def optuna_tpe(task: str, seed: int, workers: int) -> float:
    """Optuna's TPE with its defaults; `workers` proposals at a time, told together."""
    function, space = TASKS[task]
    study = optuna.create_study(sampler=optuna.samplers.TPESampler(seed=seed))
    for _ in range(EVALUATIONS // workers):
        asked = [study.ask() for _ in range(workers)]
        values = [function(_suggest(trial, space)) for trial in asked]
        for trial, value in zip(asked, values, strict=True):
            study.tell(trial, value)
    return float(study.best_value)


def _suggest(trial: optuna.Trial, space: Space) -> Params:
    params: dict[str, Any] = {}
    for name, parameter in space.items():
        if not space.is_active(name, params):
            continue
        if isinstance(parameter, Choice):
            params[name] = trial.suggest_categorical(name, list(parameter.values))
        elif isinstance(parameter, Integer):
            params[name] = trial.suggest_int(name, parameter.low, parameter.high, log=parameter.log)
        elif isinstance(parameter, Real):
            params[name] = trial.suggest_float(name, parameter.low, parameter.high, log=parameter.log)
    return params


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--tasks", nargs="*", default=list(TASKS))
    parser.add_argument("--searchers", nargs="*", default=["random", "sobol", "optuna", "tpe"])
    options = parser.parse_args()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    print(
        f"mean best of {EVALUATIONS} evaluations (± standard error), {options.seeds} seeds, {options.workers} at a time"
    )
    print(f"{'task':16}" + "".join(f"{name:>22}" for name in options.searchers), flush=True)
    for task in options.tasks:
        cells = []
        for name in options.searchers:
            run = optuna_tpe if name == "optuna" else lambda *a, name=name: ours(name, *a)
            began = time.perf_counter()
            found = [run(task, seed, options.workers) for seed in range(options.seeds)]
            error = statistics.stdev(found) / math.sqrt(len(found))
            took = (time.perf_counter() - began) / options.seeds / EVALUATIONS
            cells.append(f"{statistics.fmean(found):9.4f} ±{error:6.4f} {1000 * took:3.0f}ms")
        print(f"{task:16}" + "".join(f"{cell:>22}" for cell in cells), flush=True)


if __name__ == "__main__":
    main()
