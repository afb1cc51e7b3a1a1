"""When going on does not pay: plateaus, expected improvements, and the estimates behind them."""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Iterable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.spec.objective import Objective, Objectives
from service.spec.space import Params
from service.tuning.answers import Finished
from service.tuning.decisions import Arrival
from service.tuning.events import (
    AttemptEnded,
    AttemptStarted,
    Event,
    Record,
    Reported,
    TrialEnded,
    TrialProposed,
)
from service.tuning.expected_gain import LEAST, expected_gain
from service.tuning.history import History
from service.tuning.limits import Limits, over
from service.tuning.stopping import IN_A_ROW, Outlook, plateau
from service.tuning.strategy import Drop, Resume, Verdict
from tests.scheduling import ONE, built, simulated
from tests.simulator import Simulation

TWO = Objectives((Objective("loss"), Objective("acc", "maximize")))


def ended(losses: list[float], endings: dict[int, str] | None = None, objectives: Objectives = ONE) -> History:
    """Trials that were over one after the other with these losses; `endings` where not completed."""
    events: list[Any] = []
    for number, loss in enumerate(losses):
        metrics = {"loss": loss, "acc": -loss}
        events += [
            TrialProposed(number, {"q": loss}, "searcher", number),
            AttemptStarted(number, 1, {"q": loss}, None, "new"),
            Reported(number, 1, 1, metrics, 1.0, None, "stop", ""),
        ]
        ending = (endings or {}).get(number, "completed")
        events += [] if ending == "running" else [TrialEnded(number, ending)]  # type: ignore[arg-type]  # the four there are
    return History.of(objectives, [Record(i, float(i), event) for i, event in enumerate(events)])


def plateau_of(history: History, trials: int = 3, min_delta: float = 0.0) -> str | None:
    found = over(history, Limits(9, plateau_trials=trials, plateau_min_delta=min_delta), 0.0)
    return None if found is None else found[1]


def test_a_plateau_is_so_many_trials_without_a_better_one() -> None:
    assert plateau_of(ended([5, 4, 6, 6])) is None
    assert plateau_of(ended([5, 4, 6, 6, 6])) == (
        "the best loss became better by 0 over the last 3 trials, plateau.min_delta is 0"
    )
    assert plateau_of(ended([5, 4, 6, 6, 3.9])) is None
    assert plateau_of(ended([5, 4, 6, 6, 3.9]), min_delta=0.2) is not None
    assert plateau_of(ended([5, 4, 6])) is None, "too few"


def test_a_plateau_waits_for_running_trials_that_are_better_and_for_failures() -> None:
    assert plateau_of(ended([5, 4, 6, 6, 6, 3], {5: "running"})) is None
    assert plateau_of(ended([5, 4, 6, 6, 1], {4: "failed"})) is None, "a failure tells nothing"
    assert plateau_of(ended([5, 4, 6, 6, 1], {4: "diverged"})) is not None
    assert plateau_of(ended([1, 1, 6, 6, 6], {0: "diverged", 1: "failed"})) is None, "nothing to improve on yet"


def paused(losses: list[float]) -> History:
    """Trials that paused one after the other at their first epoch with these losses."""
    history = History(ONE)
    for number, loss in enumerate(losses):
        for event in (
            TrialProposed(number, {"q": loss}, "searcher", number),
            AttemptStarted(number, 1, {"q": loss}, None, "new"),
            Reported(number, 1, 1, {"loss": loss, "acc": -loss}, 1.0, None, "pause", ""),
            AttemptEnded(number, 1, "paused"),
        ):
            history.apply(Record(history.sequence, float(number), event))
    return history


def test_a_trial_that_paused_has_had_its_chance_but_the_best_one_may_go_on_first() -> None:
    losses: list[float] = [5, 4, *[6] * 8]
    assert plateau_of(paused(losses[:9])) is None, "the best one could not yet have been trained to its end"
    history = paused([*losses, 6])
    assert plateau_of(history) is not None
    assert plateau_of(paused([*losses, 3])) is None
    for epoch in (2, 3):  # a trial that goes on is no further one, and one that becomes better so is better
        history.observe(1, epoch, {"loss": 4.0 - epoch / 10, "acc": 0.0}, 1.0)
    assert plateau_of(history) is None


def test_once_a_rule_has_ended_the_search_no_late_report_takes_it_back() -> None:
    run = simulated(built("fifo", {}, max_epochs=2), [0.5] * 9)
    run.decider.limits, history = Limits(2, plateau_trials=2), run.history

    def commit(events: Iterable[Event]) -> None:
        for event in events:
            history.apply(Record(history.sequence, 1.0, event))

    def report(trial: int, epoch: int, loss: float) -> None:
        metrics = {"loss": loss, "acc": 0.0, "size": 0.0}
        commit(run.decider.report(Arrival(trial, 1, epoch, metrics, 1.0, None), 0.0))

    for _ in range(5):
        commit(run.decider.start(0.0).events)
    for trial in range(3):
        report(trial, 1, 1.0 + trial)
        report(trial, 2, 1.0 + trial)
    report(3, 1, 5.0)
    said = history.search_ended
    assert said is not None
    assert "plateau" in said.reason
    report(4, 1, 0.1)
    assert plateau(history, 2, 0.0, 2) is None, "by the late report alone there would be none"
    assert history.search_ended == said
    commit(run.decider.start(0.0).events)
    assert run.decider.start(0.0) == Finished("completed", said.reason)


