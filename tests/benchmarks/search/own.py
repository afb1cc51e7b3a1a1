"""Our own policies: a searcher and a scheduler by their names in the sweep file, driven by the real decision core."""

from __future__ import annotations

import hashlib
import time
from dataclasses import dataclass, field
from functools import cache
from typing import Any, Final, Self

import yaml

from service import plugins
from service.spec.sections import SchedulerSection, SearchSection
from service.tuning.strategy import Problem
from tests.benchmarks.search import tasks
from tests.benchmarks.search.cells import Cell, Result, fronts, incumbents
from tests.benchmarks.search.environments import ROOT
from tests.simulator import Simulation

DECIDED_BY: Final = (
    "service/tuning/**/*.py",
    "service/spec/space.py",
    "service/spec/distributions.py",
    "service/spec/objective.py",
)
NOT_DECIDED_BY: Final = ("report", "track", "trial", "tune_", "lightning", "signature", "ray_", "storage", "taking")


@dataclass(frozen=True)
class Own:
    """A searcher and a scheduler with their options, as beside their names in the sweep file."""

    searcher: str
    scheduler: str
    search_options: dict[str, Any] = field(default_factory=dict)
    scheduler_options: dict[str, Any] = field(default_factory=dict)

    @classmethod
    def parse(cls, text: str) -> Self:
        """Reads `tpe+asha`, or with options `tpe:n_startup=5+asha:variant=promotion,reduction_factor=4`."""
        (searcher, search_options), (scheduler, scheduler_options) = map(_named, text.split("+", 1))
        return cls(searcher, scheduler, search_options, scheduler_options)

    @property
    def version(self) -> str:
        """Changes with our sources."""
        return sources_version()

    @property
    def is_dear(self) -> bool:
        """No policy of ours is."""
        return False

    def simulation(self, task: tasks.CurveTask, seed: int, workers: int, budget: float) -> Simulation:
        """The sweep on `task`, ready to run; `budget` in full trainings per worker."""
        search, schedule = plugins.find("searchers", self.searcher), plugins.find("schedulers", self.scheduler)
        options = schedule.Options(max_epochs=task.epochs, **self.scheduler_options)
        problem = Problem(task.space, task.objectives, tuple(schedule.rungs(options)), seed)
        return Simulation(
            task.objectives,
            search.build(search.Options(**self.search_options), problem),
            schedule.build(options, problem),
            task.simulated(),
            workers=workers,
            max_trials=None,
            wall_clock_s=budget * task.t_full_s,
        )

    def run(self, cell: Cell, budget: float) -> Result:
        """The cell's result."""
        task = tasks.load(cell.task, cell.seed)
        return played(cell, budget, task, self.simulation(task, cell.seed, cell.workers, budget), self.version)


def played(cell: Cell, budget: float, task: tasks.CurveTask, simulation: Simulation, version: str) -> Result:
    """Runs `simulation` and keeps what counts; RuntimeError where a part of it failed on the way."""
    scored = fronts if task.is_double else incumbents
    began = time.perf_counter()
    history = simulation.run()
    took = time.perf_counter() - began
    if simulation.decider.warnings:
        msg = f"{cell}: {simulation.decider.warnings[0]}"
        raise RuntimeError(msg)
    return Result(
        cell.policy, cell.task, cell.seed, cell.workers, budget, version, len(history.trials), history.epochs_trained,
        round(took, 2), tuple(scored(task, simulation.records, budget * task.t_full_s)),
    )  # fmt: skip


OWN: Final = {
    "tuneyard": Own(SearchSection.model_fields["name"].default, SchedulerSection.model_fields["name"].default),
    "tpe+asha": Own("tpe", "asha"),
    "random+asha": Own("random", "asha"),
    "sobol+asha-promotion": Own("sobol", "asha", {}, {"variant": "promotion"}),
    "random": Own("random", "fifo"),
    "grid": Own("grid", "fifo"),
}


@cache
def sources_version() -> str:
    """Changes with any file of ours that a decision may depend on."""
    digest = hashlib.sha256()
    paths = sorted({path for pattern in DECIDED_BY for path in ROOT.glob(pattern)})
    for path in paths:
        if not path.name.startswith(NOT_DECIDED_BY):
            digest.update(path.read_bytes())
    return digest.hexdigest()[:10]


def _named(text: str) -> tuple[str, dict[str, Any]]:
    name, _, given = text.partition(":")
    pairs = [option.partition("=") for option in given.split(",") if option]
    return name, {key: yaml.safe_load(value) for key, _, value in pairs}
