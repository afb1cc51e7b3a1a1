"""Ax with BoTorch: Bayesian optimisation of full trainings, as its Client does by default."""

from __future__ import annotations

import logging
from typing import Any

from ax.api.client import Client
from ax.api.configs import RangeParameterConfig

from tests.benchmarks.peers.wire import Decision, Parameter, Problem, Suggestion, serve


class Ax:
    """A client that is asked for one trial at a time."""

    def __init__(self, problem: Problem) -> None:
        self._epochs = problem.epochs
        self._client = Client(random_seed=problem.seed)
        self._client.configure_experiment([_range(p) for p in problem.space])
        self._client.configure_optimization("-loss")

    def suggest(self, now: float) -> Suggestion | None:  # noqa: ARG002  # it knows no time
        found: dict[int, Any] = self._client.get_next_trials(1)
        return next((Suggestion(number, config) for number, config in found.items()), None)

    def report(self, trial: int, epoch: int, value: float, now: float) -> Decision:  # noqa: ARG002  # it knows no time
        if epoch >= self._epochs:
            self._client.complete_trial(trial, {"loss": value})
        return "continue"

    def ended(self, trial: int) -> None:
        """Told in `report`."""


def _range(p: Parameter) -> object:
    bounds = (int(p.low), int(p.high)) if p.integer else (p.low, p.high)
    return RangeParameterConfig(p.name, bounds, "int" if p.integer else "float", scaling="log" if p.log else "linear")


if __name__ == "__main__":
    logging.disable(logging.WARNING)
    serve(Ax)
