"""The fits of a finished sweep as its ledger tells them, and what is measured on them."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

from tests.benchmarks.claims.statistics import epochs_to


@dataclass(frozen=True, slots=True)
class Fit:
    """One training: its parameters, its seed (from 0), and its metrics by epoch. No epoch is left out.

    `is_whole` is false where it diverged: it then counts as worse than everything, and has reached nothing.
    """

    params: Mapping[str, Any]
    seed: int
    curve: Mapping[int, Mapping[str, float]]
    is_whole: bool = True

    def of(self, metric: str) -> dict[int, float]:
        """The metric's values by epoch."""
        return {epoch: values[metric] for epoch, values in self.curve.items()}

    def last(self, metric: str) -> float:
        """The metric's value after the last epoch."""
        return self.curve[max(self.curve)][metric]


Measure: TypeAlias = Callable[[Fit], float]
Arm: TypeAlias = Mapping[str, object]
BySeed: TypeAlias = dict[int, float]


def fits_of(folder: Path) -> list[Fit]:
    """All fits of a sweep. RuntimeError where one failed."""
    from service.spec.sweep_spec import SweepSpec
    from service.tuning.history import History, Status
    from service.tuning.ledger import read_ledger
    from service.tuning.sweep_folder import read_job

    history = History.of(SweepSpec.from_dict(read_job(folder).spec).objectives, read_ledger(folder))
    for trial in history.trials:
        if trial.status not in (Status.COMPLETED, Status.DIVERGED):
            msg = f"trial {trial.number} of {folder.name} is {trial.status}: {trial.cause}"
            raise RuntimeError(msg)
    return [Fit(t.params, t.seed_index, t.metrics, t.status is Status.COMPLETED) for t in history.trials]


def final(metric: str) -> Measure:
    """After the last epoch, whatever came before: nothing is chosen by looking."""
    return lambda fit: fit.last(metric) if fit.is_whole else math.nan


def after(metric: str, epoch: int) -> Measure:
    """After an epoch that was fixed before."""
    return lambda fit: fit.of(metric)[epoch] if fit.is_whole else math.nan


def epochs_until(metric: str, threshold: float, *, is_larger_better: bool, epochs: int) -> Measure:
    """Epochs until the metric is at least as good as the threshold; one more than there are where it never is."""

    def measured(fit: Fit) -> float:
        curve = fit.of(metric) if fit.is_whole else {}
        return epochs_to(curve, threshold, is_larger_better=is_larger_better, never=epochs + 1)

    return measured


def is_in(fit: Fit, arm: Arm) -> bool:
    """Whether the fit has the arm's value of each parameter that the arm names."""
    return all(fit.params.get(name) == value for name, value in arm.items())


def by_seed(fits: Iterable[Fit], arm: Arm, measure: Measure) -> BySeed:
    """The measure of the one fit per seed that an arm has. ValueError where there are several."""
    found: BySeed = {}
    for fit in fits:
        if is_in(fit, arm):
            if fit.seed in found:
                msg = f"{dict(arm)} has several fits with seed {fit.seed}: name another parameter, or tune"
                raise ValueError(msg)
            found[fit.seed] = measure(fit)
    return found


@dataclass(frozen=True, slots=True)
class Choice:
    """By what the parameters that an arm leaves open are chosen."""

    measure: Measure
    is_larger_better: bool


def tuned(fits: Iterable[Fit], arm: Arm, choice: Choice, measure: Measure | None = None) -> BySeed:
    """The measure of an arm by seed, with its other parameters as is best by `choice` in the mean over all other seeds.

    So what is measured had no part in the choice. Without a measure it is that of the choice.
    """
    table: dict[str, dict[int, Fit]] = {}
    for fit in fits:
        if is_in(fit, arm):
            table.setdefault(repr(sorted(fit.params.items())), {})[fit.seed] = fit
    seeds = sorted({seed for found in table.values() for seed in found})
    wanted = measure or choice.measure
    return {seed: wanted(_chosen(table.values(), seed, choice)[seed]) for seed in seeds}


def _chosen(configurations: Iterable[dict[int, Fit]], seed: int, choice: Choice) -> dict[int, Fit]:
    def loss(found: dict[int, Fit]) -> float:
        others = [choice.measure(fit) for other, fit in found.items() if other != seed]
        mean = sum(others) / len(others)
        return math.inf if math.isnan(mean) else -mean if choice.is_larger_better else mean

    return min(configurations, key=loss)


def differences(one: BySeed, other: BySeed, scale: float = 1.0) -> list[float]:
    """`one - other` for each seed, times `scale`. ValueError where a seed lacks one of them."""
    if one.keys() != other.keys() or any(math.isnan(v) for v in (*one.values(), *other.values())):
        msg = f"seeds {sorted(one)} and {sorted(other)} do not pair, or a chosen fit diverged"
        raise ValueError(msg)
    return [scale * (one[seed] - other[seed]) for seed in sorted(one)]


def savings(one: BySeed, other: BySeed) -> list[float]:
    """By how much smaller `one` is than `other`, for each seed, as a percentage of the latter."""
    return [100 * saved / other[seed] for saved, seed in zip(differences(other, one), sorted(one), strict=True)]
