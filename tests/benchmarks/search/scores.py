"""Scores from stored results alone: regret at each budget, ranks, time to random search's end, tests per task.

Intervals are bootstrapped over tasks and, within each, over seeds. Policies are compared on the cells that each has.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from scipy import stats

from tests.benchmarks.search.cells import Result

REFERENCE: Final = "random"
CONTROL: Final = "random+asha"
RESAMPLES: Final = 2000
SIGNIFICANT: Final = 0.05
TINY: Final = 1e-9
MOMENTS: Final = 4.0 ** (np.arange(-36, 25) / 12.0)  # 1/64 to 16 full trainings, with 1, 4 and 16 among them

Problem = tuple[str, int, int]
Interval = tuple[float, float, float]


@dataclass(frozen=True)
class Table:
    """Regret of each policy over `MOMENTS`, by problem (task, seed, workers)."""

    curves: Mapping[str, Mapping[Problem, np.ndarray]]

    @classmethod
    def of(cls, results: Iterable[Result]) -> Table:
        curves: dict[str, dict[Problem, np.ndarray]] = {}
        for result in results:
            regrets = [result.regret_at(t) if t <= result.budget * (1 + 1e-9) else np.nan for t in MOMENTS]
            curves.setdefault(result.policy, {})[result.cell.problem] = np.array(regrets)
        return cls(curves)

    def restricted(self, workers: int) -> Table:
        """Problems with so many workers only."""
        kept = {name: {p: c for p, c in found.items() if p[2] == workers} for name, found in self.curves.items()}
        return Table({name: found for name, found in kept.items() if found})

    def regrets(self, policy: str, budget: float) -> dict[Problem, float]:
        """The regret at `budget` by problem, where the run was that long."""
        place = moment(budget)
        found = {problem: float(curve[place]) for problem, curve in self.curves.get(policy, {}).items()}
        return {problem: regret for problem, regret in found.items() if not np.isnan(regret)}

    def mean_regret(self, policy: str, budget: float) -> Interval:
        """(mean over tasks, and its 95 % interval)."""
        return bootstrapped(self.regrets(policy, budget))

    def comparable(self, budget: float) -> tuple[list[str], list[Problem]]:
        """Policies with every task that any has, and the problems that all of these have solved."""
        solved = {name: set(self.regrets(name, budget)) for name in self.curves}
        tasks = {problem[0] for found in solved.values() for problem in found}
        policies = [name for name, found in solved.items() if {problem[0] for problem in found} == tasks]
        return policies, sorted(set.intersection(*(solved[name] for name in policies))) if policies else []

    def mean_ranks(self, budget: float) -> dict[str, Interval]:
        """The mean rank of each comparable policy over the problems that all solved; ties share their ranks."""
        policies, common = self.comparable(budget)
        if not common:
            return {}
        regrets = [self.regrets(name, budget) for name in policies]
        ranks = stats.rankdata([[found[problem] for found in regrets] for problem in common], axis=1)
        return {name: bootstrapped(dict(zip(common, ranks[:, i], strict=True))) for i, name in enumerate(policies)}

    def ratio(self, policy: str, other: str, budget: float) -> Interval:
        """The mean regret of `policy` as a share of that of `other`, on the problems that both solved."""
        own, theirs = self.regrets(policy, budget), self.regrets(other, budget)
        both = {problem: np.array([own[problem], theirs[problem]]) for problem in sorted(set(own) & set(theirs))}
        if not both:
            return (np.nan, np.nan, np.nan)
        means = resampled_means(both)
        return _interval(means[:, 0] / np.maximum(means[:, 1], TINY))

    def time_share(self, policy: str, budget: float) -> Interval:
        """Time until the mean curve is where random search ends, as a share of its own time; inf if it never is."""
        own, other = self.curves.get(policy, {}), self.curves.get(REFERENCE, {})
        place = moment(budget)
        both = {
            problem: np.stack([own[problem][: place + 1], other[problem][: place + 1]])
            for problem in sorted(set(own) & set(other))
            if not (np.isnan(own[problem][place]) or np.isnan(other[problem][place]))
        }
        if not both:
            return (np.nan, np.nan, np.nan)
        return _interval(np.array([_time_share(mean) for mean in resampled_means(both)]))

    def against(self, policy: str, budget: float, control: str = CONTROL) -> dict[str, tuple[float, float]]:
        """By task, (mean difference to `control`, p of a two-sided Wilcoxon test over seeds); positive is worse."""
        own, other = self.regrets(policy, budget), self.regrets(control, budget)
        differences: dict[str, list[float]] = {}
        for problem in sorted(set(own) & set(other)):
            differences.setdefault(problem[0], []).append(own[problem] - other[problem])
        return {task: (float(np.mean(found)), _wilcoxon(found)) for task, found in differences.items()}


def moment(budget: float) -> int:
    """The place of `budget` among `MOMENTS`."""
    return int(np.argmin(np.abs(np.log(MOMENTS / budget))))


def bootstrapped(values: Mapping[Problem, float]) -> Interval:
    """(mean over tasks of the mean over seeds, 2.5 %, 97.5 %)."""
    if not values:
        return (np.nan, np.nan, np.nan)
    means = resampled_means({problem: np.array([value]) for problem, value in values.items()})
    return _interval(means[:, 0])


def resampled_means(values: Mapping[Problem, np.ndarray]) -> np.ndarray:
    """Means over tasks of means over seeds: the first of all values, then of resampled tasks and seeds."""
    by_task: dict[str, list[np.ndarray]] = {}
    for problem in sorted(values):
        by_task.setdefault(problem[0], []).append(values[problem])
    groups = [np.stack(found) for found in by_task.values()]
    rng = np.random.default_rng(0)
    total = np.zeros((RESAMPLES, *groups[0].shape[1:]))
    for _ in groups:  # as many tasks as there are, each time drawn anew, and so are its seeds
        drawn = rng.integers(len(groups), size=RESAMPLES)
        for i, group in enumerate(groups):
            here = np.flatnonzero(drawn == i)
            total[here] += group[rng.integers(len(group), size=(len(here), len(group)))].mean(axis=1)
    plain = np.mean([group.mean(axis=0) for group in groups], axis=0)
    return np.concatenate([plain[None], total / len(groups)])


def _interval(values: np.ndarray) -> Interval:
    low, high = np.quantile(values[1:], [0.025, 0.975], method="nearest")  # inf has no neighbours
    return float(values[0]), float(low), float(high)


def _time_share(both: np.ndarray) -> float:
    own, other = both
    end = other[-1]
    moments = MOMENTS[: both.shape[-1]]
    return _first(own, moments, end) / _first(other, moments, end)


def _first(curve: np.ndarray, moments: np.ndarray, level: float) -> float:
    """When `curve` falls to `level`; inf where it never does."""
    reached = np.flatnonzero(curve <= level + 1e-12)
    return float(moments[reached[0]]) if len(reached) else np.inf


def _wilcoxon(differences: Sequence[float]) -> float:
    if len(differences) < 2 or not any(differences):  # one pair shows nothing
        return 1.0
    return float(stats.wilcoxon(differences, zero_method="zsplit").pvalue)
