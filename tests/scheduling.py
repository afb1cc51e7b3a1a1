"""Schedulers under simulation, for the tests of schedulers: qualities in a chosen order, curves that never cross."""

from __future__ import annotations

import math
import random
from dataclasses import replace
from typing import Any

from service import plugins
from service.spec.objective import Objective, Objectives
from service.spec.space import Choice, Params, Real, Space
from service.tuning.history import History
from service.tuning.strategy import Problem, Scheduler
from tests.simulator import Curves, Simulation, Task

ONE = Objectives((Objective("loss"),))
SPACE = Space({"q": Real(0, 1), "pace": Real(0.5, 2), "kind": Choice(("a", "b"))})


def built(
    name: str, options: dict[str, Any], objectives: Objectives = ONE, *, max_epochs: int = 27, seed: int = 0
) -> Scheduler:
    module = plugins.find("schedulers", name)
    parsed = module.Options(max_epochs=max_epochs, **options)
    found: Scheduler = module.build(parsed, Problem(SPACE, objectives, module.rungs(parsed), seed))
    return found


class Listed:
    """Proposes one quality after the other."""

    def __init__(self, qualities: list[float]) -> None:
        self.qualities = qualities

    def propose(self, history: History) -> Params | None:
        number = len(history.trials)
        if number >= len(self.qualities):
            return None
        return {"q": self.qualities[number], "pace": 0.5 + (number % 4) / 2, "kind": "a"}


def declining(params: Params, epoch: int) -> dict[str, float]:
    """Curves that never cross: a lower q is better at every epoch."""
    return {"loss": params["q"] + math.exp(-epoch / 5), "acc": 1 - params["q"], "size": 1.0}


def simulated(scheduler: Scheduler, qualities: list[float], **changes: Any) -> Simulation:  # noqa: ANN401  # fields
    task: Task = Curves(declining, lambda params, epoch: params["pace"] + 0 * epoch)
    simulation = Simulation(ONE, Listed(qualities), scheduler, task, max_trials=None)
    return replace(simulation, **changes) if changes else simulation


def shuffled(count: int, seed: int = 0) -> list[float]:
    """Even qualities in random order, the best in the middle; the worst comes after three quarters."""
    middle = [i / count for i in range(1, count - 1)]
    random.Random(seed).shuffle(middle)
    half, late = count // 2, 3 * count // 4
    return [*middle[:half], 0.0, *middle[half:late], 1.0, *middle[late:]]
