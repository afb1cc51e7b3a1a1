"""Syne Tune 0.16: ASHA, BOHB, and conformal quantile regression on ASHA, which stops trials in this release."""

from __future__ import annotations

import logging
from datetime import UTC, datetime
from typing import Final

from syne_tune.backend.trial_status import Trial
from syne_tune.config_space import lograndint, loguniform, randint, uniform
from syne_tune.optimizer import baselines

from tests.benchmarks.peers.wire import Decision, Parameter, Problem, Suggestion, serve

KINDS: Final = {"asha": "ASHA", "bohb": "BOHB", "cqr": "ASHACQR"}


class SyneTune:
    """A scheduler of Syne Tune, called as its own Tuner calls it."""

    def __init__(self, problem: Problem) -> None:
        self._names = tuple(p.name for p in problem.space)
        self._epochs = problem.epochs
        self._scheduler = getattr(baselines, KINDS[problem.options["kind"]])(
            {p.name: _domain(p) for p in problem.space}, metric="loss", time_attr="epoch", max_t=problem.epochs,
            grace_period=1, reduction_factor=3, random_seed=problem.seed,
        )  # fmt: skip
        self._trials: list[Trial] = []

    def suggest(self, now: float) -> Suggestion | None:
        found = self._scheduler.suggest()
        if found is None:
            return None
        trial = Trial(len(self._trials), found.config, datetime.fromtimestamp(now, UTC))
        self._trials.append(trial)
        self._scheduler.on_trial_add(trial)
        return Suggestion(trial.trial_id, {name: found.config[name] for name in self._names})

    def report(self, trial: int, epoch: int, value: float, now: float) -> Decision:  # noqa: ARG002  # it knows no time
        known, result = self._trials[trial], {"loss": value, "epoch": epoch}
        if self._scheduler.on_trial_result(known, result) == "STOP":
            self._scheduler.on_trial_remove(known)
            return "stop"
        if epoch >= self._epochs:
            self._scheduler.on_trial_complete(known, result)
        return "continue"

    def ended(self, trial: int) -> None:
        """Told in `report`."""


def _domain(p: Parameter) -> object:
    if p.integer:
        return (lograndint if p.log else randint)(int(p.low), int(p.high))
    return (loguniform if p.log else uniform)(p.low, p.high)


if __name__ == "__main__":
    logging.getLogger().setLevel(logging.ERROR)
    logging.getLogger("syne_tune").setLevel(logging.ERROR)
    serve(SyneTune)
