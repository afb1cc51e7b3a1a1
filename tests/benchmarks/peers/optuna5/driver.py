"""Optuna 5: its TPE alone and with its own pruners, its Gaussian process, and a grid in random order."""

from __future__ import annotations

import optuna
from optuna.distributions import BaseDistribution, FloatDistribution, IntDistribution

from tests.benchmarks.peers.wire import Decision, Parameter, Problem, Suggestion, serve

GRID_POINTS = 3  # for 7 or 8 parameters: 2,187 or 6,561 points, of which a sweep sees few


class Optuna:
    """A study that is asked and told."""

    def __init__(self, problem: Problem) -> None:
        optuna.logging.set_verbosity(optuna.logging.ERROR)
        self._study = optuna.create_study(sampler=_sampler(problem), pruner=_pruner(problem))
        self._prunes = "pruner" in problem.options
        self._space = {p.name: _distribution(p) for p in problem.space}
        self._epochs = problem.epochs
        self._trials: dict[int, optuna.Trial] = {}

    def suggest(self, now: float) -> Suggestion | None:  # noqa: ARG002  # it knows no time
        trial = self._study.ask(self._space)
        self._trials[trial.number] = trial
        return Suggestion(trial.number, dict(trial.params))

    def report(self, trial: int, epoch: int, value: float, now: float) -> Decision:  # noqa: ARG002  # it knows no time
        known = self._trials[trial]
        if self._prunes:
            known.report(value, epoch)
        if epoch >= self._epochs:
            self._study.tell(known, value)
        elif self._prunes and known.should_prune():
            self._study.tell(known, state=optuna.trial.TrialState.PRUNED)
            return "stop"
        return "continue"

    def ended(self, trial: int) -> None:
        """Told in `report`."""


def _sampler(problem: Problem) -> optuna.samplers.BaseSampler:
    match problem.options["sampler"]:
        case "tpe":
            return optuna.samplers.TPESampler(seed=problem.seed)
        case "gp":
            return optuna.samplers.GPSampler(seed=problem.seed)
        case "grid":
            return optuna.samplers.GridSampler({p.name: _grid(p) for p in problem.space}, seed=problem.seed)
    raise KeyError(problem.options["sampler"])


def _pruner(problem: Problem) -> optuna.pruners.BasePruner:
    match problem.options.get("pruner"):
        case "halving":
            return optuna.pruners.SuccessiveHalvingPruner(min_resource=1, reduction_factor=3)
        case "hyperband":
            return optuna.pruners.HyperbandPruner(min_resource=1, max_resource=problem.epochs, reduction_factor=3)
    return optuna.pruners.NopPruner()


def _distribution(p: Parameter) -> BaseDistribution:
    if p.integer:
        return IntDistribution(int(p.low), int(p.high), log=p.log)
    return FloatDistribution(p.low, p.high, log=p.log)


def _grid(p: Parameter) -> list[float]:
    """The bounds and what lies evenly between them on the parameter's scale."""
    parts = [i / (GRID_POINTS - 1) for i in range(GRID_POINTS)]
    values = [p.low * (p.high / p.low) ** u if p.log else p.low + u * (p.high - p.low) for u in parts]
    bounded = [min(max(value, p.low), p.high) for value in values]
    return [round(value) for value in bounded] if p.integer else bounded


if __name__ == "__main__":
    serve(Optuna)