def test_with_several_objectives_the_compromise_has_to_become_better() -> None:
    assert plateau_of(ended([5, 4, 6, 6, 6], objectives=TWO)) is not None
    assert plateau_of(ended([5, 4, 6, 6, 3], objectives=TWO)) is None


@given(st.lists(st.floats(-1e6, 1e6) | st.just(math.inf), max_size=80))
def test_an_expected_gain_is_known_late_finite_and_never_negative(losses: list[float]) -> None:
    gain = expected_gain(losses)
    if len(losses) < LEAST:
        assert gain is None
    if gain is not None:
        assert 0 <= gain < math.inf


@given(st.lists(st.floats(-100, 100), min_size=10, max_size=60), st.floats(0.01, 100), st.floats(-50, 50))
def test_an_expected_gain_has_the_unit_of_the_losses(losses: list[float], scale: float, shift: float) -> None:
    gain, other = expected_gain(losses), expected_gain([scale * x + shift for x in losses])
    assert gain is not None
    assert other == pytest.approx(scale * gain, rel=1e-3, abs=1e-9 * scale)


def test_expected_gains_are_right_on_average_where_the_tail_is_exponential_and_too_high_where_it_is_bounded() -> None:
    rng = random.Random(5)

    def ratio(draw: Callable[[], float]) -> float:
        estimated, true = 0.0, 0.0
        for _ in range(600):
            losses = [draw() for _ in range(40)]
            estimated += expected_gain(losses) or 0.0
            true += sum(max(0.0, min(losses) - draw()) for _ in range(50)) / 50
        return estimated / true

    assert 0.6 < ratio(lambda: -rng.expovariate(1)) < 1.7
    assert 0.9 < ratio(rng.random) < 6.0


def test_the_sweep_ends_when_five_estimates_in_a_row_are_too_small() -> None:
    rng = random.Random(1)
    history = ended([rng.random() for _ in range(30)])
    limits = Limits(9, min_expected_improvement=0.5)
    expected = Outlook().expected(history)
    assert len(expected) == IN_A_ROW
    assert all(gain is not None and 0 < gain < 0.1 for gain in expected)
    found = over(history, limits, 0.0, expected)
    assert found is not None
    assert found[0] == "completed"
    assert f"{expected[-1]:.4g}" in found[1]
    assert "0.5 of min_expected_improvement" in found[1]
    assert over(history, limits, 0.0, (*expected[:2], 0.6, *expected[3:])) is None
    assert over(history, limits, 0.0, (None, *expected[1:])) is None
    assert over(history, limits, 0.0, expected[1:]) is None


class Counted:
    """Estimates that say what they were asked with."""

    def __init__(self) -> None:
        self.asked: list[int] = []

    def expected_improvement(self, history: History) -> float | None:
        self.asked.append(len(history.trials))
        assert all(trial.status.is_over for trial in history.trials)
        return float(len(history.trials)) if len(history.trials) > 3 else None


def test_a_model_is_asked_once_for_each_trial_that_ended_and_the_same_after_a_restart() -> None:
    records: list[Record] = []
    simulation = simulated(built("asha", {}), [i / 20 for i in range(20)], records=records)
    model = Counted()
    outlook = Outlook(model)

    class Watched:
        rungs: tuple[int, ...] = (27,)

        def judge(self, history: History, trial: int, epoch: int) -> Verdict:
            fresh = Outlook(Counted()).expected(History.of(ONE, records))
            assert outlook.expected(history) == fresh
            assert outlook.latest(history) == (fresh[-1] if fresh else None)
            return Verdict("stop" if epoch > trial % 3 else "continue", "")

        def release(self, history: History, *, is_drained: bool) -> list[Resume | Drop]:  # noqa: ARG002  # the seam's
            return []

    simulation.decider.scheduler = Watched()
    history = simulation.run()
    outlook.expected(history)
    assert model.asked == list(range(1, 21))


@pytest.mark.parametrize(
    ("limits", "reason"),
    [
        ({"total_epochs": 40}, "the budget of 40 epochs is used up"),
        ({"plateau_trials": 8}, "over the last 8 trials"),
        ({"min_expected_improvement": 0.05}, "min_expected_improvement"),
    ],
)
def test_a_sweep_ends_by_each_rule_and_again_the_same(limits: dict[str, Any], reason: str) -> None:
    def proposal(history: History) -> Params:
        rng = random.Random(len(history.trials))
        return {"q": rng.random() ** 0.5, "pace": 1.0, "kind": "a"}

    class Endless:
        def propose(self, history: History) -> Params | None:
            return proposal(history)

    def run() -> Simulation:
        simulation = simulated(built("asha", {}), [], searcher=Endless(), workers=3)
        simulation.decider.limits = Limits(27, **limits)
        simulation.run()
        return simulation

    simulation = run()
    assert simulation.history.ended is not None
    assert reason in simulation.history.ended.reason
    assert simulation.records == run().records
