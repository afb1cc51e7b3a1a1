"""Syne Tune 0.16: multi-objective ASHA with its default order, non-dominated sorting; it draws at random."""

from __future__ import annotations

import logging
from datetime import UTC, datetime
from typing import Any

from syne_tune.backend.trial_status import Trial
from syne_tune.config_space import lograndint, loguniform, randint, uniform
from syne_tune.optimizer.schedulers.multiobjective.moasha import MOASHA

from tests.benchmarks.peers.wire import Decision, Parameter, Problem, Suggestion, serve


class SyneTune:
    """A scheduler of Syne Tune, called as its own Tuner calls it."""

    def __init__(self, problem: Problem) -> None:
        self._scheduler = MOASHA(
            {p.name: _domain(p) for p in problem.space}, metrics=["loss", "seconds"], time_attr="epoch",
            max_t=problem.epochs, grace_period=1, reduction_factor=3, random_seed=problem.seed,
        )  # fmt: skip
        self._trials: list[Trial] = []

    def suggest(self, now: float) -> Suggestion | None:
        config = self._scheduler.suggest().config
        trial = Trial(len(self._trials), config, datetime.fromtimestamp(now, UTC))
        self._trials.append(trial)
        self._scheduler.on_trial_add(trial)
        return Suggestion(trial.trial_id, config)

    def report(self, trial: int, epoch: int, value: Any, now: float) -> Decision:  # noqa: ANN401, ARG002  # two losses
        known = self._trials[trial]
        result = {"loss": value[0], "seconds": value[1], "epoch": epoch}
        if self._scheduler.on_trial_result(known, result) == "STOP":
            self._scheduler.on_trial_remove(known)
            return "stop"
        return "continue"

    def ended(self, trial: int) -> None:
        """Told in `report`: it stops what is complete, too."""


def _domain(p: Parameter) -> object:
    if p.integer:
        return (lograndint if p.log else randint)(int(p.low), int(p.high))
    return (loguniform if p.log else uniform)(p.low, p.high)


if __name__ == "__main__":
    logging.getLogger().setLevel(logging.ERROR)
    logging.getLogger("syne_tune").setLevel(logging.ERROR)
    serve(SyneTune)
