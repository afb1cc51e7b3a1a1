"""Optuna 5: NSGA-II on full trainings; pruners and several objectives do not go together there."""

from __future__ import annotations

from typing import Any

import optuna
from optuna.distributions import BaseDistribution, FloatDistribution, IntDistribution

from tests.benchmarks.peers.wire import Decision, Parameter, Problem, Suggestion, serve


class Optuna:
    """A study that is asked and told."""

    def __init__(self, problem: Problem) -> None:
        optuna.logging.set_verbosity(optuna.logging.ERROR)
        sampler = optuna.samplers.NSGAIISampler(seed=problem.seed)
        self._study = optuna.create_study(directions=["minimize", "minimize"], sampler=sampler)
        self._space = {p.name: _distribution(p) for p in problem.space}
        self._epochs = problem.epochs

    def suggest(self, now: float) -> Suggestion | None:  # noqa: ARG002  # it knows no time
        trial = self._study.ask(self._space)
        return Suggestion(trial.number, dict(trial.params))

    def report(self, trial: int, epoch: int, value: Any, now: float) -> Decision:  # noqa: ANN401, ARG002  # two losses
        if epoch >= self._epochs:
            self._study.tell(trial, value)
        return "continue"

    def ended(self, trial: int) -> None:
        """Told in `report`."""


def _distribution(p: Parameter) -> BaseDistribution:
    if p.integer:
        return IntDistribution(int(p.low), int(p.high), log=p.log)
    return FloatDistribution(p.low, p.high, log=p.log)


if __name__ == "__main__":
    serve(Optuna)
