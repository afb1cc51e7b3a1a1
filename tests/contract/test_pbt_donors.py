"""Population based training never takes a trial back to epochs that it has reported: those reports would be dropped."""

from __future__ import annotations

import math

import pytest

from service import plugins
from service.spec.objective import Objective, Objectives
from service.spec.space import Choice, Integer, Real, Space
from service.tuning.events import AttemptStarted, CheckpointSaved, Event, Reported
from service.tuning.history import History, Status
from service.tuning.schedulers import pbt
from service.tuning.strategy import Problem
from tests.simulator import Curves, Simulation

LOSS = Objectives((Objective("loss"),))
SPACE = Space(
    {
        "x": Real(0, 100),
        "kind": Choice(("a", "b")),
        "depth": Integer(1, 9, when={"kind": ("b",)}),
        "lr": Real(1e-5, 1, log=True, when={"kind": ("a",)}),
    }
)


class Watch:
    """Follows a ledger and holds each start against what the trial and its donor had shown by then."""

    def __init__(self, validate_every: int) -> None:
        self.history, self.validate_every = History(LOSS), validate_every
        self.at: dict[int, int] = {}  # trial -> the epoch that its current attempt has come to
        self.exploits = 0

    def see(self, event: Event) -> None:
        match event:
            case AttemptStarted():
                self._start(event)
            case Reported():
                assert 1 <= event.epoch - self.at[event.trial] <= self.validate_every, "reports were dropped"
                self.at[event.trial] = event.epoch
            case CheckpointSaved():
                pytest.fail("an epoch was trained twice")
            case _:
                pass

    def _start(self, begun: AttemptStarted) -> None:
        assert SPACE.problems(begun.params) == []
        self.at[begun.trial] = begun.checkpoint.epoch if begun.checkpoint else 0
        assert self.at[begun.trial] >= self.history.trials[begun.trial].epoch, "a step back"
        if "goes on from trial" in begun.reason:
            donor = self.history.trials[int(begun.reason.rsplit(" ", 1)[1])]
            assert donor.number != begun.trial
            assert donor.status is not Status.DIVERGED
            assert donor.latest_checkpoint == begun.checkpoint
            self.exploits += 1


@pytest.mark.parametrize("validate_every", [1, 2])
def test_donors_are_no_step_back(validate_every: int) -> None:
    problem = Problem(SPACE, LOSS, (12,), 3)
    scheduler = pbt.build(pbt.Options(max_epochs=12, interval_epochs=2, resample_probability=0.3), problem)
    random = plugins.find("searchers", "random")
    # Trials differ much in speed, so that some are far ahead when others look for a donor; the best ones break.
    task = Curves(
        lambda params, epoch: {"loss": math.nan if params["x"] < 5 and epoch > 3 else params["x"] + 1 / epoch},
        seconds=lambda params, epoch: 1.0 + params["x"] + epoch % 2,
    )
    searcher = random.build(random.Options(), problem)
    simulation = Simulation(LOSS, searcher, scheduler, task, workers=5, max_trials=16, validate_every=validate_every)
    simulation.run()
    watch = Watch(validate_every)
    for record in simulation.records:
        watch.see(record.event)
        watch.history.apply(record)
    assert watch.exploits >= 5
    assert simulation.history.counts[Status.COMPLETED] + simulation.history.counts[Status.DIVERGED] == 16
