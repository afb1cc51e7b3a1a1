"""Ray Tune's ASHA with random search or with OptunaSearch, called as Tune's own loop calls them; no Ray is started."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import numpy as np
from ray import tune
from ray.tune.schedulers import AsyncHyperBandScheduler, TrialScheduler
from ray.tune.search.optuna import OptunaSearch

from tests.benchmarks.peers.wire import Decision, Parameter, Problem, Suggestion, serve


class Draws:
    """Random search: each parameter drawn from its domain, as Tune does where there is no searcher."""

    def __init__(self, space: dict[str, Any], seed: int) -> None:
        self._space = space
        self._rng = np.random.RandomState(seed)

    def suggest(self, trial: str) -> dict[str, Any]:  # noqa: ARG002  # each draw stands alone
        return {name: domain.sample(random_state=self._rng) for name, domain in self._space.items()}

    def on_trial_result(self, trial: str, result: dict[str, Any]) -> None:
        """Nothing is learnt."""

    def on_trial_complete(self, trial: str, result: dict[str, Any]) -> None:
        """Nothing is learnt."""


class RayTune:
    """ASHA in Tune's only variant, which stops trials."""

    def __init__(self, problem: Problem) -> None:
        space = {p.name: _domain(p) for p in problem.space}
        self._scheduler = AsyncHyperBandScheduler(
            "training_iteration", "loss", "min", max_t=problem.epochs, grace_period=1, reduction_factor=3
        )
        search = OptunaSearch(space, metric="loss", mode="min", seed=problem.seed)
        self._search = search if problem.options["search"] == "optuna" else Draws(space, problem.seed)
        self._count = 0

    def suggest(self, now: float) -> Suggestion | None:  # noqa: ARG002  # it knows no time
        number = self._count
        self._count += 1
        config = self._search.suggest(str(number))
        self._scheduler.on_trial_add(None, _stub(number))
        return Suggestion(number, {name: _plain(value) for name, value in config.items()})

    def report(self, trial: int, epoch: int, value: float, now: float) -> Decision:
        result = {"training_iteration": epoch, "loss": value, "time_total_s": now}
        if self._scheduler.on_trial_result(None, _stub(trial), result) == TrialScheduler.STOP:
            self._search.on_trial_complete(str(trial), result)
            return "stop"
        self._search.on_trial_result(str(trial), result)
        return "continue"

    def ended(self, trial: int) -> None:
        """Told in `report`: ASHA stops what is complete, too."""


def _stub(number: int) -> Any:  # noqa: ANN401  # all that ASHA reads of a Trial
    return SimpleNamespace(trial_id=str(number))


def _domain(p: Parameter) -> Any:  # noqa: ANN401  # a Domain of Tune
    if p.integer:
        return (tune.lograndint if p.log else tune.randint)(int(p.low), int(p.high) + 1)
    return (tune.loguniform if p.log else tune.uniform)(p.low, p.high)


def _plain(value: Any) -> float:  # noqa: ANN401  # a numpy number, or a Python one
    return cast("float", value.item() if hasattr(value, "item") else value)


if __name__ == "__main__":
    serve(RayTune)
