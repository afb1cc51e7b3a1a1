"""Cells of the benchmark and what is kept of them: one line a cell, one file a policy, so that a run goes on.

A cell is one policy on one task with one seed and so many workers. Its result is the incumbent's regret over time.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path

from service.spec.objective import Observation
from service.tuning.events import AttemptStarted, Params, Record, Reported, TrialProposed
from service.tuning.hypervolume import hypervolume
from tests.benchmarks.search.tasks import METRIC, CurveTask

DIGITS = 5


@dataclass(frozen=True, order=True)
class Cell:
    """One simulated sweep to be run; `policy` is its name in the tables."""

    policy: str
    task: str
    seed: int
    workers: int

    @property
    def problem(self) -> tuple[str, int, int]:
        """What all policies have in common."""
        return self.task, self.seed, self.workers


@dataclass(frozen=True)
class Result:
    """What a cell showed.

    `steps`: (time, regret) at each change of the incumbent, time in full trainings per worker; `budget` likewise.
    `version` says which code it was; `seconds` is real time, nearly all of it the policy's own.
    """

    policy: str
    task: str
    seed: int
    workers: int
    budget: float
    version: str
    trials: int
    epochs: int
    seconds: float
    steps: tuple[tuple[float, float], ...]

    @property
    def cell(self) -> Cell:
        return Cell(self.policy, self.task, self.seed, self.workers)

    def regret_at(self, time: float) -> float:
        """The incumbent's regret at `time`; 1, a median random configuration's, before anything was seen."""
        known = 1.0
        for at, regret in self.steps:
            if at > time:
                break
            known = regret
        return known


def incumbents(task: CurveTask, records: Iterable[Record], budget_s: float) -> list[tuple[float, float]]:
    """(time, true regret) whenever the lowest value observed so far changes; what comes after the budget is cut."""
    params: dict[int, Params] = {}
    steps: list[tuple[float, float]] = []
    lowest = float("inf")
    for record in records:
        event = record.event
        at = record.at - 1.0
        if isinstance(event, TrialProposed | AttemptStarted):
            params[event.trial] = event.params
        if not isinstance(event, Reported) or at > budget_s * (1 + 1e-9) or not event.metrics[METRIC] < lowest:
            continue
        lowest = event.metrics[METRIC]
        regret = round(task.regret(params[event.trial], event.epoch), DIGITS)
        steps.append((round(at / task.t_full_s, DIGITS), regret))
    return steps


def fronts(task: CurveTask, records: Iterable[Record], budget_s: float) -> list[tuple[float, float]]:
    """(time, what of the unit square the Pareto front leaves undominated) whenever the observed front changes.

    The front is that of all epochs observed so far; its area is computed from their true values.
    """
    params: dict[int, Params] = {}
    steps: list[tuple[float, float]] = []
    front: list[tuple[Observation, tuple[float, float]]] = []
    for record in records:
        event, at = record.event, record.at - 1.0
        if isinstance(event, TrialProposed | AttemptStarted):
            params[event.trial] = event.params
        if not isinstance(event, Reported) or at > budget_s * (1 + 1e-9):
            continue
        seen = task.objectives.observe(event.metrics)
        if any(known.dominates(seen) or known == seen for known, _ in front):
            continue
        own = params[event.trial]
        true = (task.regret(own, event.epoch), task.share(own, event.epoch))
        front = [(known, place) for known, place in front if not seen.dominates(known)] + [(seen, true)]
        inside = [(max(0.0, first), max(0.0, second)) for _, (first, second) in front]
        left = round(1.0 - hypervolume(inside, (1.0, 1.0)), DIGITS)
        if not steps or left != steps[-1][1]:
            steps.append((round(at / task.t_full_s, DIGITS), left))
    return steps


class Store:
    """Results in a folder; the newest line of a cell counts."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        folder.mkdir(parents=True, exist_ok=True)

    def results(self, policies: Iterable[str]) -> dict[Cell, Result]:
        """What is known of `policies`."""
        found: dict[Cell, Result] = {}
        for policy in policies:
            path = self._path(policy)
            for line in path.read_text().splitlines() if path.is_file() else ():
                result = _read(line)
                if result is not None and result.policy == policy:
                    found[result.cell] = result
        return found

    def policies(self) -> list[str]:
        """Every policy with a result here."""
        lines = [path.read_text().splitlines() for path in sorted(self._folder.glob("*.jsonl"))]
        return list(dict.fromkeys(result.policy for found in lines for line in found if (result := _read(line))))

    def add(self, result: Result) -> None:
        """Append and flush."""
        with self._path(result.policy).open("a") as file:
            file.write(json.dumps(asdict(result), separators=(",", ":")) + "\n")

    def _path(self, policy: str) -> Path:
        return self._folder / (re.sub(r"[^A-Za-z0-9.+=-]+", "_", policy) + ".jsonl")


def _read(line: str) -> Result | None:
    """None for a line that a killed run left unfinished."""
    try:
        fields = json.loads(line)
    except json.JSONDecodeError:
        return None
    return Result(**{**fields, "steps": tuple((time, regret) for time, regret in fields["steps"])})
