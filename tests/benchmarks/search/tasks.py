"""The real learning curves that the search is measured on, as tasks of the simulator and as a search space.

The curves lie outside the repository: in `../shared/curves`, or where TUNEYARD_CURVES says. A searcher sees what was
observed; scores are computed from what is true.
"""

from __future__ import annotations

import importlib.util
import os
import sys
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any, Final

from service.spec.objective import Objective, Objectives
from service.spec.space import Integer, Params, Real, Space
from tests.benchmarks.search import environments
from tests.simulator import Curves

METRIC: Final = "loss"
SECONDS: Final = "epoch_s"
TWO: Final = " & seconds"  # ends the name of a task that also wants epochs to be short
MOST_SECONDS: Final = 2.0  # full trainings: beyond, a configuration counts as useless
SHORT_TASKS: Final = (
    "lcbench:7593",
    "lcbench:126026",
    "lcbench:167184",
    "lcbench:168330",
    "lcbench:189906",
    "taskset:patch32_VRNN64_relu_avg_bs128",
)


@dataclass
class CurveTask:
    """One training problem, with the noise of one seed. `t_full_s`: mean seconds of a full training."""

    name: str
    seed: int
    curves: Any
    space: Space
    is_double: bool = False
    _known: dict[tuple[float, ...], Any] = field(default_factory=dict)

    @property
    def epochs(self) -> int:
        return int(self.curves.epochs)

    @property
    def t_full_s(self) -> float:
        return float(self.curves.t_full)

    @property
    def objectives(self) -> Objectives:
        """The loss, and in a double task the mean seconds of an epoch."""
        return Objectives((Objective(METRIC), Objective(SECONDS)) if self.is_double else (Objective(METRIC),))

    def curve(self, params: Params) -> Any:  # noqa: ANN401  # a Curve of the shared file
        """The whole curve of `params`, with `observed`, `true` and `seconds` by epoch."""
        key = tuple(float(params[name]) for name in self.space)
        if key not in self._known:
            self._known[key] = self.curves.evaluate(params, self.seed)
        return self._known[key]

    def metrics(self, params: Params, epoch: int) -> dict[str, float]:
        """What a searcher sees of `epoch`."""
        seen = {METRIC: float(self.curve(params).observed[epoch - 1])}
        return {**seen, SECONDS: self.epoch_s(params, epoch)} if self.is_double else seen

    def epoch_s(self, params: Params, epoch: int) -> float:
        """Mean seconds of the epochs up to `epoch`."""
        return float(self.curve(params).seconds[epoch - 1]) / epoch

    def share(self, params: Params, epoch: int) -> float:
        """0 where an epoch takes no time, 1 where a full training would take `MOST_SECONDS` usual ones."""
        return self.epoch_s(params, epoch) * self.epochs / self.t_full_s / MOST_SECONDS

    def regret(self, params: Params, epoch: int) -> float:
        """0 at the best reachable value, 1 at a median random configuration's final value."""
        best, reference = self.curves.best, self.curves.ref
        return float((self.curve(params).true[epoch - 1] - best) / (reference - best))

    def seconds(self, params: Params, epoch: int) -> float:
        """What `epoch` itself takes."""
        ends = self.curve(params).seconds
        return float(ends[epoch - 1] - (ends[epoch - 2] if epoch > 1 else 0.0))

    def simulated(self) -> Curves:
        """The same as the simulator wants it."""
        return Curves(self.metrics, self.seconds)


def load(name: str, seed: int) -> CurveTask:
    """The task called `name`, where that ends with `TWO` with two objectives; KeyError where there is none."""
    curves = _module().load(name.removesuffix(TWO))
    space = Space({p.name: _parameter(p) for p in curves.parameters})
    return CurveTask(name, seed, curves, space, name.endswith(TWO))


def names() -> list[str]:
    """Every task there is."""
    return list(_module().names())


def _parameter(given: Any) -> Real | Integer:  # noqa: ANN401  # a Parameter of the shared file
    if given.integer:
        return Integer(int(given.low), int(given.high), given.log)
    return Real(float(given.low), float(given.high), given.log)


@cache
def _module() -> Any:  # noqa: ANN401  # a module outside the repository
    folder = Path(os.environ.get("TUNEYARD_CURVES", environments.ROOT / ".." / "shared" / "curves")).resolve()
    if not (folder / "curves.py").is_file():
        sys.exit(f"no learning curves in {folder}; set TUNEYARD_CURVES to the folder that holds curves.py")
    environments.add_curves_runtime()
    spec = importlib.util.spec_from_file_location("tuneyard_curves", folder / "curves.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module
