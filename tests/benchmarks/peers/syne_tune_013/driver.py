"""Syne Tune 0.13: MOBSTER, HyperTune and DyHPO, which later releases dropped, and its ASHA."""

from __future__ import annotations

import logging
from datetime import UTC, datetime
from typing import Any, Final

from syne_tune.backend.time_keeper import TimeKeeper
from syne_tune.backend.trial_status import Trial
from syne_tune.config_space import lograndint, loguniform, randint, uniform
from syne_tune.optimizer import baselines

from tests.benchmarks.peers.wire import Decision, Parameter, Problem, Suggestion, serve

# The promotion variant is what its documentation advises for these. Hyper-Tune has its default of one bracket: four, as
# in its paper, did worse on four of five of these tasks at one full training and on three at four.
KINDS: Final[dict[str, tuple[str, dict[str, Any]]]] = {
    "asha": ("ASHA", {"type": "promotion"}),
    "mobster": ("MOBSTER", {"type": "promotion"}),
    "hypertune": ("HyperTune", {"type": "promotion"}),
    "dyhpo": ("DyHPO", {}),
}
REDUCING: Final = {"asha", "mobster", "hypertune"}


class Clock(TimeKeeper):  # type: ignore[misc]  # its base is typed in the peer's environment only
    """The simulated time."""

    now = 0.0

    def start_of_time(self) -> None:
        """Time starts with the simulation."""

    def time(self) -> float:
        return self.now

    def time_stamp(self) -> datetime:
        return datetime.fromtimestamp(self.now, UTC)

    def advance(self, step: float) -> None:
        """Only the simulation advances."""


class SyneTune:
    """A scheduler of Syne Tune, called as its own Tuner calls it."""

    def __init__(self, problem: Problem) -> None:
        name, options = KINDS[problem.options["kind"]]
        space = {p.name: _domain(p) for p in problem.space}
        if problem.options["kind"] in REDUCING:
            options = {**options, "reduction_factor": 3}
        self._names = tuple(space)
        self._epochs = problem.epochs
        self._clock = Clock()
        self._scheduler = getattr(baselines, name)(
            {**space, "epochs": problem.epochs}, metric="loss", mode="min", resource_attr="epoch",
            max_resource_attr="epochs", grace_period=1, random_seed=problem.seed,
            search_options={"debug_log": False}, **options,
        )  # fmt: skip
        self._scheduler.set_time_keeper(self._clock)
        self._trials: dict[int, Trial] = {}

    def suggest(self, now: float) -> Suggestion | None:
        self._clock.now = now
        found = self._scheduler.suggest(trial_id=len(self._trials))
        if found is None:
            return None
        at = datetime.fromtimestamp(now, UTC)
        if found.spawn_new_trial_id:
            trial = Trial(len(self._trials), found.config, at)
            self._trials[trial.trial_id] = trial
            self._scheduler.on_trial_add(trial)
            return Suggestion(trial.trial_id, {name: found.config[name] for name in self._names})
        number = int(found.checkpoint_trial_id)
        if found.config is not None:
            self._trials[number] = Trial(number, found.config, at)
        return Suggestion(number)

    def report(self, trial: int, epoch: int, value: float, now: float) -> Decision:
        self._clock.now = now
        known, result = self._trials[trial], {"loss": value, "epoch": epoch}
        decision = self._scheduler.on_trial_result(known, result)
        if decision in ("STOP", "PAUSE"):
            self._scheduler.on_trial_remove(known)
            return "stop" if decision == "STOP" else "pause"
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
